//! A daemon that lies in every field, floods, and closes half of its connection: it gets nothing that an
//! honest one could not have, and the launcher serves on or ends with every jail.

use std::cell::Cell;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use pinfold_policy::{Digest, InstanceId};
use pinfold_sandbox::protocol::{
    FailureKind, KillHow, Launched, PACKET_LIMIT_BYTES, Reply, SocketDirectory,
};
use rustix::net::Shutdown;

use crate::decoder::{Dice, requests};
use crate::lies::{Forged, facts, hash};
use crate::machine::{Machine, eventually, has_root, lines_until};
use crate::ports::echoes;

const TMP: &str = "/tmp/goatflow-plugin-other";

/// Names that are no plugin's, or lead somewhere.
fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "",
        ".",
        "..",
        "/",
        "../hello",
        "hello/../other",
        "/etc",
        "hello\0",
        "\0",
        "Hello",
        "héllo",
        " hello",
        "hello ",
        "hello\n",
        "-hello",
        "_hello",
        "hello.toml",
        "hello/probe",
        "~root",
        "%2e%2e",
        "plugins",
        "other/..",
        "con:hello",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend([vec![0xff, 0xfe], vec![b'a'; 64], vec![b'a'; 30_000]]);
    names
}

/// Each lie, by what it is about. `others` is the digest of a stage that is another plugin's.
fn lies(others: Digest, running: InstanceId) -> Vec<(String, Forged)> {
    let [
        probe,
        _,
        stage,
        launch,
        connect,
        port,
        kill,
        stats,
        trust,
        ..,
    ] = &requests()[..]
    else {
        panic!("one of each kind");
    };
    let [.., keep, adopt, discard] = &requests()[..] else {
        panic!("one of each kind");
    };
    let like = Forged::like;
    let mut lies = Vec::new();
    for name in names() {
        let shown = String::from_utf8_lossy(&name[..name.len().min(20)]).into_owned();
        lies.extend([
            (
                format!("probe {shown:?}"),
                like(probe).bytes(&[1]).text(&name),
            ),
            (format!("stage {shown:?}"), like(stage).text(&name)),
            (
                format!("launch {shown:?}"),
                like(launch).text(&name).u64(1).bytes(&others.0).bytes(&[0]),
            ),
            (
                format!("trust {shown:?}"),
                like(trust).text(&name).bytes(&others.0),
            ),
            (
                format!("adopt {shown:?}"),
                like(adopt).text(&name).bytes(&others.0[..31]),
            ),
            (
                format!("keep {shown:?}"),
                like(keep).u64(running.0).text(&name),
            ),
            (
                format!("discard {shown:?}"),
                like(discard).bytes(&[1]).text(&name).bytes(&[0]),
            ),
        ]);
    }
    let hello = |digest: &[u8]| like(launch).text(b"hello").u64(1).bytes(digest);
    for (what, digest) in [
        ("none", [0; 32]),
        ("all", [0xff; 32]),
        ("another's", others.0),
    ] {
        lies.push((format!("digest {what}"), hello(&digest).bytes(&[0])));
        let asked = like(trust).text(b"hello").bytes(&digest);
        lies.push((format!("trust in digest {what}"), asked));
    }
    for unknown in [0, running.0 + 1, running.0 + 1_000, u64::MAX] {
        let connect = like(connect).u64(unknown).bytes(&[1]).text(b"plugin.sock");
        lies.extend([
            (format!("connect {unknown}"), connect),
            (
                format!("port {unknown}"),
                like(port).u64(unknown).bytes(&[0, 0, 80]),
            ),
            (
                format!("kill {unknown}"),
                like(kill).u64(unknown).bytes(&[1]),
            ),
            (format!("stats {unknown}"), like(stats).u64(unknown)),
            (
                format!("keep {unknown}"),
                like(keep).u64(unknown).text(b"note"),
            ),
        ]);
    }
    for name in [
        &b""[..],
        b".",
        b"..",
        b"../other/plugin.sock",
        b"a/b",
        b"/run/plugin/x",
        b".hidden",
        b"plugin.sock\0",
        b"a b",
        b"\xff",
        b"absent",
        &[b'a'; 65],
        &[b'a'; 30_000],
    ] {
        for directory in [0, 1] {
            let shown = String::from_utf8_lossy(&name[..name.len().min(20)]).into_owned();
            let connect = like(connect).u64(running.0).bytes(&[directory]).text(name);
            lies.push((format!("connect to {shown:?}"), connect));
        }
    }
    for odd in [2, 0x7f, 0xff] {
        let connect = like(connect)
            .u64(running.0)
            .bytes(&[odd])
            .text(b"plugin.sock");
        lies.extend([
            (format!("directory {odd}"), connect),
            (
                format!("loopback {odd}"),
                like(port).u64(running.0).bytes(&[odd, 0, 80]),
            ),
            (
                format!("kill how {odd}"),
                like(kill).u64(running.0).bytes(&[odd]),
            ),
            (
                format!("probe flag {odd}"),
                like(probe).bytes(&[odd]).text(b"hello"),
            ),
            (
                format!("discard flag {odd}"),
                like(discard).bytes(&[odd]).text(b"hello"),
            ),
        ]);
    }
    lies.push(("port 0".into(), like(port).u64(running.0).bytes(&[0, 0, 0])));
    for odd in [0, 0x20, 0x3f, 0x41, 0x43, 0x7f, 0x80, 0xff] {
        let mut forged = like(stage).text(b"hello");
        forged.0[1] = odd;
        lies.push((format!("type {odd:#x}"), forged));
    }
    lies
}

