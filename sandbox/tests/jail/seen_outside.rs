//! What a running plugin has, read through proc of the host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::ability;
use super::harness::{PLUGIN_ID, REAPER_ID, launch, lines, missing_here, reaper, spec};
use nix::sched::{CloneFlags, unshare};
use pinfold_sandbox::jail::{Jail, JailError};
use rustix::fs::SealFlags;

fn fields(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| {
            (
                name.to_owned(),
                value.split_whitespace().collect::<Vec<_>>().join(" "),
            )
        })
        .collect()
}

fn running(acts: &[&str]) -> Jail {
    let acts = [acts, &["say:running", "wait"]].concat();
    let spec = spec(&acts);
    let jail = launch(&spec).unwrap();
    assert!(lines(&jail).any(|line| line == "running"));
    jail.look(&spec).unwrap();
    jail
}

#[test]
fn the_plugin_has_a_uid_of_its_own_no_capability_and_a_filter() {
    if !ability::root("the_plugin_has_a_uid_of_its_own_no_capability_and_a_filter") {
        return;
    }
    let jail = running(&[]);
    for (pid, id) in [(jail.plugin_pid, PLUGIN_ID), (jail.reaper.pid(), REAPER_ID)] {
        let fields = fields(pid);
        for name in ["Uid", "Gid"] {
            assert_eq!(
                fields[name],
                [id.to_string().as_str(); 4].join(" "),
                "{name}"
            );
        }
        assert_eq!(fields["Groups"], "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(fields[set], "0000000000000000", "{set} of {pid}");
        }
        assert_eq!(fields["NoNewPrivs"], "1");
        assert_eq!(fields["Seccomp"], "2");
        assert_eq!(fields["Seccomp_filters"], "1");
    }
    assert_eq!(
        fields(jail.plugin_pid)["NSpid"],
        format!("{} 2", jail.plugin_pid)
    );
    assert_eq!(missing_here(&jail), []);
}

#[test]
fn every_namespace_is_another() {
    if !ability::root("every_namespace_is_another") {
        return;
    }
    let jail = running(&[]);
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
        assert_ne!(of(&jail.plugin_pid.to_string()), of("self"), "{kind}");
    }
}

#[test]
fn the_environment_is_the_spec_and_nothing_more() {
    if !ability::root("the_environment_is_the_spec_and_nothing_more") {
        return;
    }
    let jail = running(&[]);
    let environment = fs::read(format!("/proc/{}/environ", jail.plugin_pid)).unwrap();
    assert_eq!(environment, b"HOME=/tmp/probe-home\0");
    let reaper = fs::read(format!("/proc/{}/environ", jail.reaper.pid())).unwrap();
    assert_eq!(reaper, b"");
}

#[test]
fn limits_are_hard_and_soft_alike() {
    if !ability::root("limits_are_hard_and_soft_alike") {
        return;
    }
    let jail = running(&[]);
    let text = fs::read_to_string(format!("/proc/{}/limits", jail.plugin_pid)).unwrap();
    // Of 1 no dump is left, and no program is started for one; who has 0 cannot have more.
    let own = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    let core = if own == Some(0) { "0" } else { "1" };
    for (name, value) in [
        ("Max core file size", core),
        ("Max file size", "67108864"),
        ("Max open files", "256"),
        // Two generations share the uid.
        ("Max processes", "128"),
        ("Max locked memory", "0"),
        ("Max msgqueue size", "0"),
        ("Max pending signals", "128"),
        ("Max nice priority", "0"),
        ("Max realtime priority", "0"),
        ("Max file locks", "1024"),
        ("Max stack size", "8388608"),
    ] {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(
            (words.next(), words.next()),
            (Some(value), Some(value)),
            "{name}"
        );
    }
    let adjusted = fs::read_to_string(format!("/proc/{}/oom_score_adj", jail.plugin_pid)).unwrap();
    assert_eq!(adjusted, "500\n");
}

#[test]
fn process_1_is_a_sealed_copy_and_holds_nothing_of_the_launcher() {
    if !ability::root("process_1_is_a_sealed_copy_and_holds_nothing_of_the_launcher") {
        return;
    }
    let jail = running(&[]);
    let pid = jail.reaper.pid();
    let seals = rustix::fs::fcntl_get_seals(reaper()).unwrap();
    let closed = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    assert!(seals.contains(closed), "{seals:?}");
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(program.to_str(), Some("/memfd:pinfold-reaper (deleted)"));
    let opened = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/exe"));
    assert!(
        opened.is_err(),
        "the reaper's program can be opened for writing"
    );
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_str().unwrap().to_owned();
        let expected = ["/dev/null", "socket:", "pipe:", "anon_inode:[signalfd]"];
        assert!(
            expected.iter().any(|kind| target.starts_with(kind)),
            "{target}"
        );
    }
}

/// A network namespace of nobody's.
fn network() -> OwnedFd {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    });
    made.join().unwrap()
}

#[test]
fn a_given_network_namespace_is_the_plugins_and_another_is_noticed() {
    if !ability::root("a_given_network_namespace_is_the_plugins_and_another_is_noticed") {
        return;
    }
    let given = network();
    let inode = File::from(given.try_clone().unwrap())
        .metadata()
        .unwrap()
        .ino();
    let mut spec = spec(&["fds", "say:running", "wait"]);
    spec.network = Some(given);
    let jail = launch(&spec).unwrap();
    // Nothing leads back to where it came from.
    let said: Vec<String> = lines(&jail).take(2).collect();
    assert_eq!(said, ["0 1 2", "running"]);
    jail.look(&spec).unwrap();
    for pid in [jail.plugin_pid, jail.reaper.pid()] {
        let found = fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino();
        assert_eq!(found, inode);
    }
    spec.network = Some(network());
    let JailError::Mismatch { what, .. } = jail.look(&spec).unwrap_err() else {
        panic!("another namespace was not noticed");
    };
    assert_eq!(what, "network namespace (device:inode)");
}
