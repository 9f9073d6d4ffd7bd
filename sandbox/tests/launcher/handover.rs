//! One daemon after another on the same launcher: what is kept between them, what is not, and what a
//! daemon that lies about it gets.

#[path = "handover/left.rs"]
mod left;

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

use pinfold_policy::{Digest, Generation};
use pinfold_sandbox::protocol::{
    Adopted, EndedKept, ExitCause, Failure, FailureKind, KillHow, Launched, ListenerPurpose,
    NOTE_LIMIT_BYTES, Reply, Request, SocketDirectory,
};

use crate::machine::{Machine, Setup, eventually, has_root, id, lines_until};
use crate::ports::echoes;

const NOTE: &str = "1|1|unix|/tmp/goatflow-plugin-kept/plugin.sock|netrpc|";

/// A launcher as a service, and the socket on which daemons come in.
fn service(config: &str) -> Machine {
    Machine::service(Setup {
        config,
        user: Some("root"),
        ..Setup::default()
    })
}

/// A plugin that listens, and is seen to.
fn listening(machine: &Machine, plugin: &str) -> (Launched, Digest) {
    machine.add_plugin(plugin);
    let listen = format!("listen=/tmp/goatflow-plugin-{plugin}/plugin.sock");
    machine.add_policy(plugin, &[&listen], "");
    let (digest, _) = machine.stage(plugin).unwrap();
    let launched = machine.launch_with(plugin, digest, &[]).unwrap();
    lines_until(launched.stdout.try_clone().unwrap(), "ready");
    (launched, digest)
}

fn hand_over(machine: &Machine, kept: &[&Launched]) {
    assert!(matches!(
        machine.call(&Request::Handover),
        Ok(Reply::HandingOver { limit }) if !limit.is_zero()
    ));
    for launched in kept {
        assert!(matches!(keep(machine, launched, NOTE), Ok(Reply::Kept)));
    }
}

fn keep(machine: &Machine, launched: &Launched, note: &str) -> Result<Reply, Failure> {
    machine.call(&Request::Keep {
        instance: launched.instance,
        note: note.into(),
    })
}

/// What was kept of a plugin; or why it is there no more, where there was something.
fn adopt(machine: &Machine, plugin: &str, digest: Digest) -> Result<Adopted, Option<String>> {
    let plugin = id(plugin);
    match machine.call(&Request::Adopt { plugin, digest }).unwrap() {
        Reply::Adopted(adopted) => Ok(adopted),
        Reply::NotKept { ended } => Err(ended.map(|ended| ended.reason)),
        other => panic!("{other:?}"),
    }
}

/// What has become of one that was kept and not adopted.
fn discard(machine: &Machine, plugin: Option<&str>) -> Option<EndedKept> {
    let plugin = plugin.map(id);
    match machine.call(&Request::Discard { plugin }).unwrap() {
        Reply::NotKept { ended } => ended,
        other => panic!("{other:?}"),
    }
}

