//! `pinfold policy learn`: a plugin runs watched, and what it needed is proposed; under the proposal it does
//! the same again, and nothing that the run did not show.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use pinfold_tests::{deadline, wait_for};
use serde_json::{Value, json};

use super::command_line::{command, pinfold, printed};
use super::daemon::Daemon;
use super::setup::Setup;

/// Wider than anything that is called below.
const POLICY: &str = "schema = 1
dialect = \"goatflow\"
entry = \"p\"
profile = \"go\"
# A reviewer's comment.
[trust]
unsigned = true
[permissions]
db = [{ tables = ['items'], access = 'readwrite' }]
cache = 'readwrite'
config = ['app.*']
";

fn policy() -> String {
    let (handshake, call) = (deadline(10), deadline(30));
    format!("{POLICY}[timeouts]\nhandshake = '{handshake}'\ncall = '{call}'\n")
}

fn daemon() -> Daemon {
    let daemon = Setup::new()
        .plugin("p", "goatflow-g4")
        .file("etc/policy.d/p.toml", &policy())
        .start();
    daemon.ready("p");
    daemon
}

fn host(method: &str, arguments: &Value) -> String {
    let call = json!({ "method": method, "args": arguments });
    format!("call host {call}")
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_array().unwrap().iter();
    list.map(|one| one.as_str().unwrap()).collect()
}

const READ: &str = "SELECT id FROM items WHERE id = 1";
const WRITE: &str = "UPDATE items SET price = 1 WHERE id = 0";

#[test]
fn what_a_run_needed_is_proposed_and_is_enough_and_no_more_than_that() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = daemon();
    let base = daemon.base();
    let policies = base.join("etc/policy.d");
    let policy_out = base.join("etc/proposed.toml");
    let profile_out = base.join("etc/p-seen.toml");
    let read = host("db_query", &json!({"query": READ, "args": null}));
    let forbidden = host(
        "db_query",
        &json!({"query": "SELECT name FROM sqlite_master", "args": null}),
    );
    let cached = host("cache_get", &json!({"key": "k"}));
    let learnt = pinfold(
        &daemon.base(),
        &[
            "--json",
            "policy",
            "learn",
            "p",
            "--run",
            "call echo {\"a\": 1}",
            "--run",
            &read,
            "--run",
            &forbidden,
            "--run",
            &cached,
            "--profile-out",
            profile_out.to_str().unwrap(),
            "--policy-out",
            policy_out.to_str().unwrap(),
        ],
    );
    let learnt: Value = serde_json::from_str(&printed(&learnt)).unwrap();
    // The plugin runs on, unwatched, under the policy that it had, which nobody has written to.
    assert_eq!(daemon.ready("p")["watched_until"], Value::Null);
    let now = fs::read_to_string(policies.join("p.toml")).unwrap();
    assert_eq!(now, policy());
    assert_eq!(fs::read_dir(&policies).unwrap().count(), 1);
    let orders = fs::read_dir(base.join("launcher/watch")).unwrap();
    assert_eq!(orders.count(), 0, "orders and records are gone");

    let profile = &learnt["profile"];
    assert_eq!(
        (&profile["name"], &profile["of_run"]),
        (&json!("p-seen"), &json!("go"))
    );
    let made: Vec<&str> = profile["made"]
        .as_array()
        .unwrap()
        .iter()
        .map(|made| made["call"].as_str().unwrap())
        .collect();
    for call in ["execve", "accept4", "epoll_pwait", "read", "write"] {
        assert!(made.contains(&call), "{call}: {made:?}");
    }
    assert_eq!(learnt["run"]["is_whole"], true, "{learnt}");
    let left_out = texts(&profile["left_out"]);
    assert!(left_out.contains(&"connect"), "{left_out:?}");
    assert!(made.len() + left_out.len() < 127);
    let sections = learnt["policy"]["difference"]["sections"]
        .as_array()
        .unwrap();
    let permissions = sections
        .iter()
        .find(|one| one["title"] == "permissions")
        .unwrap();
    assert_eq!(
        texts(&permissions["same"]),
        ["cache:read", "db:read:main/items"]
    );
    assert_eq!(
        texts(&permissions["removed"]),
        ["cache:write", "config:read:app.*", "db:write:main/items"]
    );
    // It reads this one when it is initialised.
    assert_eq!(texts(&permissions["added"]), ["config:read:app.name"]);
    let refused = learnt["asked_and_refused"].as_array().unwrap();
    assert!(
        refused.len() == 1 && refused[0]["call"] == "db.query",
        "{refused:?}"
    );

    // Under the proposal.
    let setup = daemon.stop();
    let profiles = base.join("etc/data/profiles");
    fs::create_dir_all(&profiles).unwrap();
    for directory in [base.join("etc/data"), profiles.clone()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::rename(&profile_out, profiles.join("p-seen.toml")).unwrap();
    fs::rename(&policy_out, policies.join("p.toml")).unwrap();
    let config = base.join("etc/launcher.toml");
    let text = fs::read_to_string(&config).unwrap();
    let data = format!("data-dir = {:?}\n{text}", base.join("etc/data"));
    fs::write(&config, data).unwrap();
    let daemon = setup.start();
    daemon.ready("p");
    printed(&pinfold(&daemon.base(), &["policy", "check", "p"]));
    let shown = printed(&pinfold(&daemon.base(), &["policy", "show", "p"]));
    assert!(shown.contains("p-seen"), "{shown}");
    for _ in 0..50 {
        let sent = json!({"a": 1});
        assert_eq!(daemon.result("p", "echo", &sent), sent);
    }
    let rows = daemon.host("p", "db_query", &json!({"query": READ, "args": null}));
    assert_eq!(rows["error"], "", "{rows}");
    let got = daemon.host("p", "cache_get", &json!({"key": "k"}));
    assert_eq!(got["error"], "", "{got}");
    // What the run did not exercise.
    let write = daemon.refusal("p", "db_exec", &json!({"query": WRITE, "args": null}));
    assert!(
        write.contains("database write access not granted"),
        "{write}"
    );
    let nobody = json!({"network": "unix", "address": "/tmp/nobody"});
    assert_eq!(daemon.result("p", "connect", &nobody), "ENOSYS");
    let explained = pinfold(
        &daemon.base(),
        &["policy", "explain", "p", "syscall:connect"],
    );
    assert_eq!(explained.status.code(), Some(1));

    // It is refused and named when it is learnt from once more.
    let connect = format!("call connect {nobody}");
    let again = pinfold(
        &daemon.base(),
        &["--json", "policy", "learn", "p", "--run", &connect],
    );
    let again: Value = serde_json::from_str(&printed(&again)).unwrap();
    let refused = again["calls_refused"].as_array().unwrap();
    let connect = refused.iter().find(|one| one["call"] == "connect").unwrap();
    assert_eq!(connect["errno"], 38);
    assert!(connect["would_need"].as_str().unwrap().contains("@socket"));
}

