//! The launcher of an ordinary user: the same requests, inside a user namespace.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;

use pinfold_policy::Control;
use pinfold_sandbox::posture::{Mode, State};
use pinfold_sandbox::protocol::{ExitCause, FailureKind, KillHow, Loopback, SocketDirectory};
use sha2::{Digest as _, Sha256};

use crate::machine::{Machine, Setup, eventually, has_root, lines_until, output};
use crate::ports::{HTTP, echoes, ready};
use crate::skip::skip;
use crate::trust::{BY_RELEASE, private, write};
use crate::workloads;

/// A user whom every machine has.
const USER: &str = "daemon";

/// What a user without delegated groups writes into policies.
pub(crate) const LOWERED: &str = "[controls]\n\
    memory = { wanted = \"preferred\", i-accept-the-risk = \"no delegation\" }\n\
    [limits]\nprocesses = 16\n";

/// A launcher of a user: the one who runs the test, or, where that is root, another.
fn start(test: &str) -> Option<Machine> {
    start_with(test, "")
}

/// The same, with these lines in its configuration.
pub(crate) fn start_with(test: &str, config: &str) -> Option<Machine> {
    let is_zero = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == "0");
    if is_zero("/proc/sys/user/max_user_namespaces")
        || is_zero("/proc/sys/kernel/unprivileged_userns_clone")
    {
        skip(test, "userns", "users may make no user namespaces here");
        return None;
    }
    let own = rustix::process::geteuid();
    let user = match own.is_root() {
        true => USER.to_owned(),
        false => {
            nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(own.as_raw()))
                .unwrap()
                .expect("the user who runs the test has a name")
                .name
        }
    };
    Some(Machine::with(Setup {
        user: Some(&user),
        config,
        ..Setup::default()
    }))
}

#[test]
fn a_users_launcher_runs_plugins_in_a_jail_and_tells_how_they_end() {
    let test = "a_users_launcher_runs_plugins_in_a_jail_and_tells_how_they_end";
    let Some(machine) = start(test) else {
        return;
    };
    let args = ["say=here", "append=/state/x", "read=/state/x", "exit=3"];
    let launched = machine.run("hello", &args, LOWERED).unwrap();
    assert_eq!(
        output(launched.stdout),
        "here\nappend /state/x: done\nread /state/x: x\n"
    );
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(3));
    assert!(launched.missing.contains(&"uid".to_owned()));
    assert!(!launched.missing.contains(&"processes".to_owned()));
    assert!(!launched.missing.contains(&"user-namespace".to_owned()));
    assert!(!launched.missing.contains(&"network-pool".to_owned()));
    let cause = |plugin, args: &[&str]| {
        let launched = machine.run(plugin, args, LOWERED).unwrap();
        machine.exited(launched.instance)
    };
    assert_eq!(
        cause("mount", &["mount"]).to_string(),
        "made a system call that is refused: mount"
    );
    let segv = format!("signal={}", libc::SIGSEGV);
    assert_eq!(cause("segv", &[&segv]), ExitCause::Signal(libc::SIGSEGV));
}

#[test]
fn a_users_launcher_verifies_signatures_by_that_users_keys() {
    let test = "a_users_launcher_verifies_signatures_by_that_users_keys";
    let Some(machine) = start(test) else {
        return;
    };
    let entry = machine.add_plugin("hello").join("probe");
    machine.add_policy("hello", &["exit=0"], &format!("{BY_RELEASE}{LOWERED}"));
    let signer = private(1);
    let key = machine.path("keys/release.pub");
    let rules = "schema = 1\nplugins = [\"hello\"]\n";
    write(key.clone(), &signer.public_key().to_string());
    write(key.with_extension("toml"), rules);
    let hash = Sha256::digest(fs::read(&entry).unwrap()).into();
    write(
        entry.with_file_name("probe.sig"),
        &signer.sign(&hash).to_string(),
    );
    let launch = || {
        let (digest, _) = machine.stage("hello")?;
        machine.launch_with("hello", digest, &[])
    };
    let launched = launch().unwrap();
    assert_eq!(
        launched.trust,
        r#"program signed by "release" (assets unsigned)"#
    );
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(0));
    // The directory is listed where no key is named.
    machine.add_policy("hello", &["exit=0"], LOWERED);
    let launched = launch().unwrap();
    assert!(launched.trust.ends_with(r#"(entry signed by "release")"#));
    machine.exited(launched.instance);
    machine.add_policy("hello", &["exit=0"], &format!("{BY_RELEASE}{LOWERED}"));
    write(key.clone(), &private(2).public_key().to_string());
    assert_eq!(launch().unwrap_err().kind, FailureKind::Trust);
    write(key.clone(), &signer.public_key().to_string());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
    let failure = launch().unwrap_err();
    assert!(failure.message.contains("mode 0666"), "{failure}");
}

#[test]
fn a_users_plugin_has_no_capability_and_its_own_limit_on_processes() {
    let test = "a_users_plugin_has_no_capability_and_its_own_limit_on_processes";
    let Some(machine) = start(test) else {
        return;
    };
    let launched = machine
        .run("bomb", &["forks", "say=done", "wait"], LOWERED)
        .unwrap();
    let lines = lines_until(launched.stdout, "done");
    let made: u32 = lines[0]
        .strip_prefix("forks=")
        .and_then(|rest| rest.split(' ').next())
        .unwrap()
        .parse()
        .unwrap();
    assert!((10..=16).contains(&made), "{lines:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", launched.pid)).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    machine.kill(launched.instance, KillHow::Kill).unwrap();
    assert_eq!(machine.exited(launched.instance), ExitCause::Killed);
}