/// Values that a launch may not be given, for a stage that may be launched.
fn values(digest: Digest) -> Vec<(String, Forged)> {
    let launch = &requests()[3];
    let with = |values: &[(&[u8], &[u8])]| {
        let head = Forged::like(launch).text(b"hello").u64(1).bytes(&digest.0);
        let count = u8::try_from(values.len()).unwrap();
        values
            .iter()
            .fold(head.bytes(&[count]), |forged, (name, value)| {
                forged.text(name).text(value)
            })
    };
    let good: (&[u8], &[u8]) = (b"GOATKIT_PLUGIN", b"goatkit-v1");
    let mut lies = vec![("the same value twice".to_owned(), with(&[good, good]))];
    for name in [
        "LD_PRELOAD",
        "PATH",
        "HOME",
        "TMPDIR",
        "GODEBUG",
        "PLUGIN_CLIENT_CERT",
        "HTTP_PROXY",
        "PLUGIN_UNIX_SOCKET_DIR",
        "GOATFLOW_NO_NETWORK",
        "goatkit_plugin",
        "GOATKIT_PLUGIN ",
        "",
        "=",
        "GOATKIT_PLUGIN=x",
        "GOATKIT_PLUGIN\0",
    ] {
        lies.push((
            format!("the value {name:?}"),
            with(&[(name.as_bytes(), b"1")]),
        ));
    }
    for value in [
        &b"two words"[..],
        b"x\0LD_PRELOAD=/state/evil.so",
        b"line\nline",
        b"\xff",
        b"../..",
        b"$(id)",
        &[b'x'; 65],
        &[b'x'; 9_000],
        &[b'x'; 30_000],
    ] {
        let shown = String::from_utf8_lossy(&value[..value.len().min(20)]).into_owned();
        lies.push((format!("valued {shown:?}"), with(&[(good.0, value)])));
    }
    let names: Vec<String> = (0..65).map(|n| format!("N{n}")).collect();
    let many: Vec<(&[u8], &[u8])> = names
        .iter()
        .map(|name| (name.as_bytes(), &b"1"[..]))
        .collect();
    lies.push(("64 values".to_owned(), with(&many[..64])));
    lies.push(("65 values".to_owned(), with(&many)));
    lies
}

/// A machine on which `other` runs and listens; nobody lies about it without being refused.
fn with_other() -> (Machine, Launched, Digest) {
    let machine = Machine::start();
    fs::write(machine.add_plugin("other").join("extra"), "").unwrap();
    let listen = format!("listen={TMP}/plugin.sock");
    machine.add_policy("other", &[&listen], "");
    let (digest, _) = machine.stage("other").unwrap();
    let other = machine.launch_with("other", digest, &[]).unwrap();
    lines_until(other.stdout.try_clone().unwrap(), "ready");
    (machine, other, digest)
}

/// Its socket still echoes.
#[track_caller]
fn assert_serves(machine: &Machine, other: &Launched) {
    let socket: OwnedFd = machine
        .connect(other.instance, SocketDirectory::Tmp, "plugin.sock")
        .unwrap();
    echoes(socket);
}

