//! Connections to what a plugin says is its socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use pinfold_sandbox::protocol::{FailureKind, Launched, SocketDirectory};

use crate::machine::{Machine, has_root, lines_until};
use crate::skip::skip;

const TMP: &str = "/tmp/goatflow-plugin-hello";

fn launch(machine: &Machine, args: &[&str]) -> Launched {
    let mut launched = machine.run("hello", args, "").unwrap();
    let stdout = launched.stdout.try_clone().unwrap();
    lines_until(stdout, "ready");
    launched.missing.clear();
    launched
}

#[test]
fn a_socket_in_either_directory_is_connected_to() {
    if !has_root("a_socket_in_either_directory_is_connected_to") {
        return;
    }
    for (directory, path) in [
        (SocketDirectory::Run, "/run/plugin".to_owned()),
        (SocketDirectory::Tmp, TMP.to_owned()),
    ] {
        let machine = Machine::start();
        let listen = format!("listen={path}/plugin.sock");
        let launched = launch(&machine, &[&listen]);
        for _ in 0..3 {
            let socket = machine
                .connect(launched.instance, directory, "plugin.sock")
                .unwrap();
            let mut stream = UnixStream::from(socket);
            stream.write_all(b"hello").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "hello");
        }
        let other = match directory {
            SocketDirectory::Run => SocketDirectory::Tmp,
            SocketDirectory::Tmp => SocketDirectory::Run,
        };
        let failure = machine
            .connect(launched.instance, other, "plugin.sock")
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Plugin);
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    if !has_root("names_that_lead_elsewhere_are_refused") {
        return;
    }
    let machine = Machine::start();
    let listen = format!("listen={TMP}/plugin.sock");
    let launched = launch(&machine, &[&listen]);
    for name in ["", ".", "..", "../x", "a/b", "/run/x", ".hidden", "a\0b"] {
        let failure = machine
            .connect(launched.instance, SocketDirectory::Tmp, name)
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Request, "{name:?}: {failure}");
    }
}

#[test]
fn links_fifos_files_and_foreign_sockets_are_refused() {
    if !has_root("links_fifos_files_and_foreign_sockets_are_refused") {
        return;
    }
    let machine = Machine::start();
    let acts = [
        format!("symlink={TMP}/link"),
        format!("file={TMP}/file"),
        format!("listen={TMP}/real"),
    ];
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    let launched = launch(&machine, &acts);
    // A plugin cannot make one; whoever could has it in the plugin's directory.
    let fifo = format!("/proc/{}/root{TMP}/fifo", launched.pid);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::unistd::mkfifo(fifo.as_str(), mode).unwrap();
    for (name, why) in [
        ("link", "symbolic link"),
        ("fifo", "is a FIFO"),
        ("file", "is a regular file"),
        ("absent", "cannot be opened"),
    ] {
        let failure = machine
            .connect(launched.instance, SocketDirectory::Tmp, name)
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Plugin);
        assert!(failure.message.contains(name), "{failure}");
        assert!(failure.message.contains(why), "{failure}");
    }
    // A socket of somebody else's in there, made from outside through the plugin's own root: root
    // listens on it.
    let inside = format!("/proc/{}/root{TMP}/foreign", launched.pid);
    let foreign = std::os::unix::net::UnixListener::bind(&inside).unwrap();
    let failure = machine
        .connect(launched.instance, SocketDirectory::Tmp, "foreign")
        .unwrap_err();
    assert!(failure.message.contains("belongs to uid 0"), "{failure}");
    // And given to the plugin's user, it is still served from outside the jail.
    use std::os::unix::fs::MetadataExt;
    let real = format!("/proc/{}/root{TMP}/real", launched.pid);
    let uid = std::fs::metadata(real).unwrap().uid();
    std::os::unix::fs::lchown(&inside, Some(uid), Some(uid)).unwrap();
    let failure = machine
        .connect(launched.instance, SocketDirectory::Tmp, "foreign")
        .unwrap_err();
    assert!(failure.message.contains("outside the jail"), "{failure}");
    drop(foreign);
    machine
        .connect(launched.instance, SocketDirectory::Tmp, "real")
        .unwrap();
}

#[test]
fn a_plugin_that_accepts_nothing_holds_up_its_own_connections_alone() {
    if !has_root("a_plugin_that_accepts_nothing_holds_up_its_own_connections_alone") {
        return;
    }
    let machine = Machine::start();
    let full = format!("full={TMP}/full");
    let launched = launch(&machine, &[&full, "say=ready", "wait"]);
    let mut held = Vec::new();
    let failure = loop {
        match machine.connect(launched.instance, SocketDirectory::Tmp, "full") {
            Ok(socket) => held.push(socket),
            Err(failure) => break failure,
        }
        assert!(held.len() < 16, "its queue holds two");
    };
    assert_eq!(failure.kind, FailureKind::Plugin);
    assert!(failure.message.contains("queue was full"), "{failure}");
    assert!(machine.stats(launched.instance).is_ok());
}

#[test]
fn a_plugin_cannot_pass_descriptors_over_its_socket() {
    if !has_root("a_plugin_cannot_pass_descriptors_over_its_socket") {
        return;
    }
    let machine = Machine::start();
    let state = machine
        .posture(None)
        .control(pinfold_policy::Control::PassRights)
        .unwrap()
        .state;
    if state != pinfold_sandbox::posture::State::Enforced {
        let reason = "this kernel has no SO_PASSRIGHTS";
        skip(
            "a_plugin_cannot_pass_descriptors_over_its_socket",
            "pass-rights",
            reason,
        );
        return;
    }
    let rights = format!("rights={TMP}/plugin.sock");
    let launched = launch(&machine, &[&rights, "say=ready", "wait"]);
    let output = launched.stdout.try_clone().unwrap();
    let _socket = machine
        .connect(launched.instance, SocketDirectory::Tmp, "plugin.sock")
        .unwrap();
    let lines = lines_until(output, "ready");
    assert_eq!(lines, ["pass-rights: Operation not permitted"]);
}
