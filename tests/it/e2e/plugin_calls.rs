//! Plugins call each other through the daemon: what is granted, how deep, how many, how long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::setup::Setup;

const ASKS: &str = "resources:
  permissions:
    - type: plugin_call
";

fn call(plugin: &str, function: &str, args: Value) -> Value {
    json!({"plugin": plugin, "function": function, "args": args})
}

/// What an administrator has done with a plugin.
#[track_caller]
fn admin(daemon: &Daemon, plugin: &str, what: &str) {
    let path = format!("/api/pinfold/v1/plugins/{plugin}/{what}");
    let answer = daemon.admin().post(&path).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn granting(patterns: &str) -> String {
    format!("[permissions]\nplugin-call = [{patterns}]\n")
}

/// Two plugins that may call each other.
fn pair(generation: &str) -> Daemon {
    let fixture = format!("goatflow-{generation}");
    Setup::new()
        .plugin_asking("left", &fixture, ASKS)
        .policy("left", &granting("'right'"))
        .plugin_asking("right", &fixture, ASKS)
        .policy("right", &granting("'left'"))
        .start()
}

#[test]
fn a_granted_function_of_another_plugin_answers_as_it_is() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin_asking("asker", "goatflow-g4", ASKS)
        .policy("asker", &granting("'shop', 'other/echo', 'gone'"))
        .plugin_asking("older", "goatflow-g3", ASKS)
        .policy("older", &granting("'shop'"))
        .plugin("shop", "goatflow-g2")
        .policy(
            "shop",
            &format!("[timeouts]\ncall = '{}'\n", pinfold_tests::deadline(1)),
        )
        .plugin("other", "goatflow-g4")
        .policy("other", "")
        .plugin("plain", "goatflow-g4")
        .policy("plain", "")
        .start();
    for asker in ["asker", "older"] {
        let echoed = daemon.host(asker, "plugin_call", &call("shop", "echo", json!([1, "ü"])));
        assert_eq!(echoed["result"], json!([1, "ü"]), "{echoed}");
    }
    let without = daemon.host("asker", "plugin_call", &call("shop", "empty", Value::Null));
    assert_eq!(without["error"], "", "{without}");
    let scoped = daemon.host("asker", "plugin_call", &call("other", "echo", json!({})));
    assert_eq!(scoped["result"], json!({}), "{scoped}");

    let allowed = "(allowed: [shop other/echo gone])";
    for (target, function, text) in [
        (
            "other",
            "env",
            format!("plugin \"asker\": not permitted to call plugin \"other\" {allowed}"),
        ),
        (
            "plain",
            "echo",
            format!("plugin \"asker\": not permitted to call plugin \"plain\" {allowed}"),
        ),
        (
            "gone",
            "echo",
            "plugin \"gone\" not found (required by \"asker\" to call \"echo\")".into(),
        ),
        ("shop", "error", "as asked".into()),
        ("shop", "nothing", "unknown function: nothing".into()),
    ] {
        let refused = daemon.refusal("asker", "plugin_call", &call(target, function, json!({})));
        assert_eq!(refused, text);
    }
    assert_eq!(
        daemon.refusal("plain", "plugin_call", &call("shop", "echo", json!({}))),
        "plugin \"plain\": plugin-to-plugin calls not granted"
    );
    // The target's own limit, which is shorter than the caller's.
    assert_eq!(
        daemon.refusal(
            "asker",
            "plugin_call",
            &call("shop", "sleep", json!({"ms": 60_000}))
        ),
        "plugin \"shop\" call \"sleep\": context deadline exceeded"
    );
    // A plugin that ends in the middle is an error to its caller, not a wait.
    assert_eq!(
        daemon.refusal("asker", "plugin_call", &call("shop", "exit", json!({}))),
        "plugin \"shop\" call \"exit\": plugin gave no usable answer"
    );
}