fn lives(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn ends(pid: u32, why: &str) {
    eventually(why, || !lives(pid));
}

fn connects(machine: &Machine, launched: &Launched) {
    let socket: OwnedFd = machine
        .connect(launched.instance, SocketDirectory::Tmp, "plugin.sock")
        .unwrap();
    echoes(socket);
}

#[test]
fn what_is_kept_goes_on_and_the_next_daemon_has_all_of_it() {
    if !has_root("what_is_kept_goes_on_and_the_next_daemon_has_all_of_it") {
        return;
    }
    let mut machine = service("");
    machine.add_plugin("kept");
    machine.add_policy(
        "kept",
        &["say=first", "listen=/tmp/goatflow-plugin-kept/plugin.sock"],
        "[permissions]\nhttp = [{ hosts = ['api.example.com'] }]\n",
    );
    let (digest, _) = machine.stage("kept").unwrap();
    let kept = machine.launch_with("kept", digest, &[]).unwrap();
    let (other, _) = listening(&machine, "other");
    let facts = crate::lies::facts(kept.pid);
    hand_over(&machine, &[&kept]);
    let (pid, instance, trust) = (kept.pid, kept.instance, kept.trust.clone());
    // The daemon's own ends of the pipes go with it.
    drop(kept);
    machine.reconnect();
    ends(other.pid, "what was not kept ends");

    let (staged, _) = machine.stage("kept").unwrap();
    assert_eq!(staged, digest);
    let adopted = adopt(&machine, "kept", digest).unwrap();
    assert_eq!(
        (adopted.generation, adopted.note.as_str()),
        (Generation(1), NOTE)
    );
    let again = adopted.launched;
    assert_eq!((again.pid, again.instance), (pid, instance));
    assert_eq!(again.trust, trust);
    assert_eq!(crate::lies::facts(pid), facts);
    let [listener] = again.listeners.as_slice() else {
        panic!("{:?}", again.listeners);
    };
    assert_eq!(listener.purpose, ListenerPurpose::HttpProxy);
    assert_eq!(
        rustix::net::sockopt::socket_acceptconn(&listener.socket),
        Ok(true)
    );
    // What it printed and nobody read is still there.
    let lines = lines_until(again.stdout.try_clone().unwrap(), "ready");
    assert_eq!(lines, ["first"]);
    connects(&machine, &again);
    assert_eq!(adopt(&machine, "kept", digest).unwrap_err(), None, "twice");
    assert!(machine.stats(instance).is_ok());
    machine.kill(instance, KillHow::Kill).unwrap();
    assert_eq!(machine.exited(instance), ExitCause::Killed);
}

#[test]
fn without_handover_or_with_nothing_kept_the_end_of_the_connection_is_the_end_of_all() {
    if !has_root(
        "without_handover_or_with_nothing_kept_the_end_of_the_connection_is_the_end_of_all",
    ) {
        return;
    }
    for asks in [false, true] {
        let mut machine = service("");
        let (launched, _) = listening(&machine, "kept");
        let refused = keep(&machine, &launched, NOTE).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Request, "{refused}");
        if asks {
            hand_over(&machine, &[]);
        }
        machine.close();
        assert_eq!(machine.child.wait().unwrap().code(), Some(0));
        ends(launched.pid, "asked, or not");
    }
}

#[test]
fn a_launcher_that_may_not_or_cannot_keep_says_so_and_ends_every_jail() {
    if !has_root("a_launcher_that_may_not_or_cannot_keep_says_so_and_ends_every_jail") {
        return;
    }
    let mut none = service("handover-limit = \"0s\"\n");
    let mut given = Machine::start();
    for (machine, why) in [
        (&mut none, "handover-limit is 0"),
        (&mut given, "one connection"),
    ] {
        let (launched, _) = listening(machine, "kept");
        let refused = machine.call(&Request::Handover).unwrap_err();
        assert!(refused.message.contains(why), "{refused}");
        assert!(keep(machine, &launched, NOTE).is_err());
        machine.close();
        assert_eq!(machine.child.wait().unwrap().code(), Some(0));
        ends(launched.pid, why);
    }
}

