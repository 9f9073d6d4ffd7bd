//! A launcher without root: inside a user and mount namespace with one id.

#![expect(
    clippy::disallowed_methods,
    reason = "a test starts itself again as an ordinary user"
)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::ability;
use super::harness::{has_landlock, inside, launch, lines, no_filter, output, spec, stage};
use pinfold_policy::{Control, Wanted};
use pinfold_sandbox::jail::{Ids, JailSpec, USER_MODE_ID};

/// Set in the process that plays the launcher.
const AS_USER: &str = "PINFOLD_TEST_AS_USER";

/// An unprivileged user id that owns nothing.
const SOMEBODY: u32 = 1_950_100_000;

#[test]
fn an_ordinary_user_can_start_a_jail() {
    as_launcher(
        "an_ordinary_user_can_start_a_jail",
        "exec \"$0\" \"$@\"",
        as_user,
    );
}

#[test]
fn where_proc_is_covered_a_jail_has_none_and_says_so() {
    // What is mounted over proc from outside cannot be taken off inside; the kernel then mounts no
    // new proc that would show what is beneath.
    let cover = "mount --bind /dev/null /proc/version \
                 && exec unshare --user --map-root-user --mount -- \"$0\" \"$@\"";
    as_launcher(
        "where_proc_is_covered_a_jail_has_none_and_says_so",
        cover,
        with_covered_proc,
    );
}

#[test]
fn where_user_namespaces_are_used_up_the_launch_names_the_step() {
    let none = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    as_launcher(
        "where_user_namespaces_are_used_up_the_launch_names_the_step",
        none,
        || {
            let refused = launch(&user_spec(&["exit:0"])).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "C5 user namespace: new user namespace: no space left on device (ENOSPC)"
            );
        },
    );
}

/// Runs `body` in a process of its own that is what a launcher of an ordinary user is: root of a
/// user and mount namespace in which there is no other id. `prepare` is a shell line that goes on
/// with the program it is given.
fn as_launcher(test: &str, prepare: &str, body: fn()) {
    if std::env::var_os(AS_USER).is_some() {
        return body();
    }
    let can = Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .status();
    let can = can.is_ok_and(|status| status.success());
    if !ability::has(
        test,
        "userns",
        can,
        "user namespaces are not for everybody here",
    ) {
        return;
    }
    // Where the user can read it: the build may lie in a private directory.
    let place = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .unwrap();
    // By a process of its own: what is open here to be written, a jail that another test starts meanwhile has
    // too for a moment, and no such program is executed.
    for (from, to) in [
        (std::env::current_exe().unwrap(), "test"),
        (stage().join("probe"), "probe"),
    ] {
        let to = place.path().join(to);
        let copied = Command::new("cp").args([&from, &to]).status().unwrap();
        assert!(copied.success(), "{from:?}");
    }
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "--",
            "sh",
            "-c",
            prepare,
        ])
        .arg(place.path().join("test"))
        .args([
            "--exact",
            &format!("jail::user_mode::{test}"),
            "--nocapture",
            "--test-threads=1",
        ])
        .env(AS_USER, place.path())
        .current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(SOMEBODY).gid(SOMEBODY);
    }
    let ran = command.output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

fn with_covered_proc() {
    let acts = ["ls:/proc", "setuid:0", "say:seen", "wait"];
    let spec = user_spec(&acts);
    let mut spec = JailSpec {
        proc: Wanted::Preferred,
        ..spec
    };
    let jail = launch(&spec).unwrap();
    assert_eq!(
        lines(&jail)
            .take_while(|line| line != "seen")
            .collect::<Vec<_>>(),
        ["", "setuid:0 1"]
    );
    jail.look(&spec).unwrap();
    let missing = jail
        .missing
        .iter()
        .find(|(control, _)| *control == Control::Proc)
        .unwrap();
    assert_eq!(
        missing.1,
        "R9 proc: mount proc: operation not permitted (EPERM)"
    );
    spec.proc = Wanted::Required;
    let refused = launch(&spec).unwrap_err();
    assert_eq!(refused.to_string(), missing.1);
    // The whole of it as little.
    spec.whole_proc = true;
    let refused = launch(&spec).unwrap_err();
    assert_eq!(refused.to_string(), missing.1);
    spec.proc = Wanted::Preferred;
    let jail = launch(&spec).unwrap();
    assert_eq!(lines(&jail).next().as_deref(), Some(""));
    jail.look(&spec).unwrap();
}

