//! Plugins that break their contract fail alone, and their operator is told why: what the table of
//! `hostile` does not look into.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pinfold_tests::{LIMIT, deadline};
use serde_json::json;

use super::daemon::Daemon;
use super::process;
use super::setup::Setup;

/// Asks `hello` again and again while `work` is done. Every request has to be answered, and soon.
fn while_hello_answers<T>(daemon: &Daemon, work: impl FnOnce() -> T) -> T {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut count, mut longest) = (0_u32, Duration::ZERO);
            while !is_done.load(Ordering::Relaxed) {
                let start = Instant::now();
                let path = "/api/plugins/hello/greeting?name=Ada";
                let answer = daemon.http().get(path).send().ok();
                assert_eq!(answer["greeting"], "Hello, Ada!");
                longest = longest.max(start.elapsed());
                count += 1;
                std::thread::sleep(Duration::from_millis(10)); // a client's pace, nothing is waited for
            }
            (count, longest)
        });
        let done = Done(&is_done);
        let result = work();
        drop(done);
        let (count, longest) = asking.join().unwrap();
        assert!(count > 0);
        // On an idle machine a millisecond; on a busy one with two processors still far from this.
        assert!(longest < LIMIT, "{longest:?}");
        result
    })
}

const SHORT: &str = "[timeouts]
shutdown = '500ms'
quit = '1s'
";

#[test]
fn a_plugin_that_ends_in_a_call_fails_it_with_the_cause_and_can_be_started_again() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .without_restarts()
        .hello()
        .plugin("g4", "goatflow-g4")
        .start();
    let admin = daemon.token("root", &["admin"]);
    while_hello_answers(&daemon, || {
        let mut generation = 1;
        for (function, arguments, cause) in [
            (
                "panic",
                json!({"text": "at the disco"}),
                "exited with status 2",
            ),
            ("exit", json!({"code": 5}), "exited with status 5"),
            ("exit", json!({"code": 0}), "exited with status 0"),
            ("signal", json!({"code": 9}), "ended by signal 9"),
            (
                "probe",
                json!({"acts": ["mount"], "here": true}),
                "made a system call that is refused: mount",
            ),
        ] {
            let pid = daemon.plugin_pid("g4");
            process::so_many_descendants(daemon.launcher_pid(), 2 * 2);
            // A call beside it, which must not wait for its own deadline either.
            let answer = std::thread::scope(|scope| {
                let beside = scope.spawn(|| daemon.call("g4", "sleep", &json!({"ms": 25_000})));
                let path = format!("/api/v1/plugins/g4/call/{function}");
                let answer = daemon
                    .http()
                    .post(&path)
                    .token(&admin)
                    .json(&arguments)
                    .send();
                let beside = beside.join().unwrap().status;
                assert!([502, 503].contains(&beside), "{function}: {beside}");
                answer
            });
            assert_eq!(
                answer.error(),
                (502, "plugin ended before it answered".into()),
                "{function} {arguments}"
            );
            let plugin = daemon.in_state("g4", "failed");
            assert_eq!(plugin["reason"], cause, "{function} {arguments}");
            assert_eq!(plugin["last_exit"], cause);
            assert!(plugin["pid"].is_null());
            process::all_gone("the plugin", [pid]);
            process::so_many_descendants(daemon.launcher_pid(), 2); // the jail of hello
            let answer = daemon.http().get("/api/plugins/g4/public").send();
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.header("retry-after"), Some("2"));

            assert_eq!(daemon.rescan(Some("g4")).status, 200);
            generation += 1;
            let plugin = daemon.ready("g4");
            assert_eq!(plugin["generation"], generation);
            assert_eq!(daemon.result("g4", "echo", &json!([1])), json!([1]));
        }
        assert!(daemon.has_logged("g4", "panic: at the disco"));
    });
}

#[test]
fn a_call_that_is_not_answered_ends_at_its_deadline_and_others_go_on() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .hello()
        .plugin("g4", "goatflow-g4")
        .policy("g4", &format!("[timeouts]\ncall = '{}'\n", deadline(1)))
        .start();
    while_hello_answers(&daemon, || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let hanging: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| daemon.call("g4", "hang", &json!({}))))
                .collect();
            for one in hanging {
                let answer = one.join().unwrap();
                assert_eq!(
                    (answer.status, &answer.json()["code"]),
                    (504, &json!("call.deadline"))
                );
            }
        });
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
        // It still answers what it answers in time.
        assert_eq!(daemon.result("g4", "echo", &json!([1])), json!([1]));
        daemon.ready("g4");
    });
}

