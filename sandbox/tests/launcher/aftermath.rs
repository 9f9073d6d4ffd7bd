//! What is left when somebody ends: nothing.

use std::fs;
use std::path::{Path, PathBuf};

use pinfold_policy::NETNS_POOL;
use pinfold_sandbox::protocol::{Launched, Request};

use crate::machine::{Machine, eventually, has_root, lines_until};
use crate::networks::names;

/// The control groups of a process, as directories of this machine.
pub(crate) fn groups(pid: u32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_process = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut found = Vec::new();
    for line in of_process.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap());
        for mount in mounts.lines() {
            let (before, after) = mount.split_once(" - ").unwrap();
            let point = before.split(' ').nth(4).unwrap();
            let mut after = after.split(' ');
            let kind = after.next().unwrap();
            let options = after.nth(1).unwrap();
            let is_it = match kind {
                "cgroup2" => controllers.is_empty(),
                "cgroup" => {
                    !controllers.is_empty()
                        && controllers
                            .split(',')
                            .all(|one| options.split(',').any(|option| option == one))
                }
                _ => false,
            };
            if is_it && path.contains("pinfold-") {
                found.push(Path::new(point).join(path.trim_start_matches('/')));
            }
        }
    }
    assert!(!found.is_empty(), "{of_process}");
    found
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// A plugin with a daemonised child, up and running; its process and its groups.
fn busy(machine: &Machine) -> (Launched, Vec<PathBuf>) {
    let launched = machine
        .run("busy", &["daemon", "say=up", "wait"], "")
        .unwrap();
    lines_until(launched.stdout.try_clone().unwrap(), "up");
    let groups = groups(launched.pid);
    assert!(groups.iter().all(|group| group.is_dir()), "{groups:?}");
    (launched, groups)
}

fn parent_of(group: &Path) -> PathBuf {
    let name = |part: &Path| {
        part.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("pinfold-"))
    };
    group
        .ancestors()
        .find(|part| name(part))
        .unwrap()
        .to_owned()
}

#[test]
fn the_end_of_the_daemons_connection_leaves_nothing_behind() {
    if !has_root("the_end_of_the_daemons_connection_leaves_nothing_behind") {
        return;
    }
    let mut machine = Machine::start();
    let mounts = fs::read("/proc/self/mountinfo").unwrap();
    let (launched, groups) = busy(&machine);
    // A request under way is no reason to stay.
    let plugin = crate::machine::id("busy");
    machine
        .client
        .send(1000, &Request::Stage { plugin })
        .unwrap();
    machine.close();
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    assert!(!is_alive(launched.pid));
    for group in groups {
        assert!(!parent_of(&group).exists(), "{group:?}");
    }
    assert_eq!(fs::read("/proc/self/mountinfo").unwrap(), mounts);
}

#[test]
fn sigterm_ends_the_launcher_in_order() {
    if !has_root("sigterm_ends_the_launcher_in_order") {
        return;
    }
    let mut machine = Machine::start();
    let (launched, groups) = busy(&machine);
    let launcher = rustix::process::Pid::from_child(&machine.child);
    rustix::process::kill_process(launcher, rustix::process::Signal::TERM).unwrap();
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    assert!(!is_alive(launched.pid));
    assert!(groups.iter().all(|group| !group.exists()));
}

#[test]
fn a_launcher_that_is_killed_leaves_no_process_and_the_next_one_clears_its_groups() {
    if !has_root("a_launcher_that_is_killed_leaves_no_process_and_the_next_one_clears_its_groups") {
        return;
    }
    let mut machine = Machine::start();
    let (launched, groups) = busy(&machine);
    machine.child.kill().unwrap();
    machine.child.wait().unwrap();
    eventually("the plugin is gone", || !is_alive(launched.pid));
    let next = Machine::start();
    next.run("hello", &["wait"], "").unwrap();
    for group in groups {
        assert!(!parent_of(&group).exists(), "{group:?}");
    }
}

#[test]
fn a_hundred_starts_leave_descriptors_and_groups_as_they_were() {
    if !has_root("a_hundred_starts_leave_descriptors_and_groups_as_they_were") {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    let (digest, _) = machine.stage("hello").unwrap();
    let once = || {
        let launched = machine.launch_with("hello", digest, &[]).unwrap();
        machine.exited(launched.instance);
    };
    let descriptors = || {
        let path = format!("/proc/{}/fd", machine.child.id());
        fs::read_dir(path).unwrap().count()
    };
    once();
    // Those that are used are replaced, a little later.
    eventually("the pool to be full", || {
        names(&machine).len() == NETNS_POOL
    });
    let before = descriptors();
    for _ in 0..100 {
        once();
    }
    eventually("as many descriptors as before", || descriptors() == before);
    let (_, groups) = busy(&machine);
    for group in groups {
        let leaves = fs::read_dir(group.parent().unwrap()).unwrap();
        let names: Vec<_> = leaves
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_dir())
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with("hello-"))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

#[test]
fn bytes_that_are_no_request_are_answered_or_end_the_launcher() {
    if !has_root("bytes_that_are_no_request_are_answered_or_end_the_launcher") {
        return;
    }
    use pinfold_sandbox::protocol::{FailureKind, Incoming};
    use std::os::fd::AsFd;
    let mut machine = Machine::start();
    let send = |machine: &Machine, bytes: &[u8]| {
        let flags = rustix::net::SendFlags::NOSIGNAL;
        rustix::net::send(machine.client.as_fd(), bytes, flags).unwrap();
    };
    // Version 4, a type that there is not, request 7.
    send(&machine, &[4, 0x3f, 0, 0, 0, 7]);
    match machine.client.receive().unwrap() {
        Incoming::Reply {
            id: 7,
            result: Err(failure),
        } => assert_eq!(failure.kind, FailureKind::Request),
        other => panic!("{other:?}"),
    }
    send(&machine, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    machine.close();
}
