//! Entering control groups.

use std::fs;
use std::time::Instant;

use super::ability;
use super::harness::{PATIENCE, alone, launch, lines, spec};
use pinfold_sandbox::cgroup::{Hierarchy, Leaf, Limits, Parent, ProcPaths, Removal};
use pinfold_sandbox::jail::{GroupFds, JailError};

#[test]
fn the_plugin_is_in_its_groups_and_sees_them_as_the_root() {
    let test = "the_plugin_is_in_its_groups_and_sees_them_as_the_root";
    if !ability::root(test) {
        return;
    }
    // On v2 making groups moves the process, and with it what other tests start.
    if !alone(&format!("jail::groups::{test}")) {
        return;
    }
    let Some(mut groups) = Groups::create(test) else {
        return;
    };
    let files = groups.leaf.enter_files().unwrap();
    let mut spec = spec(&["cat:/proc/self/cgroup", "say:seen", "forks", "wait"]);
    spec.groups = GroupFds {
        v1_tasks: files.tasks,
        v2_dir: files.birth,
    };
    let jail = launch(&spec).unwrap();
    jail.look(&spec).unwrap();
    let mut said = lines(&jail);
    let seen: Vec<_> = said.by_ref().take_while(|line| line != "seen").collect();
    let from_outside = fs::read_to_string(format!("/proc/{}/cgroup", jail.plugin_pid)).unwrap();
    let entered: Vec<_> = from_outside
        .lines()
        .filter(|line| line.contains("probe-1"))
        .collect();
    assert!(!entered.is_empty(), "{from_outside}");
    for line in entered {
        let controller = line.rsplit_once(':').unwrap().0;
        let root = format!("{controller}:/");
        assert!(seen.contains(&root), "{root} in {seen:?}");
    }
    // EAGAIN: the group's limit, where rlimits alone would allow more.
    assert!(said.any(|line| line == "forks 11"));
    drop(jail);
    groups.remove();
}

/// A parent group with one leaf, removed at the end.
struct Groups {
    leaf: Leaf,
    parent: Parent,
    _lock: tempfile::TempDir,
}

impl Groups {
    fn create(test: &str) -> Option<Self> {
        let lock = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::discover(&ProcPaths::own()).unwrap();
        let parent = match Parent::create(&hierarchy, lock.path()) {
            Ok(parent) => parent,
            Err(error) => {
                ability::has(test, "cgroup-v1", false, &error.to_string());
                return None;
            }
        };
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpu_percent: Some(100),
            pids: Some(32),
            ..Limits::default()
        };
        let (leaf, _) = parent.leaf("probe-1", &limits).unwrap();
        Some(Self {
            leaf,
            parent,
            _lock: lock,
        })
    }

    /// What is dead may still have to be reaped by somebody else.
    fn remove(&mut self) {
        let limit = Instant::now() + PATIENCE;
        while self.leaf.remove().unwrap() == Removal::Busy && Instant::now() < limit {
            std::thread::yield_now();
        }
        assert_eq!(self.parent.remove().unwrap(), Removal::Gone);
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The jail is dropped already; what cannot be removed is the next sweep's.
            drop(self.leaf.remove());
            drop(self.parent.remove());
        }
    }
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