#[test]
fn a_result_that_cannot_be_used_fails_its_call() {
    if !super::can_run() {
        return;
    }
    let big = format!(
        "[limits]\nmemory = '1GiB'\n[timeouts]\ncall = '{}'\n",
        deadline(30)
    );
    let daemon = Setup::new()
        .hello()
        .plugin("cut", "goatflow-g4")
        .policy("cut", "")
        .plugin("big", "goatflow-g4")
        .policy("big", &big)
        .start();
    while_hello_answers(&daemon, || {
        let cut = daemon.call("cut", "bad_result", &json!({}));
        assert_eq!(
            (cut.status, &cut.json()["code"]),
            (502, &json!("call.protocol"))
        );
        assert_eq!(daemon.result("cut", "echo", &json!([1])), json!([1]));
        assert_eq!(daemon.result("cut", "empty", &json!({})), json!(null));

        let fine = daemon.result("big", "big_result", &json!({"bytes": 1 << 20}));
        assert_eq!(fine.as_str().unwrap().len(), 1 << 20);
        let big = daemon.call("big", "big_result", &json!({"bytes": 64 << 20}));
        assert_eq!(
            (big.status, &big.json()["code"]),
            (502, &json!("call.too_large"))
        );
        // Its other calls go on, and so does it.
        assert_eq!(daemon.result("big", "echo", &json!([2])), json!([2]));
    });
    assert_eq!(daemon.plugin("big")["restarts"], 0);
    let memory = process::field(daemon.pid(), "VmHWM").unwrap();
    let memory: u64 = memory.trim_end_matches(" kB").parse().unwrap();
    assert!(memory < 512 << 10, "the daemon has used {memory} KiB");
}

#[test]
fn floods_of_output_are_read_bounded_and_dropped() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .hello()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    let used = |daemon: &Daemon| -> u64 {
        let memory = process::field(daemon.pid(), "VmRSS").unwrap();
        memory.trim_end_matches(" kB").parse().unwrap()
    };
    let before = used(&daemon);
    while_hello_answers(&daemon, || {
        for stream in ["stdout", "stderr", "fd1", "fd2"] {
            for line in [80, 0] {
                let flood = json!({"stream": stream, "bytes": 2 << 20, "line": line});
                assert_eq!(daemon.result("g4", "flood", &flood), 2 << 20, "{flood}");
            }
        }
    });
    daemon.ready("g4");
    let logs = daemon.logs("g4");
    assert!((100..=1000).contains(&logs.len()), "{}", logs.len());
    assert!(
        logs.iter()
            .all(|record| record["message"].as_str().unwrap().len() <= 16 << 10),
        "lines are cut"
    );
    assert!(daemon.has_logged("g4", "records dropped"));
    // Its neighbour's log is its own.
    assert!(daemon.logs("hello").len() < 20);
    let grown = used(&daemon).saturating_sub(before);
    assert!(grown < 128 << 10, "the daemon has grown by {grown} KiB");
}

#[test]
fn a_plugin_that_will_not_end_is_ended_within_its_limits() {
    if !super::can_run() {
        return;
    }
    let daemon = ["hang-shutdown", "ignore-quit", "g4"]
        .into_iter()
        .fold(Setup::new(), |setup, mode| {
            setup
                .plugin(mode, &format!("goatflow-{mode}"))
                .policy(mode, SHORT)
        })
        .start();
    // Grandchildren that left the process group, and hold its pipes.
    let grandchildren = daemon.result("g4", "spawn", &json!({"n": 3}));
    assert_eq!(grandchildren.as_array().unwrap().len(), 3);
    let launcher = daemon.launcher_pid();
    // Each has process 1 and the plugin.
    process::so_many_descendants(launcher, 3 * 2 + 3);

    let start = Instant::now();
    assert_eq!(daemon.rescan(Some("ignore-quit")).status, 200);
    assert_eq!(daemon.rescan(Some("g4")).status, 200);
    let took = start.elapsed();
    assert!(took < LIMIT, "{took:?}");
    // The replaced instances are gone.
    let jails = process::so_many_descendants(launcher, 3 * 2);
    let start = Instant::now();
    daemon.stop();
    // 500 ms each for shutdown and quit, 2 s for SIGTERM; on a busy machine a little more.
    let took = start.elapsed();
    assert!(took < LIMIT, "{took:?}");
    process::all_gone("a jail", jails);
    assert!(!process::lives(launcher));
}