#[test]
fn a_launcher_whose_program_was_replaced_keeps_nothing() {
    if !has_root("a_launcher_whose_program_was_replaced_keeps_nothing") {
        return;
    }
    let mut machine = service("");
    let program = machine.path("pinfold-launcher");
    let (launched, _) = listening(&machine, "kept");
    let put = |bytes: &[u8]| {
        let new = machine.path("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, &program).unwrap();
    };
    let same = fs::read(&program).unwrap();
    put(&same);
    hand_over(&machine, &[&launched]);
    put(&[&same[..], b"new"].concat());
    let refused = machine.call(&Request::Handover).unwrap_err();
    assert!(refused.message.contains("replaced"), "{refused}");
    // What was asked for before holds no more either.
    assert!(keep(&machine, &launched, NOTE).is_err());
    machine.close();
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    ends(launched.pid, "the launcher is to be another");
}

#[test]
fn a_launcher_whose_configuration_has_changed_keeps_nothing() {
    if !has_root("a_launcher_whose_configuration_has_changed_keeps_nothing") {
        return;
    }
    let mut machine = service("");
    let (launched, _) = listening(&machine, "kept");
    let path = machine.path("launcher.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("require-signatures = true\n{text}")).unwrap();
    let refused = machine.call(&Request::Handover).unwrap_err();
    assert!(
        refused.message.contains("launcher.toml\" has changed"),
        "{refused}"
    );
    assert!(keep(&machine, &launched, NOTE).is_err());
    fs::write(&path, text).unwrap();
    hand_over(&machine, &[&launched]);
    machine.reconnect();
    assert!(machine.child.try_wait().unwrap().is_none());
}

#[test]
fn what_no_launch_would_make_any_more_is_not_adopted_and_ends() {
    if !has_root("what_no_launch_would_make_any_more_is_not_adopted_and_ends") {
        return;
    }
    type Change = fn(&Machine);
    let changes: [(&str, Change); 8] = [
        ("its policy has changed", |machine| {
            machine.add_policy("kept", &["wait"], "[limits]\nprocesses = 30\n");
        }),
        ("there is no policy", |machine| {
            fs::remove_file(machine.path("policies/kept.toml")).unwrap();
        }),
        ("the policy trusts sha256:", |machine| {
            let pinned = format!("[trust]\ndigest = \"{}\"\n", Digest([7; 32]));
            machine.add_policy("kept", &["wait"], &pinned);
        }),
        ("its files have changed", |machine| {
            fs::write(machine.path("plugins/kept/more"), "x").unwrap();
        }),
        (ANOTHER_READ, |machine| {
            put_data(machine, "profiles/default.toml", LESS);
        }),
        (ANOTHER_READ, |machine| {
            let own = include_str!("../../dialects/goatflow.toml");
            let other = own.replace("http-proxy-port = 3128", "http-proxy-port = 3129");
            put_data(machine, "dialects/goatflow.toml", &other);
        }),
        ("syscall profile:", |machine| {
            put_data(machine, "profiles/default.toml", "no profile");
        }),
        ("it is to be watched", |machine| {
            crate::watched::order(machine, "kept", 60);
        }),
    ];
    for (why, change) in changes {
        let mut machine = service("watched-runs = true\n");
        let (launched, _) = listening(&machine, "kept");
        hand_over(&machine, &[&launched]);
        machine.reconnect();
        change(&machine);
        let (digest, _) = machine.stage("kept").unwrap();
        let reason = adopt(&machine, "kept", digest).unwrap_err().unwrap();
        assert!(reason.contains(why), "{reason}");
        ends(launched.pid, why);
        assert_eq!(adopt(&machine, "kept", digest).unwrap_err(), None);
    }
}

const ANOTHER_READ: &str = "its launch template, syscall profile, runtime or mounts have changed";

/// Another in place of the default: without calls of sockets.
const LESS: &str = r#"
schema = 1
name = "default"
arch = ["x86_64", "aarch64"]
default = "enosys"
[use]
base = "static"
include = ["@exit-signal", "@memory", "@threads", "@process", "@io", "@file"]
"#;

/// A file of `data-dir`.
fn put_data(machine: &Machine, name: &str, text: &str) {
    let path = machine.path("data").join(name);
    let directory = path.parent().unwrap();
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn what_runs_by_a_runtime_that_was_replaced_is_not_adopted() {
    if !has_root("what_runs_by_a_runtime_that_was_replaced_is_not_adopted") {
        return;
    }
    // Not beneath /tmp, where a jail has a directory of its own.
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let put = |name: &str| {
        let path = place.path().join(name);
        fs::copy("/usr/bin/env", &path).unwrap();
        path
    };
    let loader = put("loader");
    let more = format!("[runtime]\nloader = {loader:?}\n");
    let mut machine = service("");
    machine.add_plugin("kept");
    machine.add_policy("kept", &["wait"], &more);
    let (digest, _) = machine.stage("kept").unwrap();
    let mut kept = machine.launch_with("kept", digest, &[]).unwrap();
    for is_replaced in [false, true] {
        hand_over(&machine, &[&kept]);
        machine.reconnect();
        if is_replaced {
            fs::rename(put("new"), &loader).unwrap();
        }
        machine.stage("kept").unwrap();
        match adopt(&machine, "kept", digest) {
            Ok(adopted) if !is_replaced => kept = adopted.launched,
            Err(Some(reason)) if is_replaced => assert_eq!(reason, ANOTHER_READ),
            other => panic!("{is_replaced}: {other:?}"),
        }
    }
    ends(kept.pid, "its runtime is another");
}

#[test]
fn nobody_has_anything_of_what_is_kept_before_it_is_adopted_nor_by_another_name() {
    if !has_root("nobody_has_anything_of_what_is_kept_before_it_is_adopted_nor_by_another_name") {
        return;
    }
    let mut machine = service("");
    let (kept, digest) = listening(&machine, "kept");
    hand_over(&machine, &[&kept]);
    machine.reconnect();
    let refused = |outcome: Result<(), Failure>| {
        let failure = outcome.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Request, "{failure}");
    };
    refused(machine.stats(kept.instance).map(drop));
    refused(machine.kill(kept.instance, KillHow::Kill));
    let to = (SocketDirectory::Tmp, "plugin.sock");
    refused(machine.connect(kept.instance, to.0, to.1).map(drop));
    refused(keep(&machine, &kept, NOTE).map(drop));
    hand_over(&machine, &[]);
    refused(keep(&machine, &kept, NOTE).map(drop));
    // Another plugin with the very same files.
    machine.add_plugin("other");
    machine.add_policy("other", &["wait"], "");
    let (same, _) = machine.stage("other").unwrap();
    assert_eq!(same, digest);
    assert_eq!(adopt(&machine, "other", digest).unwrap_err(), None);
    // A launch of the plugin is in the place of what was kept of it.
    machine.stage("kept").unwrap();
    let anew = machine.launch_with("kept", digest, &[]).unwrap();
    assert_ne!(anew.pid, kept.pid);
    ends(kept.pid, "it is replaced");
    assert_eq!(adopt(&machine, "kept", digest).unwrap_err(), None);
    let long = "x".repeat(NOTE_LIMIT_BYTES + 1);
    let bytes = Request::Keep {
        instance: anew.instance,
        note: long,
    }
    .to_bytes(1);
    assert!(bytes.is_err(), "{bytes:?}");
}

#[test]
fn a_flood_of_handovers_takes_no_memory_and_keeps_one_note() {
    if !has_root("a_flood_of_handovers_takes_no_memory_and_keeps_one_note") {
        return;
    }
    let mut machine = service("");
    let (kept, digest) = listening(&machine, "kept");
    let before = (machine.memory_kib(), machine.descriptors());
    let note = "n".repeat(NOTE_LIMIT_BYTES);
    for _ in 0..2_000 {
        hand_over(&machine, &[]);
        keep(&machine, &kept, &note).unwrap();
        assert_eq!(adopt(&machine, "kept", digest).unwrap_err(), None);
    }
    let after = (machine.memory_kib(), machine.descriptors());
    assert!(after.0 < before.0 + 8 * 1024, "{before:?}, then {after:?}");
    assert!(after.1 < before.1 + 20, "{before:?}, then {after:?}");
    machine.reconnect();
    assert_eq!(adopt(&machine, "kept", digest).unwrap().note, note);
}

#[test]
fn only_the_daemons_user_comes_after_the_daemon() {
    if !has_root("only_the_daemons_user_comes_after_the_daemon") {
        return;
    }
    let mut machine = service("");
    let (kept, digest) = listening(&machine, "kept");
    hand_over(&machine, &[&kept]);
    machine.close();
    let path = machine.path("launcher.sock");
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "the test connects as another user"
    )]
    let nobody = std::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--clear-groups",
            "--",
            "perl",
            "-MSocket",
            "-e",
        ])
        .arg(
            "socket(S, AF_UNIX, SOCK_SEQPACKET, 0) or die $!; \
             connect(S, sockaddr_un($ARGV[0])) or die $!; \
             my $read = sysread(S, my $bytes, 1); print defined $read ? $read : 'reset'",
        )
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&nobody.stdout).into_owned();
    // What ends its connection may have come before it was read from, or after.
    assert!(["0", "reset"].contains(&said.trim()), "{nobody:?}");
    machine.reconnect();
    connects(&machine, &adopt(&machine, "kept", digest).unwrap().launched);
}