#[test]
fn a_lie_in_any_field_is_refused_and_changes_no_jail() {
    if !has_root("a_lie_in_any_field_is_refused_and_changes_no_jail") {
        return;
    }
    let (machine, other, others) = with_other();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["say=ready", "wait"], "");
    let (digest, _) = machine.stage("hello").unwrap();
    let start = || {
        let launched = machine.launch_with("hello", digest, &[]).unwrap();
        lines_until(launched.stdout.try_clone().unwrap(), "ready");
        let found = facts(launched.pid);
        machine.kill(launched.instance, KillHow::Kill).unwrap();
        machine.exited(launched.instance);
        found
    };
    let before = start();
    let others_facts = facts(other.pid);
    let mut lies = lies(others, other.instance);
    lies.extend(values(digest));
    assert!(lies.len() >= 200, "{}", lies.len());
    for (what, forged) in &lies {
        let kind = machine.refused(what, forged, 0);
        let is_expected = matches!(
            kind,
            FailureKind::Request | FailureKind::Plugin | FailureKind::Stage | FailureKind::Policy
        );
        assert!(is_expected, "{what}: {kind:?}");
    }
    // Cut, prolonged, and with descriptors that no request has.
    for request in requests() {
        let whole = request.to_bytes(1).unwrap();
        for length in 6..whole.len() {
            let cut = Forged(whole[..length].to_vec());
            let kind = machine.refused(&format!("{request:?} cut at {length}"), &cut, 0);
            assert_eq!(kind, FailureKind::Request);
        }
        for (more, descriptors) in [(1, 0), (100, 0), (0, 1), (0, 4), (0, 5)] {
            let forged = Forged([&whole[..], &vec![0; more]].concat());
            let what = format!("{request:?} with {more} bytes and {descriptors} descriptors more");
            assert_eq!(
                machine.refused(&what, &forged, descriptors),
                FailureKind::Request
            );
        }
    }
    assert_serves(&machine, &other);
    assert_eq!(facts(other.pid), others_facts);
    assert_eq!(
        start(),
        before,
        "a jail after the lies is as one before them"
    );
    // Nothing was made of any name.
    let mut made: Vec<_> = fs::read_dir(machine.path("state/state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    made.sort();
    assert_eq!(made, ["hello", "other"]);
}

#[test]
fn descriptors_that_come_with_a_request_are_closed() {
    if !has_root("descriptors_that_come_with_a_request_are_closed") {
        return;
    }
    let (machine, other, _) = with_other();
    // A descriptor for each would be two thousand.
    let before = machine.descriptors();
    let whole = requests()[7].to_bytes(1).unwrap();
    for _ in 0..500 {
        machine.refused("descriptors", &Forged(whole.clone()), 4);
    }
    let after = machine.descriptors();
    assert!(after < before + 50, "{before}, then {after}");
    assert_serves(&machine, &other);
}

#[test]
fn no_order_of_requests_runs_what_was_not_verified_or_reaches_another_plugin() {
    if !has_root("no_order_of_requests_runs_what_was_not_verified_or_reaches_another_plugin") {
        return;
    }
    let (machine, other, others) = with_other();
    // The policy pins the files; somebody then puts another program there.
    let entry = machine.add_plugin("hello").join("probe");
    machine.add_policy("hello", &["say=ready", "wait"], "");
    let (reviewed, _) = machine.stage("hello").unwrap();
    let pinned = format!("[trust]\ndigest = \"{reviewed}\"\n");
    machine.add_policy("hello", &["say=ready", "wait"], &pinned);
    let verified = format!("runs {}", hash(entry.to_str().unwrap()));
    let launched = machine.launch_with("hello", reviewed, &[]).unwrap();
    let reference = facts(launched.pid);
    assert!(reference.contains(&verified), "{reference:?}");
    machine.kill(launched.instance, KillHow::Kill).unwrap();
    machine.exited(launched.instance);
    let mut altered = fs::read(&entry).unwrap();
    altered.extend(b"altered");
    fs::write(&entry, altered).unwrap();
    let (bad, _) = machine.stage("hello").unwrap();
    assert_ne!(bad, reviewed);

    let mut dice = Dice(0x0bad_5eed);
    let plugins = ["hello", "other", "absent"];
    let (mut runs, mut refusals) = (0, 0);
    for round in 0..1_500 {
        let plugin = *dice.of(&plugins);
        let digest = *dice.of(&[reviewed, bad, others, Digest([0; 32])]);
        if dice.below(8) == 0 {
            drop(machine.stage(plugin));
            continue;
        }
        let generation = *dice.of(&[0, 1, 2, u64::MAX]);
        let forged = Forged::like(&requests()[3])
            .text(plugin.as_bytes())
            .u64(generation)
            .bytes(&digest.0)
            .bytes(&[0]);
        machine.send_raw(&forged.0, 0).unwrap();
        let reply = match machine.answer() {
            Err(_) => {
                refusals += 1;
                continue;
            }
            Ok(reply) => reply,
        };
        let Reply::Launched(launched) = reply else {
            panic!("{reply:?}");
        };
        runs += 1;
        let found = facts(launched.pid);
        match plugin {
            "hello" => {
                assert_eq!(digest, reviewed, "round {round}");
                assert_eq!(found, reference, "round {round}");
            }
            "other" => assert_eq!(digest, others, "round {round}"),
            _ => panic!("there is no {plugin}"),
        }
        machine.kill(launched.instance, KillHow::Kill).unwrap();
        machine.exited(launched.instance);
    }
    assert!(
        runs > 50 && refusals > 500,
        "{runs} runs, {refusals} refusals"
    );
    assert_serves(&machine, &other);
}

#[test]
fn a_port_or_socket_of_one_instance_is_never_anothers() {
    if !has_root("a_port_or_socket_of_one_instance_is_never_anothers") {
        return;
    }
    let (machine, other, _) = with_other();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["say=ready", "wait"], "");
    let (digest, _) = machine.stage("hello").unwrap();
    let hello = machine.launch_with("hello", digest, &[]).unwrap();
    lines_until(hello.stdout.try_clone().unwrap(), "ready");
    for directory in [SocketDirectory::Run, SocketDirectory::Tmp] {
        let failure = machine
            .connect(hello.instance, directory, "plugin.sock")
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Plugin, "{failure}");
    }
    // An ended instance has nothing, and its number comes to nobody else.
    machine.kill(hello.instance, KillHow::Kill).unwrap();
    machine.exited(hello.instance);
    for _ in 0..3 {
        let next = machine.launch_with("hello", digest, &[]).unwrap();
        assert!(next.instance.0 > hello.instance.0);
        let failure = machine.stats(hello.instance).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Request, "{failure}");
    }
    assert_serves(&machine, &other);
}

