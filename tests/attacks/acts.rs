//! Attempts that the fixture `goatflow` makes by itself: system calls, files, sockets. Each is made by
//! a child of the plugin's own, in the jail and by the same program under a Go host as root.

use std::process::{Command, Stdio};

use pinfold_tests::go_fixture;
use serde_json::{Value, json};

use super::attempt::{Attempt, Seen};
use super::bait::{Bait, KAMIKAZE, MALLORY};
use super::{Daemon, Results};

/// Attempts in one call, which has a deadline.
const AT_ONCE: usize = 20;

/// What only the plugin's first process can find out, or has.
const BY_ITSELF: [&str; 3] = ["flood-stdout", "leaked-descriptor", "pass-descriptors"];

/// Root without a jail, who harms nobody all the same: mounts and names are in namespaces of their
/// own, and somebody forgot to close a descriptor.
const OUTSIDE: &str = "mount -t tmpfs none /mnt; ulimit -n 8192; exec 9</etc; exec \"$@\"";

/// Tries them in the jail of `plugin`, but what ends a jail in another's.
pub(super) fn run(daemon: &Daemon, bait: &Bait, plugin: &str, attempts: &[&Attempt]) -> Results {
    let (inside, outside) = std::thread::scope(|scope| {
        let without = scope.spawn(|| outside(daemon, bait, attempts));
        let inside = inside(daemon, bait, plugin, attempts);
        (inside, without.join().unwrap())
    });
    let seen = |attempt: &&Attempt| {
        let text = |all: &Value| all[attempt.id].as_str().unwrap_or("nothing").to_owned();
        let (inside, outside) = (text(&inside), text(&outside));
        (attempt.id, Seen { inside, outside })
    };
    attempts.iter().map(seen).collect()
}

fn inside(daemon: &Daemon, bait: &Bait, plugin: &str, attempts: &[&Attempt]) -> Value {
    let targets = bait.inside(daemon, plugin);
    let (ending, others): (Vec<&Attempt>, Vec<&Attempt>) =
        attempts.iter().partition(|attempt| attempt.inside.ends());
    let mut all = json!({});
    for arguments in calls(&others, &targets) {
        merge(&mut all, daemon.result(plugin, "probe", &arguments));
    }
    let targets = bait.inside(daemon, KAMIKAZE);
    for attempt in ending {
        all[attempt.id] = last_act(daemon, attempt.id, &targets).into();
    }
    all
}

/// What comes of an act at which the process ends that makes it, or its jail.
fn last_act(daemon: &Daemon, id: &str, targets: &Value) -> String {
    let before = daemon.in_state(KAMIKAZE, "ready")["generation"].clone();
    let answer = daemon.call(
        KAMIKAZE,
        "probe",
        &json!({"acts": [id], "targets": targets}),
    );
    if answer.status == 200 {
        let outcome = answer.json()[id].as_str().unwrap_or_default().to_owned();
        // Of a process that the kernel killed for its memory the plugin may tell before its jail,
        // which ends with it, has ended.
        if outcome != "SIGKILL" {
            return outcome;
        }
    }
    let after = pinfold_tests::wait_for("the jail's end to be told", || {
        Some(daemon.plugin(KAMIKAZE))
            .filter(|plugin| plugin["state"] == "ready" && plugin["generation"] != before)
    });
    after["last_exit"].as_str().unwrap_or("nothing").to_owned()
}

fn outside(daemon: &Daemon, bait: &Bait, attempts: &[&Attempt]) -> Value {
    let targets = bait.outside(daemon);
    let mut all = json!({});
    for arguments in calls(attempts, &targets) {
        let output = Command::new("unshare")
            .args(["--mount", "--uts", "--ipc", "--propagation", "private"])
            .args(["bash", "-c", OUTSIDE, "bash"])
            .arg(go_fixture("host"))
            .args(["-call", "probe", "-args", &arguments.to_string()])
            .arg(go_fixture("goatflow-g4"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        merge(&mut all, serde_json::from_slice(&output.stdout).unwrap());
    }
    all
}

/// The arguments of the calls that make these attempts.
fn calls(attempts: &[&Attempt], targets: &Value) -> Vec<Value> {
    let (first, others): (Vec<&str>, Vec<&str>) = attempts
        .iter()
        .map(|attempt| attempt.id)
        .partition(|id| BY_ITSELF.contains(id));
    let call = |acts: &[&str], here: bool| json!({"acts": acts, "targets": targets, "here": here});
    let mut calls = vec![call(&first, true)];
    calls.extend(others.chunks(AT_ONCE).map(|acts| call(acts, false)));
    calls
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else {
        panic!("no outcomes: {more}");
    };
    for (name, outcome) in more {
        into[name] = outcome;
    }
}

/// What a plugin may do, so that the above is not by a plugin that can do nothing.
pub(super) fn assert_ordinary_acts_succeed(daemon: &Daemon) {
    let acts = ["nothing", "write-tmp", "write-state", "socket-inet"];
    let outcomes = daemon.result(MALLORY, "probe", &json!({"acts": acts, "here": true}));
    for name in acts {
        assert_eq!(outcomes[name], "ok", "{name}");
    }
}
