//! The whole daemon as an ordinary user: a plugin serves, and what is not in force is named.

use std::fs;

use pinfold_tests::require;

use super::process;
use super::setup::Setup;

/// No login, no system user, no plugin: `Setup` makes the installation this user's.
const FREE_UID: u32 = 54_321;

#[test]
fn a_plugin_serves_and_what_is_not_in_force_is_named() {
    if !require(&["userns", "go"]) {
        return;
    }
    let daemon = Setup::of_user(FREE_UID)
        .hello()
        .plugin("g4", "goatflow-g4")
        .start();
    let own = process::uid(daemon.pid()).unwrap();
    assert_ne!(own, 0);
    let hello = daemon.http().get("/api/plugins/hello/greeting?name=Ada");
    assert_eq!(hello.send().ok()["greeting"], "Hello, Ada!");
    let token = fs::read_to_string(daemon.base().join("state/development-token")).unwrap();
    let items = daemon
        .http()
        .get("/api/plugins/hello/items")
        .token(token.trim());
    assert_eq!(items.send().ok()["items"].as_array().unwrap().len(), 3);

    // Walls that hold all the same.
    let pid = daemon.plugin_pid("g4");
    let field = |name| process::field(pid, name).unwrap();
    assert_eq!(
        (field("NoNewPrivs").as_str(), field("Seccomp").as_str()),
        ("1", "2")
    );
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    for kind in ["pid", "mnt", "net", "ipc", "uts", "user"] {
        let its = process::namespace(&pid.to_string(), kind);
        assert_ne!(its, process::namespace("self", kind));
    }
    let inside = serde_json::json!({"acts": ["read-shadow", "write-etc", "clone-user"]});
    let inside = daemon.result("g4", "probe", &inside);
    assert_eq!(
        inside,
        serde_json::json!({
            "read-shadow": "ENOENT", "write-etc": "EROFS", "clone-user": "EPERM"
        })
    );

    // What is not in force is said, in the status and in the posture.
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("policy trust: development"), "{warnings}");
    assert!(warnings.contains("not in force: uid"), "{warnings}");
    let posture = daemon.admin().get("/api/pinfold/v1/posture").send().ok();
    assert_eq!(posture["mode"], "user");
    let missing: Vec<&str> = posture["controls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|control| control["state"] == "missing" && control["wanted"] != "off")
        .map(|control| control["id"].as_str().unwrap())
        .collect();
    assert!(missing.contains(&"uid"), "{missing:?}");
    for control in &missing {
        let line = format!("not in force: {control} (");
        assert!(warnings.contains(&line), "{control}: {warnings}");
    }
    // Everything belongs to that user, and goes with its daemon.
    let launcher = daemon.launcher_pid();
    let mut processes = process::descendants(launcher);
    assert!(processes.len() >= 4, "{processes:?}");
    processes.insert(launcher);
    daemon.stop();
    process::all_gone("a jail", processes);
}

/// How many IPC namespaces there may be in the launcher's user namespace, which nobody else is in.
fn set_quota(launcher: u32, quota: &str) -> bool {
    let script = format!("echo {quota} > /proc/sys/user/max_ipc_namespaces");
    let status = std::process::Command::new("nsenter")
        .args(["--user", "--target", &launcher.to_string()])
        .args(["sh", "-c", &script])
        .status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_control_that_disappears_is_told_wherever_it_is_looked_for() {
    if !super::can_run_as_root() || !require(&["userns"]) {
        return;
    }
    let daemon = Setup::of_user(FREE_UID + 4)
        .plugin("g4", "goatflow-g4")
        .start();
    daemon.ready("g4");
    let id = "ipc-namespace";
    // Asked for, a posture is tried anew.
    let state = || {
        let posture = daemon.admin().get("/api/pinfold/v1/posture").send().ok();
        let controls = posture["controls"].as_array().unwrap().clone();
        let control = controls.into_iter().find(|control| control["id"] == id);
        control.unwrap()["state"].clone()
    };
    let metric = |value: u8| {
        let line = format!("pinfold_control_in_force{{control=\"{id}\"}} {value}\n");
        let text = daemon.admin().get("/metrics").send().text();
        text.contains(&line).then_some(())
    };
    let warned = || daemon.status()["warnings"].to_string().contains(id);
    assert_eq!((state(), warned()), ("in-force".into(), false));
    pinfold_tests::wait_for("the control in the metrics", || metric(1));
    if !set_quota(daemon.launcher_pid(), "0") {
        pinfold_tests::tell("the launcher's user namespace cannot be entered\n");
        return;
    }
    assert_eq!(state(), "failed");
    pinfold_tests::wait_for("its failure in the metrics", || metric(0));
    pinfold_tests::wait_for("the warning", || warned().then_some(()));
    let recorded = |decision: &'static str| {
        let base = daemon.base();
        let arguments = ["--action", "control.change", "--decision", decision];
        move || {
            let records = super::audit::records(&base, &arguments);
            records.into_iter().find(|record| record["subject"] == id)
        }
    };
    let record = pinfold_tests::wait_for("its record", recorded("error"));
    assert!(
        record["detail"].as_str().unwrap().contains("No space left"),
        "{record}"
    );
    assert!(set_quota(daemon.launcher_pid(), "100"));
    assert_eq!(state(), "in-force");
    pinfold_tests::wait_for("the record of its return", recorded("allow"));
    pinfold_tests::wait_for("its return in the metrics", || metric(1));
}

#[test]
fn a_fork_bomb_meets_its_limit_without_a_control_group_too() {
    if !require(&["userns", "go"]) {
        return;
    }
    let daemon = Setup::of_user(FREE_UID + 2)
        .hello()
        .plugin("bomb", "goatflow-g4")
        .policy("bomb", "[limits]\nprocesses = 48\n")
        .start();
    let launcher = daemon.launcher_pid();
    let bomb = daemon.call("bomb", "fork_bomb", &serde_json::json!({}));
    // Processes of both jails; threads count too, so there are fewer of the bomb's than its limit.
    assert!(process::descendants(launcher).len() <= 2 + 1 + 48);
    let bomb = bomb.ok();
    assert_eq!(bomb["error"], "EAGAIN", "{bomb}");
    // The limit is each plugin's own, although they share a user.
    let hello = daemon.http().get("/api/plugins/hello/greeting").send();
    assert_eq!(hello.status, 200);
    assert_eq!(daemon.rescan(Some("bomb")).status, 200);
    daemon.ready("bomb");
    process::so_many_descendants(launcher, 2 * 2); // the replaced jail is gone
}

#[test]
fn a_killed_daemon_of_a_user_leaves_no_process() {
    if !require(&["userns", "go"]) {
        return;
    }
    let mut daemon = Setup::of_user(FREE_UID + 1)
        .plugin("g4", "goatflow-g4")
        .start();
    daemon.result("g4", "spawn", &serde_json::json!({"n": 2}));
    let mut processes = process::descendants(daemon.launcher_pid());
    processes.insert(daemon.launcher_pid());
    assert!(processes.len() >= 5, "{processes:?}");
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    assert!(!daemon.wait().success());
    process::all_gone("what it left", processes);
}
