//! Prepared network namespaces: each is one instance's alone, and what it promises is in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use pinfold_policy::Control;
use pinfold_sandbox::posture::State;
use pinfold_sandbox::protocol::{FailureKind, KillHow};

use crate::machine::{Machine, Setup, eventually, has_root, lines_until};
use crate::skip::tell;

/// A machine whose launcher keeps this many; the prepared ones are there from its start.
fn machine(count: usize) -> Machine {
    let machine = Machine::with(Setup {
        config: &format!("netns-pool = {count}\n"),
        ..Setup::default()
    });
    // It answers once it serves.
    machine.posture(None);
    machine
}

/// The network namespaces that the launcher holds, by their names, with what opens them.
fn held(machine: &Machine) -> Vec<(String, PathBuf)> {
    let directory = format!("/proc/{}/fd", machine.child.id());
    let entries = fs::read_dir(directory).unwrap();
    let links = entries.filter_map(|entry| {
        let path = entry.unwrap().path();
        // One may be closed meanwhile.
        let link = fs::read_link(&path).ok()?.into_os_string();
        Some((link.into_string().ok()?, path))
    });
    links
        .filter(|(name, _)| name.starts_with("net:["))
        .collect()
}

pub(crate) fn names(machine: &Machine) -> BTreeSet<String> {
    held(machine).into_iter().map(|(name, _)| name).collect()
}

/// The namespace of a process, by its name.
fn of(pid: u32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    link.into_os_string().into_string().unwrap()
}

#[test]
fn each_prepared_network_namespace_is_one_instances_alone() {
    if !has_root("each_prepared_network_namespace_is_one_instances_alone") {
        return;
    }
    let machine = machine(3);
    machine.add_plugin("hello");
    machine.add_policy("hello", &["say=ready", "wait"], "");
    let (digest, _) = machine.stage("hello").unwrap();
    let prepared = names(&machine);
    assert_eq!(prepared.len(), 3, "{prepared:?}");
    let own = of(std::process::id());
    assert!(!prepared.contains(&own) && of(machine.child.id()) == own);

    // All of these live until the end: no kernel gives one's number to another meanwhile.
    let mut instances = Vec::new();
    let mut used = BTreeSet::new();
    let mut launch = || {
        let launched = machine.launch_with("hello", digest, &[]).unwrap();
        let name = of(launched.pid);
        assert!(name != own && used.insert(name.clone()), "{name} is shared");
        // Its launcher keeps it to connect into, for as long as the instance lives.
        assert!(names(&machine).contains(&name));
        instances.push(launched);
        name
    };
    let first = launch();
    assert!(prepared.contains(&first), "{first} of {prepared:?}");
    // More than there are, one after the other: some make their own.
    for _ in 0..6 {
        launch();
    }
    eventually("the pool to be full again", || {
        names(&machine).len() == 7 + 3
    });
    let again = names(&machine);
    let third = launch();
    assert!(again.contains(&third), "{third} of {again:?}");
    assert_eq!(used.len(), 8);
    let pool = &again - &(&used - &BTreeSet::from([third]));
    assert_eq!(pool.len(), 3, "{pool:?} of {again:?}");
    for instance in &instances {
        machine.kill(instance.instance, KillHow::Kill).unwrap();
    }
    eventually("those of the ended to be let go", || {
        names(&machine).is_disjoint(&used)
    });
}

#[test]
fn a_prepared_network_namespace_has_loopback_alone_and_no_ping() {
    if !has_root("a_prepared_network_namespace_has_loopback_alone_and_no_ping") {
        return;
    }
    let machine = machine(1);
    let held = held(&machine);
    let [(name, path)] = held.as_slice() else {
        panic!("{held:?}");
    };
    let namespace = File::open(path).unwrap();
    let has_ipv6 = fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|text| text.trim() == "0");
    // A thread of its own, whose namespace goes with it.
    std::thread::scope(|scope| {
        let looked = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
            assert_eq!(own.to_str(), Some(name.as_str()));
            let range = fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
            let range: Vec<&str> = range.split_whitespace().collect();
            assert_eq!(range, ["1", "0"]);
            let interfaces = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            // Tunnels that a module adds to every namespace are down and lead nowhere.
            let others = interfaces.lines().skip(2).filter(|line| {
                let is_loopback = line.trim_start().starts_with("lo:");
                !is_loopback && line.split_whitespace().nth(2) != Some("0")
            });
            assert_eq!(others.count(), 0, "{interfaces}");
            assert!(TcpListener::bind("127.0.0.1:0").is_ok());
            assert_eq!(TcpListener::bind("[::1]:0").is_ok(), has_ipv6);
            let outside = UdpSocket::bind("0.0.0.0:0").unwrap();
            let error = outside.connect("192.0.2.1:9").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
            let mode = fs::read_to_string("/proc/sys/net/vsock/ns_mode");
            match mode {
                Ok(mode) => assert_eq!(mode.trim(), "local"),
                Err(_) => tell("this kernel has no modes of virtual sockets: not looked at\n"),
            }
        });
        looked.join().unwrap();
    });
}

#[test]
fn a_launch_without_a_pool_makes_its_own_and_one_that_requires_it_is_refused() {
    if !has_root("a_launch_without_a_pool_makes_its_own_and_one_that_requires_it_is_refused") {
        return;
    }
    let machine = machine(0);
    let launched = machine.run("hello", &["say=ready", "wait"], "").unwrap();
    lines_until(launched.stdout, "ready");
    assert_ne!(of(launched.pid), of(machine.child.id()));
    assert!(launched.missing.contains(&"network-pool".to_owned()));
    let its_own = of(launched.pid);
    assert_eq!(names(&machine), BTreeSet::from([its_own]));
    let posture = machine.posture(None);
    let control = posture.control(Control::NetworkPool).unwrap();
    assert_eq!(control.state, State::Missing);
    assert!(control.reason.contains("netns-pool is 0"), "{control:?}");
    let required = "[controls]\nnetwork-pool = \"required\"\n";
    let failure = machine.run("strict", &["wait"], required).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Control, "{failure}");
}
