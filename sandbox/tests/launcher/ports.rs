//! TCP across the border of a jail's network: listeners that are made inside and accepted on here,
//! and connections to what a plugin listens on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use pinfold_sandbox::protocol::{FailureKind, Launched, ListenerPurpose, Loopback};

use crate::machine::{Machine, Setup, has_root, lines_until};

/// The port of the goatflow template.
const PROXY_PORT: u16 = 3128;

pub(crate) const HTTP: &str = "[permissions]\nhttp = [{ hosts = ['api.test'] }]\n";

pub(crate) fn ready(launched: &Launched) {
    lines_until(launched.stdout.try_clone().unwrap(), "ready");
}

/// Sends five bytes and reads them back.
pub(crate) fn echoes(socket: OwnedFd) {
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"hello").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
}

#[test]
fn a_port_that_a_plugin_listens_on_is_connected_to() {
    if !has_root("a_port_that_a_plugin_listens_on_is_connected_to") {
        return;
    }
    for pool in [0, 1] {
        let machine = Machine::with(Setup {
            config: &format!("netns-pool = {pool}\n"),
            ..Setup::default()
        });
        let launched = machine.run("hello", &["tcp=10001"], "").unwrap();
        ready(&launched);
        for _ in 0..3 {
            let socket = machine
                .connect_port(launched.instance, Loopback::V4, 10001)
                .unwrap();
            echoes(socket);
        }
        for (loopback, port) in [(Loopback::V4, 10002), (Loopback::V6, 10001)] {
            let failure = machine
                .connect_port(launched.instance, loopback, port)
                .unwrap_err();
            assert_eq!(failure.kind, FailureKind::Plugin);
            assert!(failure.message.contains("Connection refused"), "{failure}");
        }
    }
}

#[test]
fn a_port_is_the_jails_and_never_the_machines_or_another_plugins() {
    if !has_root("a_port_is_the_jails_and_never_the_machines_or_another_plugins") {
        return;
    }
    let machine = Machine::start();
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = here.local_addr().unwrap().port();
    let quiet = machine.run("quiet", &["say=ready", "wait"], "").unwrap();
    ready(&quiet);
    let other = machine.run("other", &[&format!("tcp={port}")], "").unwrap();
    ready(&other);
    let failure = machine
        .connect_port(quiet.instance, Loopback::V4, port)
        .unwrap_err();
    assert!(failure.message.contains("Connection refused"), "{failure}");
    echoes(
        machine
            .connect_port(other.instance, Loopback::V4, port)
            .unwrap(),
    );
    here.set_nonblocking(true).unwrap();
    assert_eq!(
        here.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[test]
fn a_port_that_accepts_nothing_holds_up_its_own_connections_alone() {
    if !has_root("a_port_that_accepts_nothing_holds_up_its_own_connections_alone") {
        return;
    }
    let machine = Machine::start();
    let full = machine
        .run("full", &["tcp-full=10001", "say=ready", "wait"], "")
        .unwrap();
    ready(&full);
    let mut held = Vec::new();
    let failure = loop {
        match machine.connect_port(full.instance, Loopback::V4, 10001) {
            Ok(socket) => held.push(socket),
            Err(failure) => break failure,
        }
        assert!(held.len() < 16, "its queue holds two");
    };
    assert_eq!(failure.kind, FailureKind::Plugin);
    assert!(
        failure.message.contains("accepts no connection"),
        "{failure}"
    );
    assert!(machine.stats(full.instance).is_ok());
}

#[test]
fn a_listener_is_made_where_http_is_granted_and_tells_who_connects() {
    if !has_root("a_listener_is_made_where_http_is_granted_and_tells_who_connects") {
        return;
    }
    let machine = Machine::start();
    let none = machine
        .run("none", &["say=ready", "dial=3128", "wait"], "")
        .unwrap();
    assert!(none.listeners.is_empty());
    let text = crate::machine::output(none.stdout);
    assert_eq!(text, "ready\ndial: Connection refused\n");

    // Two at the same port, each in its own network.
    for name in ["one", "two"] {
        let launched = machine
            .run(name, &["dial=3128", "say=ready", "wait"], HTTP)
            .unwrap();
        let [listener] = launched.listeners.as_slice() else {
            panic!("{:?}", launched.listeners);
        };
        assert_eq!(listener.purpose, ListenerPurpose::HttpProxy);
        assert_eq!(listener.port, PROXY_PORT);
        let socket = TcpListener::from(listener.socket.try_clone().unwrap());
        let (mut stream, peer) = socket.accept().unwrap();
        assert!(peer.ip().is_loopback());
        let mut said = [0; 5];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"here\n");
        stream.write_all(name.as_bytes()).unwrap();
        drop(stream);
        let lines = lines_until(launched.stdout.try_clone().unwrap(), "ready");
        assert_eq!(lines, [name]);

        // Its own listener is no port of the plugin's.
        let failure = machine
            .connect_port(launched.instance, Loopback::V4, PROXY_PORT)
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Plugin);
        assert!(failure.message.contains("the host's own"), "{failure}");
    }
}

#[test]
fn a_plugin_cannot_take_the_port_of_the_hosts_listener() {
    if !has_root("a_plugin_cannot_take_the_port_of_the_hosts_listener") {
        return;
    }
    let machine = Machine::start();
    let launched = machine.run("taker", &["tcp=3128"], HTTP).unwrap();
    assert_eq!(launched.listeners.len(), 1);
    let text = crate::machine::output(launched.stdout);
    assert_eq!(text, "listen: Address already in use\n");
}
