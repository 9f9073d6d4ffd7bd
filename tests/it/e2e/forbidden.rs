//! What a jail forbids, tried from inside and, to show that it is the jail that forbids it, outside.

use std::process::{Command, Stdio};

use pinfold_tests::go_fixture;
use serde_json::{Value, json};

use super::setup::Setup;

/// What comes of an act outside of the jail, as root.
enum Outside {
    /// It can be done.
    Done,
    /// The kernel's own code answers, for this reason; in the jail nothing reaches that code.
    Answers(&'static str),
    /// This kernel may not have it at all, and then both say so.
    MayBeAbsent(&'static str),
}

#[test]
fn what_a_jail_forbids_fails_inside_and_can_be_done_outside() {
    use Outside::{Answers, Done, MayBeAbsent};
    if !super::can_run_as_root() {
        return;
    }
    let no_arguments = "it is called without useful arguments, to do no harm";
    let acts = [
        ("read-shadow", "ENOENT", Done),
        ("write-etc", "EROFS", Done),
        ("write-usr", "ENOENT", Done),
        ("write-plugin", "EROFS", Done),
        ("exec-tmp", "EACCES", Done),
        ("exec-memfd", "ENOSYS", Done),
        ("memfd", "ENOSYS", Done),
        ("make-device", "EPERM", Done),
        ("open-kmsg", "ENOENT", Done),
        (
            "open-mem",
            "ENOENT",
            MayBeAbsent("kernels without /dev/mem"),
        ),
        ("write-sysctl", "ENOENT", Done),
        ("write-cgroup", "ENOENT", Done),
        ("list-sys", "ENOENT", Done),
        ("open-by-handle", "EPERM", Done),
        ("socket-raw", "EPROTONOSUPPORT", Done),
        ("socket-packet", "EAFNOSUPPORT", Done),
        ("socket-netlink", "EAFNOSUPPORT", Done),
        (
            "socket-vsock",
            "EAFNOSUPPORT",
            MayBeAbsent("kernels without vsock"),
        ),
        (
            "socket-alg",
            "EAFNOSUPPORT",
            MayBeAbsent("kernels without a crypto API"),
        ),
        ("become-root", "EPERM", Done),
        ("keep-groups", "EPERM", Done),
        ("chroot", "EPERM", Done),
        ("mount", "SIGSYS", Done),
        ("new-mount-api", "SIGSYS", Done),
        ("unshare-mount", "EPERM", Done),
        ("unshare-network", "EPERM", Done),
        ("clone-user", "EPERM", Done),
        ("enter-namespace", "EPERM", Done),
        ("set-hostname", "EPERM", Done),
        ("trace-parent", "EPERM", Done),
        ("trace-me", "EPERM", Done),
        ("read-memory", "EPERM", Done),
        ("signal-first", "EPERM", Done),
        ("bpf", "SIGSYS", Answers(no_arguments)),
        ("perf", "EPERM", Answers(no_arguments)),
        (
            "io-uring",
            "ENOSYS",
            MayBeAbsent("kernels without it, or with it switched off"),
        ),
        ("userfaultfd", "ENOSYS", MayBeAbsent("kernels without it")),
        ("keyring", "EPERM", Done),
        ("personality", "EPERM", Done),
        ("load-module", "SIGSYS", Answers(no_arguments)),
        ("load-kernel", "SIGSYS", Answers(no_arguments)),
        ("reboot", "SIGSYS", Answers(no_arguments)),
        ("kernel-log", "EPERM", Done),
        (
            "x32-call",
            "SIGSYS",
            Answers("few kernels have that interface"),
        ),
    ];
    let names: Vec<&str> = acts.iter().map(|(name, ..)| *name).collect();
    let arguments = json!({ "acts": names });
    let outside = outside("probe", &arguments);
    let daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    let inside = daemon.result("g4", "probe", &arguments);
    let mut wrong = Vec::new();
    for (name, expected, is_done) in acts {
        let (inside, outside) = (&inside[name], &outside[name]);
        if inside != expected {
            wrong.push(format!("{name} inside: {inside}, expected {expected}"));
        }
        match is_done {
            Done if outside != "ok" => wrong.push(format!("{name} outside: {outside}")),
            Answers(why) if outside == inside => {
                wrong.push(format!("{name}: {outside} on both sides, although {why}"));
            }
            MayBeAbsent(why) if outside != "ok" && outside != inside => {
                wrong.push(format!(
                    "{name} outside: {outside}, not only absent in {why}"
                ));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What it may do, so that the above is not a plugin that can do nothing.
    let fine =
        json!({"acts": ["nothing", "write-tmp", "write-state", "socket-inet"], "here": true});
    let fine = daemon.result("g4", "probe", &fine);
    for (name, outcome) in fine.as_object().unwrap() {
        assert_eq!(outcome, "ok", "{name}");
    }
    daemon.ready("g4");
}

/// A function of the same program, run by a Go host as root without a jail.
fn outside(function: &str, arguments: &Value) -> Value {
    let output = Command::new(go_fixture("host"))
        .args(["-call", function, "-args", &arguments.to_string()])
        .arg(go_fixture("goatflow-g4"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}