#[test]
fn a_flood_that_reads_no_answers_takes_no_memory_and_is_then_answered() {
    if !has_root("a_flood_that_reads_no_answers_takes_no_memory_and_is_then_answered") {
        return;
    }
    let (machine, other, _) = with_other();
    let before = machine.memory_kib();
    machine.client.set_nonblocking(true).unwrap();
    let (mut sent, received) = (0_u32, Cell::new(0_u32));
    let junk = Forged::like(&requests()[2]).text(&[b'a'; 30_000]);
    for round in 0..20 {
        // As many as the sockets and the launcher take, then all answers.
        loop {
            match machine.send_raw(&junk.0, 0) {
                Ok(()) => sent += 1,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(errno) => panic!("{errno}"),
            }
        }
        let now = machine.memory_kib();
        assert!(
            now < before + 32 * 1024,
            "round {round}: {before} KiB, then {now}"
        );
        eventually("the answers", || {
            while machine.client.receive().is_ok() {
                received.set(received.get() + 1);
            }
            received.get() == sent
        });
    }
    assert!(sent > 100, "{sent}");
    machine.client.set_nonblocking(false).unwrap();
    assert_serves(&machine, &other);
}

#[test]
fn a_packet_past_all_limits_or_half_a_connection_ends_the_launcher_with_every_jail() {
    if !has_root("a_packet_past_all_limits_or_half_a_connection_ends_the_launcher_with_every_jail")
    {
        return;
    }
    let too_long = vec![1; PACKET_LIMIT_BYTES + 1];
    for what in [
        "too long",
        "too many descriptors",
        "no requests",
        "no answers",
    ] {
        let (mut machine, other, _) = with_other();
        let socket = machine.client.as_fd();
        let good = requests()[7].to_bytes(1).unwrap();
        match what {
            "too long" => machine.send_raw(&too_long, 0).unwrap(),
            "too many descriptors" => machine.send_raw(&good, 32).unwrap(),
            "no requests" => rustix::net::shutdown(socket, Shutdown::Write).unwrap(),
            _ => {
                rustix::net::shutdown(socket, Shutdown::Read).unwrap();
                // Its answer cannot be sent; where the kernel says so here already, nothing is.
                machine.send_raw(&good, 0).ok();
            }
        }
        assert_eq!(machine.child.wait().unwrap().code(), Some(0), "{what}");
        let gone = format!("/proc/{}", other.pid);
        eventually(what, || !fs::exists(&gone).unwrap());
        machine.close();
    }
}
