//! What is written for disks and devices, and which hierarchies it takes.

use super::*;
use crate::cgroup::{Disk, IoLimits};

pub(super) const IO: IoLimits = IoLimits {
    disk: Disk {
        major: 254,
        minor: 0,
    },
    read_bytes: Some(20 << 20),
    write_bytes: Some(1 << 20),
    read_operations: None,
    write_operations: Some(50),
};

/// A machine on which blkio, devices and freezer are mounted beside memory.
fn version1_with_disks(unified: bool) -> (Machine, Hierarchy) {
    let machine = Machine::new(&["memory", "blkio", "devices", "freezer", "unified"]);
    let mut mounts = vec![
        ("/", "memory", "cgroup", "rw,memory"),
        ("/", "blkio", "cgroup", "rw,blkio"),
        ("/", "devices", "cgroup", "rw,devices"),
        ("/", "freezer", "cgroup", "rw,freezer"),
    ];
    let mut groups = "9:freezer:/\n8:devices:/\n4:memory:/\n2:blkio:/\n".to_owned();
    if unified {
        mounts.push(("/", "unified", "cgroup2", "rw"));
        groups += "0::/\n";
    }
    let hierarchy = machine.discover(&mounts, &groups);
    (machine, hierarchy)
}

#[test]
fn a_leaf_is_in_no_more_hierarchies_of_version_1_than_its_limits_need() {
    let hierarchies = |unified: bool, limits: &Limits| {
        let (machine, hierarchy) = version1_with_disks(unified);
        let parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
        let (leaf, applied) = parent.leaf("mailer-1", limits).unwrap();
        let root = machine.root.path();
        let paths = leaf.paths().map(|path| path.strip_prefix(root).unwrap());
        let names = paths.map(|path| path.iter().next().unwrap().to_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), applied)
    };
    let (names, _) = hierarchies(true, &Limits::default());
    assert_eq!(names, ["memory", "unified"]);
    let all = Limits {
        io: Some(IO),
        devices: true,
        ..Limits::default()
    };
    let (names, applied) = hierarchies(false, &all);
    assert_eq!(names, ["blkio", "devices", "freezer", "memory"]);
    // The files are the fake's: what is read from them is not what the kernel would say.
    for (control, step) in [
        (Control::Io, "look at what was written"),
        (Control::Devices, "read devices.list"),
        (Control::GroupFreeze, "find freezer.state"),
    ] {
        let State::Missing { reason } = state(&applied, control) else {
            panic!("{control}: {applied:?}")
        };
        assert!(
            reason.step.starts_with(step) || reason.errno.is_some(),
            "{reason}"
        );
    }
}

#[test]
fn version_2_takes_one_line_for_a_disk_and_is_believed_when_it_says_the_same() {
    let all = [Controller::Io].into_iter().collect();
    let (dir, leaf) = v2_leaf(&["io.max"]);
    let limits = Limits {
        io: Some(IO),
        ..Limits::default()
    };
    let swap = swap(&dir, 0);
    let applied = v2::limit(&leaf, &all, &limits, &swap);
    assert_eq!(
        *state(&applied, Control::Io),
        State::Enforced { how: How::V2 }
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("io.max")).unwrap(),
        "254:0 rbps=20971520 wbps=1048576 riops=max wiops=50"
    );
    let (_dir, leaf) = v2_leaf(&[]);
    let State::Missing { reason } =
        state(&v2::limit(&leaf, &all, &limits, &swap), Control::Io).clone()
    else {
        panic!("there is no such file")
    };
    assert_eq!(reason.errno, Some(libc::ENOENT));
}