#[test]
fn two_plugins_that_call_each_other_end_at_the_depth_limit() {
    if !super::can_run() {
        return;
    }
    // With tokens the chain is told apart; without, it is taken for the deepest under way.
    for generation in ["g4", "g3"] {
        let daemon = pair(generation);
        let chain = daemon.result("left", "chain", &json!({"to": "right", "n": 100}));
        let text = "host: plugin call depth exceeded (max 10): left -> right";
        assert_eq!(chain, json!({"calls": 10, "error": text}), "{generation}");
        let shorter = daemon.result("right", "chain", &json!({"to": "left", "n": 9}));
        assert_eq!(shorter, json!({"calls": 9, "error": ""}), "{generation}");
    }
}

#[test]
fn chains_in_both_directions_at_once_all_end() {
    if !super::can_run() {
        return;
    }
    let daemon = pair("g4");
    thread::scope(|scope| {
        let chains: Vec<_> = (0..12)
            .map(|n| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let (from, to) = if n % 2 == 0 {
                        ("left", "right")
                    } else {
                        ("right", "left")
                    };
                    let asked = json!({"to": to, "n": 100});
                    (0..5)
                        .map(|_| daemon.result(from, "chain", &asked))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for chain in chains.into_iter().flat_map(|chain| chain.join().unwrap()) {
            assert_eq!(chain["calls"], 10, "{chain}");
        }
    });
}

#[test]
fn calls_over_what_may_be_under_way_are_refused_at_once() {
    if !super::can_run() {
        return;
    }
    let daemon = pair("g4");
    // Each of these calls back, so the caller must be read from while its own calls wait.
    let back = call("left", "echo", json!({}));
    let there = call("right", "plugin_call", back);
    let many = json!({"method": "plugin_call", "args": there, "n": 2000});
    let answered = daemon.result("left", "host_parallel", &many);
    let (good, refused) = (
        answered["good"].as_u64().unwrap(),
        answered["refused"].as_u64().unwrap(),
    );
    assert_eq!(
        (good + refused, &answered["failed"]),
        (2000, &json!(0)),
        "{answered}"
    );
    assert!(good >= 64, "{answered}");
    if refused > 0 {
        let text = answered["first_error"].as_str().unwrap();
        assert!(
            text.contains("under way") || text.contains("rate limit"),
            "{answered}"
        );
    }
    let after = daemon.host("left", "plugin_call", &call("right", "echo", json!(7)));
    assert_eq!(after["error"], "", "{after}");
}

#[test]
fn a_reload_of_the_called_plugin_is_not_seen_by_the_caller() {
    if !super::can_run() {
        return;
    }
    let daemon = pair("g4");
    let is_done = AtomicBool::new(false);
    let before = daemon.plugin_pid("right");
    let answered: usize = thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !is_done.load(Ordering::Relaxed) {
                        let asked = call("right", "sleep", json!({"ms": 20}));
                        let answer = daemon.host("left", "plugin_call", &asked);
                        assert_eq!(answer["result"], json!(20), "{answer}");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for way in ["rescan", "reload", "reload", "rescan", "reload"] {
            admin(&daemon, "right", way);
        }
        is_done.store(true, Ordering::Relaxed);
        callers.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert!(answered >= 8, "{answered}");
    assert_ne!(daemon.plugin_pid("right"), before);
}

#[test]
fn a_plugin_that_is_switched_off_is_named_as_such_to_its_callers() {
    if !super::can_run() {
        return;
    }
    let daemon = pair("g4");
    let asked = call("right", "echo", json!(1));
    for _ in 0..2 {
        let answer = daemon.host("left", "plugin_call", &asked);
        assert_eq!(answer["result"], json!(1), "{answer}");
        admin(&daemon, "right", "disable");
        assert_eq!(
            daemon.refusal("left", "plugin_call", &asked),
            "plugin \"right\" is disabled (required by \"left\")"
        );
        admin(&daemon, "right", "enable");
    }
}