#[test]
fn a_users_launcher_connects_and_its_end_leaves_nothing() {
    let test = "a_users_launcher_connects_and_its_end_leaves_nothing";
    let Some(mut machine) = start(test) else {
        return;
    };
    let listen = "listen=/tmp/goatflow-plugin-hello/plugin.sock";
    let launched = machine.run("hello", &[listen], LOWERED).unwrap();
    lines_until(launched.stdout.try_clone().unwrap(), "ready");
    let socket = machine
        .connect(launched.instance, SocketDirectory::Tmp, "plugin.sock")
        .unwrap();
    let mut stream = UnixStream::from(socket);
    stream.write_all(b"hello").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    machine.close();
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    let process = format!("/proc/{}", launched.pid);
    eventually("the plugin is gone", || {
        !std::path::Path::new(&process).exists()
    });
}

#[test]
fn a_users_launcher_makes_listeners_and_connects_to_ports() {
    let test = "a_users_launcher_makes_listeners_and_connects_to_ports";
    let Some(machine) = start(test) else {
        return;
    };
    let granted = format!("{HTTP}{LOWERED}");
    let launched = machine.run("hello", &["tcp=10001"], &granted).unwrap();
    ready(&launched);
    let connect = |port| machine.connect_port(launched.instance, Loopback::V4, port);
    echoes(connect(10001).unwrap());
    assert_eq!(launched.listeners.len(), 1);
    let failure = connect(launched.listeners[0].port).unwrap_err();
    assert!(failure.message.contains("the host's own"), "{failure}");
}

#[test]
fn a_users_posture_says_what_is_missing() {
    let Some(machine) = start("a_users_posture_says_what_is_missing") else {
        return;
    };
    let posture = machine.posture(None);
    assert_eq!(posture.mode, Mode::User);
    let state = |control| posture.control(control).unwrap();
    for control in [
        Control::PidNamespace,
        Control::MountNamespace,
        Control::NetworkNamespace,
        Control::Root,
        Control::Stage,
        Control::UserNamespace,
        Control::Capabilities,
        Control::Seccomp,
        Control::Processes,
    ] {
        assert_eq!(
            state(control).state,
            State::Enforced,
            "{:?}",
            state(control)
        );
    }
    let uid = state(Control::Uid);
    assert_eq!(uid.state, State::Missing, "{uid:?}");
    assert!(!uid.reason.is_empty());
    if state(Control::Memory).state == State::Enforced {
        println!("not seen here: a refusal for want of memory limits, for groups are delegated");
        return;
    }
    // A policy that lowers nothing runs into what is missing.
    let failure = machine.run("hello", &["exit=0"], "").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Control);
    assert!(
        failure
            .message
            .starts_with("control memory is required and missing"),
        "{failure}"
    );
    assert!(failure.hint.is_some());
}

#[test]
fn a_policy_of_a_third_users_is_refused_and_roots_counts_only_in_roots_directory() {
    let test = "a_policy_of_a_third_users_is_refused_and_roots_counts_only_in_roots_directory";
    if !has_root(test) {
        return;
    }
    let Some(machine) = start(test) else {
        return;
    };
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], LOWERED);
    let path = machine.path("policies/hello.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (digest, _) = machine.stage("hello").unwrap();
    // From inside the namespace root's file and a third user's look alike; in a directory of the
    // user's own neither counts.
    for owner in [0, 12_345] {
        chown(&path, Some(owner), None).unwrap();
        let failure = machine.launch_with("hello", digest, &[]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Policy);
        assert!(failure.message.contains("uid 65534"), "{failure}");
    }
    let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
    chown(&path, Some(user.uid.as_raw()), None).unwrap();
    machine.launch_with("hello", digest, &[]).unwrap();
}

#[test]
fn a_users_launcher_mounts_a_runtime_of_the_system() {
    let test = "a_users_launcher_mounts_a_runtime_of_the_system";
    let Some(runtime) = workloads::python(test).and_then(|workload| workload.runtime) else {
        return;
    };
    let Some(machine) = start(test) else {
        return;
    };
    let directory = machine.add_plugin("script");
    fs::write(
        directory.join("probe"),
        "import os; print(os.listdir('/usr'))",
    )
    .unwrap();
    let more = format!("{}{LOWERED}", workloads::section(&runtime));
    machine.add_policy("script", &[], &more);
    let (digest, _) = machine.stage("script").unwrap();
    let launched = machine.launch_with("script", digest, &[]).unwrap();
    let text = output(launched.stdout);
    let errors = output(launched.stderr);
    assert!(
        text.contains("'lib'") && !text.contains("'share'"),
        "{text}{errors}"
    );
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(0));
    let elsewhere = "[runtime]\ninterpreter = \"/var/x\"\n";
    machine.add_policy("script", &[], &format!("{elsewhere}{LOWERED}"));
    let failure = machine.launch_with("script", digest, &[]).unwrap_err();
    assert!(failure.to_string().contains("/usr or /opt"), "{failure}");
}
