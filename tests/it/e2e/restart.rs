//! Plugins that crash, hang and come back by themselves.

use nix::sys::signal::Signal;
use pinfold_tests::{deadline, wait_for};
use serde_json::json;

use super::daemon::Daemon;
use super::process;
use super::setup::Setup;

const ROUTE: &str = "/api/plugins/p/public";

fn with(configuration: &str) -> Daemon {
    Setup::new()
        .file("etc/pinfold.toml", configuration)
        .plugin("p", "goatflow-g4")
        .policy("p", "")
        .start()
}

fn crash(daemon: &Daemon, code: u8) {
    let answer = daemon.call("p", "exit", &json!({ "code": code }));
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[test]
fn a_plugin_that_crashes_backs_off_and_comes_back() {
    if !super::can_run() {
        return;
    }
    let daemon = with("[restart]\nfirst = '1s'\n");
    let pid = daemon.plugin_pid("p");
    crash(&daemon, 5);
    let plugin = daemon.in_state("p", "backing-off");
    assert_eq!(plugin["reason"], "exited with status 5");
    assert!(plugin["pid"].is_null());
    // Its routes are known, and it is known to come back.
    let answer = daemon.http().get(ROUTE).send();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("2"));
    let plugin = daemon.in_state("p", "ready");
    assert_eq!(plugin["last_exit"], "exited with status 5");
    assert!(plugin["reason"].is_null(), "{plugin}");
    assert_eq!(plugin["generation"], 2);
    assert_ne!(daemon.plugin_pid("p"), pid);
    assert_eq!(daemon.http().get(ROUTE).send().status, 200);

    process::signal(daemon.plugin_pid("p"), Signal::SIGKILL);
    wait_for("it to be back", || {
        Some(daemon.plugin("p")).filter(|p| p["state"] == "ready" && p["generation"] == 3)
    });
    assert_eq!(daemon.plugin("p")["last_exit"], "ended by signal 9");
}

#[test]
fn a_crash_loop_ends_in_failure_until_somebody_asks_for_another_try() {
    if !super::can_run() {
        return;
    }
    let daemon = with("[restart]\nfirst = '10ms'\nlimit = 2\n");
    for generation in 1..=3 {
        wait_for("it to serve", || {
            let plugin = daemon.plugin("p");
            (plugin["state"] == "ready" && plugin["generation"] == generation).then_some(())
        });
        crash(&daemon, 6);
    }
    let plugin = daemon.in_state("p", "failed");
    let reason = plugin["reason"].as_str().unwrap();
    assert!(
        reason
            .starts_with("crash loop: it ended 3 times within 10m, at last: exited with status 6"),
        "{reason}"
    );
    assert_eq!(daemon.http().get(ROUTE).send().status, 503);
    // The same files are no other try.
    std::fs::write(daemon.base().join("plugins/p/note"), "").unwrap();
    std::fs::remove_file(daemon.base().join("plugins/p/note")).unwrap();
    assert_eq!(daemon.rescan(Some("p")).status, 200);
    daemon.ready("p");
    assert_eq!(daemon.http().get(ROUTE).send().status, 200);
    crash(&daemon, 7);
    wait_for("the count to be a new one", || {
        let plugin = daemon.plugin("p");
        (plugin["state"] == "ready" && plugin["generation"] == 5).then_some(())
    });
}

#[test]
fn a_bad_version_that_comes_while_the_good_one_is_down_does_not_keep_it_down() {
    if !super::can_run() {
        return;
    }
    let daemon = with("[restart]\nfirst = '2s'\n");
    let program = daemon.base().join("plugins/p/p");
    crash(&daemon, 5);
    daemon.in_state("p", "backing-off");
    std::fs::copy(pinfold_tests::go_fixture("goatflow-fail-init"), &program).unwrap();
    let reason = wait_for("the new version to be refused", || {
        daemon.rejections("p").pop()
    });
    assert!(reason.contains("no database for me"), "{reason}");
    daemon.in_state("p", "ready");
    assert_eq!(daemon.result("p", "version", &json!({})), "g4");
}

#[test]
fn a_plugin_that_stops_answering_is_degraded_and_then_ready_again() {
    if !super::can_run() {
        return;
    }
    let daemon = with(&format!(
        "[health]\ninterval = '200ms'\ntimeout = '{}'\ndegraded-after = 2\nkill-after = 1000\n",
        deadline(1)
    ));
    let pid = daemon.plugin_pid("p");
    process::signal(pid, Signal::SIGSTOP);
    let plugin = daemon.in_state("p", "degraded");
    let reason = plugin["reason"].as_str().unwrap();
    assert!(reason.contains("pings in a row"), "{reason}");
    process::signal(pid, Signal::SIGCONT);
    let plugin = daemon.in_state("p", "ready");
    assert_eq!(plugin["pid"], pid, "the same process");
    assert!(plugin["reason"].is_null(), "{plugin}");
    assert_eq!(daemon.http().get(ROUTE).send().status, 200);
}

#[test]
fn a_plugin_that_answers_no_more_is_killed_and_started_again() {
    if !super::can_run() {
        return;
    }
    let daemon = with(&format!(
        "[health]\ninterval = '200ms'\ntimeout = '{}'\ndegraded-after = 1\nkill-after = 3\n",
        deadline(1)
    ));
    let pid = daemon.plugin_pid("p");
    process::signal(pid, Signal::SIGSTOP);
    wait_for("another instance", || {
        let plugin = daemon.plugin("p");
        (plugin["state"] == "ready" && plugin["pid"] != pid).then_some(())
    });
    process::all_gone("the silent one", [pid]);
    let exit = daemon.plugin("p")["last_exit"].clone();
    assert_eq!(exit, "it did not answer 3 pings in a row, and was killed");
}

#[test]
fn a_plugin_that_hangs_in_its_start_obeys_at_once() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("p", "goatflow-v1").start();
    let directory = daemon.base().join("plugins/p");
    daemon.add_policy("p", "[timeouts]\nhandshake = '10m'\ninit = '10m'\n");
    // The new version hangs; the old one serves; the next one takes the place of both.
    std::fs::copy(
        pinfold_tests::go_fixture("goatflow-hang-init"),
        directory.join("p"),
    )
    .unwrap();
    wait_for("the new version to have begun", || {
        let jails = process::descendants(daemon.launcher_pid());
        (jails.len() > 2).then_some(())
    });
    assert_eq!(daemon.http().get(ROUTE).send().status, 200);
    std::fs::copy(
        pinfold_tests::go_fixture("goatflow-v2"),
        directory.join("p"),
    )
    .unwrap();
    wait_for("the newest version", || {
        let answer = daemon.call("p", "version", &json!({}));
        (answer.json() == "v2").then_some(())
    });
    process::so_many_descendants(daemon.launcher_pid(), 2); // the others are gone
}
