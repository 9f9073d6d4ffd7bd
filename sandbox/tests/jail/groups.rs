//! Entering control groups.

use std::fs;

use super::ability;
use super::harness::{launch, lines, spec};
use pinfold_sandbox::cgroup::{Hierarchy, Limits, Parent, ProcPaths};
use pinfold_sandbox::jail::{GroupFds, JailError};

#[test]
fn the_plugin_is_in_its_groups_and_sees_them_as_the_root() {
    let test = "the_plugin_is_in_its_groups_and_sees_them_as_the_root";
    if !ability::root(test) {
        return;
    }
    let lock = tempfile::tempdir().unwrap();
    let hierarchy = Hierarchy::discover(&ProcPaths::own()).unwrap();
    let mut parent = match Parent::create(&hierarchy, lock.path()) {
        Ok(parent) => parent,
        Err(error) => {
            ability::has(test, "cgroup-v1", false, &error.to_string());
            return;
        }
    };
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        cpu_percent: Some(100),
        pids: Some(32),
    };
    let (mut leaf, _) = parent.leaf("probe-1", &limits).unwrap();
    let files = leaf.enter_files().unwrap();
    let mut spec = spec(&[
        "say:up",
        "cat:/proc/self/cgroup",
        "say:seen",
        "forks",
        "wait",
    ]);
    spec.groups = GroupFds {
        v1_tasks: files.tasks,
        v2_dir: files.birth,
    };
    let jail = launch(&spec).unwrap();
    jail.look(&spec).unwrap();
    let seen: Vec<_> = lines(&jail).take_while(|line| line != "seen").collect();
    let from_outside = fs::read_to_string(format!("/proc/{}/cgroup", jail.plugin_pid)).unwrap();
    let entered: Vec<_> = from_outside
        .lines()
        .filter(|line| line.contains("probe-1"))
        .collect();
    assert!(!entered.is_empty(), "{from_outside}");
    for line in entered {
        let controller = line.rsplit_once(':').unwrap().0;
        assert!(
            seen.contains(&format!("{controller}:/")),
            "{controller} in {seen:?}"
        );
    }
    // EAGAIN: the limit on processes, which rlimits alone would set at twice as many.
    assert!(lines(&jail).any(|line| line == "forks 11"));
    drop(jail);
    while leaf.remove().unwrap() == pinfold_sandbox::cgroup::Removal::Busy {
        std::thread::yield_now();
    }
    parent.remove().unwrap();
}

#[test]
fn a_plugin_outside_its_group_is_not_believed() {
    if !ability::root("a_plugin_outside_its_group_is_not_believed") {
        return;
    }
    let mut spec = spec(&["say:up", "wait"]);
    let jail = launch(&spec).unwrap();
    assert!(lines(&jail).any(|line| line == "up"));
    let elsewhere = tempfile::tempfile().unwrap();
    spec.groups.v1_tasks.push(elsewhere.into());
    let found = jail.look(&spec).unwrap_err();
    assert!(matches!(found, JailError::Mismatch { .. }), "{found}");
    spec.groups.v1_tasks.clear();
    spec.ids = pinfold_sandbox::jail::Ids::Root {
        plugin: 5,
        reaper: 6,
    };
    let found = jail.look(&spec).unwrap_err().to_string();
    assert!(found.starts_with("P10 look: Uid is "), "{found}");
}
