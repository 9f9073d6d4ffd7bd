//! What an operator has switched off stays off, whatever happens to files and daemons.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use pinfold_tests::wait_for;
use serde_json::json;

use super::command_line::{pinfold, printed};
use super::daemon::Daemon;
use super::process;
use super::setup::Setup;

const ROUTE: &str = "/api/plugins/p/public";

fn change(daemon: &Daemon, what: &str) {
    let path = format!("/api/pinfold/v1/plugins/p/{what}");
    let answer = daemon.admin().post(&path).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[track_caller]
fn is_off(daemon: &Daemon) {
    let plugin = daemon.plugin("p");
    assert_eq!(plugin["state"], "disabled", "{plugin}");
    assert_eq!(plugin["enabled"], false);
    assert!(plugin["pid"].is_null());
    let answer = daemon.http().get(ROUTE).send();
    let refused = (403, r#"plugin "p" is disabled"#.to_owned());
    assert_eq!(answer.error(), refused);
}

#[test]
fn a_disabled_plugin_stays_so_over_a_killed_daemon_and_over_files_that_go_and_come() {
    if !super::can_run() {
        return;
    }
    let mut daemon = Setup::new().hello().plugin("p", "goatflow-v1").start();
    let pid = daemon.plugin_pid("p");
    change(&daemon, "disable");
    process::all_gone("the plugin", [pid]);
    is_off(&daemon);
    // Answered, and so committed.
    daemon.signal(Signal::SIGKILL);
    assert!(!daemon.wait().success());
    let daemon = daemon.again().start();
    is_off(&daemon);
    // New files are no reason to start it.
    let directory = daemon.base().join("plugins/p");
    let copy = daemon.setup().path("copy");
    let cp = |from: &std::path::Path, to: &std::path::Path| {
        let status = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(status.unwrap().success());
    };
    cp(&directory, &copy);
    fs::remove_dir_all(&directory).unwrap();
    wait_for("it to be gone", || {
        (daemon.http().get(ROUTE).send().status == 404).then_some(())
    });
    cp(&copy, &directory);
    // Refused from when it is discovered, and then known to be off.
    wait_for("it to be there again", || {
        let is_there = daemon.http().get(ROUTE).send().status == 403;
        (is_there && daemon.plugin("p")["state"] != "discovered").then_some(())
    });
    is_off(&daemon);
    change(&daemon, "enable");
    daemon.ready("p");
    assert_eq!(daemon.http().get(ROUTE).send().status, 200);
    let daemon = daemon.stop().start();
    daemon.ready("p");
}

#[test]
fn a_plugin_that_was_removed_and_is_added_again_is_a_new_one() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("p", "goatflow-v1").start();
    change(&daemon, "disable");
    let source = daemon.setup().path("again/p");
    super::setup::write_plugin(&source, "goatflow-v2", "");
    let source = source.to_str().unwrap();
    for arguments in [
        &["plugin", "remove", "--yes", "p"][..],
        &["plugin", "add", "--yes", source],
    ] {
        printed(&pinfold(&daemon.base(), arguments));
    }
    daemon.ready("p");
    assert_eq!(daemon.result("p", "version", &json!({})), "v2");
}

#[test]
fn a_plugin_that_is_disabled_in_its_start_is_gone_when_that_is_answered() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("p", "goatflow-hang-init")
        .policy("p", "[timeouts]\ninit = '10m'\n")
        .start_until(|status| status["plugins"] == json!({"starting": 1}));
    process::so_many_descendants(daemon.launcher_pid(), 2);
    change(&daemon, "disable");
    let left = process::descendants(daemon.launcher_pid());
    assert!(left.is_empty(), "{left:?}");
    let plugin = daemon.plugin("p");
    assert_eq!(plugin["state"], "disabled", "{plugin}");
}