fn user_spec(acts: &[&str]) -> JailSpec {
    let mut spec = spec(acts);
    spec.ids = Ids::User;
    spec.user_namespace = Wanted::Required;
    spec
}

fn as_user() {
    let acts = [
        "cat:/proc/self/uid_map",
        "cat:/proc/self/status",
        "say:seen",
        "wait",
    ];
    let spec = user_spec(&acts);
    let jail = launch(&spec).unwrap();
    let seen: Vec<_> = lines(&jail).take_while(|line| line != "seen").collect();
    jail.look(&spec).unwrap();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(&seen[0]),
        [USER_MODE_ID.to_string(), "0".to_owned(), "1".to_owned()]
    );
    let has = |start: &str, rest: &str| {
        let found = seen
            .iter()
            .find_map(|line| line.strip_prefix(start))
            .unwrap();
        assert_eq!(words(found).join(" "), rest, "{start}");
    };
    let id = USER_MODE_ID.to_string();
    has("Uid:", &[id.as_str(); 4].join(" "));
    has("Gid:", &[id.as_str(); 4].join(" "));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        has(set, "0000000000000000");
    }
    has("NoNewPrivs:", "1");
    has("Seccomp:", "2");
    let missing: Vec<_> = jail.missing.iter().map(|(control, _)| *control).collect();
    assert!(
        missing.contains(&Control::MemfdNoexec) && !missing.contains(&Control::UserNamespace),
        "{:?}",
        jail.missing
    );
    drop(jail);

    let acts = [
        "ls:/",
        "ls:/proc",
        "create:/tmp/probe-home/x",
        "listen:/run/plugin/s",
        "create:/plugin/x",
        "setuid:0",
        "tcp-self",
    ];
    let expected = "app dev etc plugin proc run tmp\n2 self thread-self\n\
                    create:/tmp/probe-home/x ok\nlisten:/run/plugin/s ok\n\
                    create:/plugin/x 30\nsetuid:0 1\ntcp-self ok\n";
    assert_eq!(inside(&user_spec(&acts)), expected);

    // The namespace quota alone: ENOSPC for a user namespace, and no right to any other.
    let mut unfiltered = user_spec(&["unshare:268435456", "unshare:131072", "mount:/tmp"]);
    unfiltered.filter = no_filter();
    assert_eq!(
        inside(&unfiltered),
        "unshare:268435456 28\nunshare:131072 1\nmount:/tmp 1\n"
    );

    let acts = [
        "read:/proc/cpuinfo",
        "read:/proc/sys/kernel",
        "ls:/proc/sys",
        "say:seen",
        "wait",
    ];
    let mut whole = user_spec(&acts);
    whole.whole_proc = true;
    let jail = launch(&whole).unwrap();
    let seen: Vec<_> = lines(&jail).take_while(|line| line != "seen").collect();
    assert_eq!(
        seen,
        ["read:/proc/cpuinfo ok", "read:/proc/sys/kernel 2", ""]
    );
    jail.look(&whole).unwrap();
    drop(jail);

    // The reaper has its user id here, and is out of its reach by landlock.
    let mut bare = user_spec(&["signal:1"]);
    bare.filter = no_filter();
    bare.landlock = Wanted::Off;
    assert_eq!(inside(&bare), "signal:1 ok\n");
    bare.landlock = Wanted::Preferred;
    // From its version 6 on.
    let outcome = if has_landlock(6) { "1" } else { "ok" };
    assert_eq!(inside(&bare), format!("signal:1 {outcome}\n"));

    let mut crowded = user_spec(&["forks"]);
    crowded.limits.processes = 12;
    let jail = launch(&crowded).unwrap();
    assert_eq!(output(&jail).lines().last(), Some("forks 11"), "EAGAIN");
}