#[test]
fn what_a_busy_run_asked_last_is_not_taken_from_its_grants() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = daemon();
    // More different calls than the trail takes at once, and then one of another kind.
    let busy = format!("call host_keys {}", json!({"n": 400, "ms": 2}));
    let read = host("db_query", &json!({"query": READ, "args": null}));
    let learnt = pinfold(
        &daemon.base(),
        &[
            "--json", "policy", "learn", "p", "--run", &busy, "--run", &read,
        ],
    );
    let learnt: Value = serde_json::from_str(&printed(&learnt)).unwrap();
    let acts = learnt["run"]["acts"].as_array().unwrap();
    assert!(acts.iter().all(|act| act["failure"].is_null()), "{acts:?}");
    let sections = learnt["policy"]["difference"]["sections"].as_array();
    let permissions = sections
        .unwrap()
        .iter()
        .find(|one| one["title"] == "permissions")
        .unwrap();
    let same = texts(&permissions["same"]);
    for needed in ["cache:read", "db:read:main/items"] {
        assert!(same.contains(&needed), "{needed}: {learnt}");
    }
    // It was told apart, or it is said that it was not.
    let kept = same.contains(&"db:write:main/items");
    let notes = texts(&learnt["notes"]);
    let says_so = notes
        .iter()
        .any(|note| note.starts_with("db: more kinds of calls"));
    assert_eq!(kept, says_so, "{notes:?}");
    assert!(
        !notes.iter().any(|note| note.contains("has no end")),
        "{notes:?}"
    );
}

#[test]
fn a_watched_plugin_shows_everywhere_and_is_in_the_audit_and_an_interrupt_ends_it() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = daemon();
    let mut learn = command(&daemon.base(), &["policy", "learn", "p"]);
    let mut learn = learn
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the plugin to be watched", || {
        let plugin = daemon.plugin("p");
        (plugin["state"] == "ready" && plugin["watched_until"].is_string()).then_some(())
    });
    // The whole jail is around it, and it serves.
    let sent = json!({"b": 2});
    assert_eq!(daemon.result("p", "echo", &sent), sent);
    let list = printed(&pinfold(&daemon.base(), &["plugin", "list"]));
    assert!(list.contains("ready, WATCHED"), "{list}");
    for arguments in [&["plugin", "show", "p"][..], &["posture", "p"], &["status"]] {
        let shown = printed(&pinfold(&daemon.base(), arguments));
        assert!(shown.contains("WATCHED"), "{arguments:?}: {shown}");
    }
    assert!(daemon.has_logged("p", "WATCHED until"));
    super::process::signal(learn.id(), nix::sys::signal::Signal::SIGINT);
    let status = wait_for("the command to end", || learn.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut learn.stdout.take().unwrap(), &mut text).unwrap();
    assert!(
        text.contains("proposed profile") && text.contains("as complete as the run"),
        "{text}"
    );
    assert_eq!(daemon.ready("p")["watched_until"], Value::Null);
    let trail = printed(&pinfold(
        &daemon.base(),
        &["audit", "list", "--plugin", "p"],
    ));
    for said in [
        "admin.policy.learn p",
        "admin.policy.learn-end p",
        "WATCHED until",
    ] {
        assert!(trail.contains(said), "{said}: {trail}");
    }
}

#[test]
fn a_launcher_that_is_not_told_so_watches_nobody() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = daemon();
    let config = daemon.base().join("etc/launcher.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("watched-runs = true"), "a developer's has it");
    fs::write(&config, text.replace("watched-runs = true", "")).unwrap();
    let refused = pinfold(
        &daemon.base(),
        &["policy", "learn", "p", "--duration", "1s"],
    );
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("watched-runs = true"), "{said}");
    // The file says so, and the launcher that runs was started before.
    let daemon = daemon.stop().start();
    fs::write(&config, &text).unwrap();
    let refused = pinfold(
        &daemon.base(),
        &["policy", "learn", "p", "--duration", "1s"],
    );
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("not watched"), "{said}");
    assert_eq!(daemon.ready("p")["watched_until"], Value::Null);
}