#[test]
fn what_is_shown_a_directory_that_was_replaced_is_not_adopted() {
    if !has_root("what_is_shown_a_directory_that_was_replaced_is_not_adopted") {
        return;
    }
    let mut machine = service("");
    let make = |machine: &Machine, name: &str| {
        let path = machine.path(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    };
    let shown = make(&machine, "shown");
    let more = format!("[[mounts]]\nsource = {shown:?}\ntarget = \"/data\"\n");
    machine.add_plugin("kept");
    machine.add_policy("kept", &["wait"], &more);
    let (digest, _) = machine.stage("kept").unwrap();
    let mut kept = machine.launch_with("kept", digest, &[]).unwrap();
    for is_replaced in [false, true] {
        hand_over(&machine, &[&kept]);
        machine.reconnect();
        // What is put into it does not count.
        fs::write(shown.join(is_replaced.to_string()), "").unwrap();
        if is_replaced {
            fs::rename(&shown, machine.path("before")).unwrap();
            make(&machine, "shown");
        }
        machine.stage("kept").unwrap();
        match adopt(&machine, "kept", digest) {
            Ok(adopted) if !is_replaced => kept = adopted.launched,
            Err(Some(reason)) if is_replaced => assert_eq!(reason, ANOTHER_READ),
            other => panic!("{is_replaced}: {other:?}"),
        }
    }
}
