//! Tests on trees in temporary directories: what `/proc` may say, and what is then chosen, written
//! and read. The kernel's side of it is in `real`.

mod disks;
mod groups;

use std::fs;
use std::path::{Path, PathBuf};

use pinfold_policy::Control;
use tempfile::TempDir;

use super::dir::Dir;
use super::swap::Swap;
use super::{
    Applied, CgroupError, Controller, Hierarchy, How, Limits, Parent, Place, ProcPaths, Reason,
    Removal, State, Sweep, sweep, v1, v2,
};

/// A machine: its `/proc` files, and directories for its hierarchies.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new(groups: &[&str]) -> Self {
        let machine = Self {
            root: tempfile::tempdir().unwrap(),
        };
        for group in groups {
            fs::create_dir_all(machine.path(group)).unwrap();
        }
        machine
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    fn write(&self, relative: &str, text: &str) {
        fs::write(self.path(relative), text).unwrap();
    }

    fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    fn discover(&self, mounts: &[(&str, &str, &str, &str)], groups: &str) -> Hierarchy {
        let mut table = "22 27 0:21 / /proc rw,relatime - proc proc rw\n".to_owned();
        for (root, point, kind, options) in mounts {
            let point = self.path(point).display().to_string().replace(' ', "\\040");
            table += &format!(
                "33 31 0:30 {root} {point} rw,nosuid shared:9 master:2 - {kind} {kind} {options}\n"
            );
        }
        self.write("mountinfo", &table);
        self.write("cgroup", groups);
        let paths = ProcPaths {
            mountinfo: self.path("mountinfo"),
            cgroup: self.path("cgroup"),
            meminfo: self.path("meminfo"),
        };
        Hierarchy::discover(&paths).unwrap()
    }

    fn locks(&self) -> PathBuf {
        let locks = self.path("locks");
        fs::create_dir_all(&locks).unwrap();
        locks
    }
}

/// Version 1 for everything, cpu and cpuacct together, the launcher in groups of its own.
fn version1() -> (Machine, Hierarchy) {
    let machine = Machine::new(&["memory/here", "cpu,cpuacct", "pids/sub"]);
    let hierarchy = machine.discover(
        &[
            ("/", "memory", "cgroup", "rw,memory"),
            ("/", "cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            ("/", "pids", "cgroup", "rw,pids"),
            ("/", "systemd", "cgroup", "rw,xattr,name=systemd"),
        ],
        "9:name=systemd:/\n8:pids:/sub\n4:memory:/here\n2:cpu,cpuacct:/\n",
    );
    (machine, hierarchy)
}

#[test]
fn version_1_is_found_per_controller() {
    let (machine, hierarchy) = version1();
    let v1 = |path: &str| Place::V1 {
        own: machine.path(path),
    };
    assert_eq!(hierarchy.place(Controller::Memory), v1("memory/here"));
    assert_eq!(hierarchy.place(Controller::Cpu), v1("cpu,cpuacct"));
    assert_eq!(hierarchy.place(Controller::Cpuacct), v1("cpu,cpuacct"));
    assert_eq!(hierarchy.place(Controller::Pids), v1("pids/sub"));
    assert!(!hierarchy.has_unified());
}

#[test]
fn on_a_hybrid_machine_each_controller_is_where_it_is() {
    let machine = Machine::new(&["memory", "unified/unit"]);
    machine.write("unified/unit/cgroup.controllers", "pids hugetlb\n");
    let hierarchy = machine.discover(
        &[
            ("/", "memory", "cgroup", "rw,memory"),
            ("/", "unified", "cgroup2", "rw,nsdelegate"),
        ],
        "4:memory:/\n0::/unit\n",
    );
    assert_eq!(
        hierarchy.place(Controller::Memory),
        Place::V1 {
            own: machine.path("memory")
        }
    );
    assert_eq!(hierarchy.place(Controller::Pids), Place::V2);
    assert_eq!(hierarchy.place(Controller::Cpu), Place::Missing);
    assert!(hierarchy.has_unified());
}

#[test]
fn a_subgroup_for_the_launcher_itself_is_not_what_was_delegated() {
    let machine = Machine::new(&["unified/unit/launcher"]);
    machine.write("unified/unit/cgroup.controllers", "cpu memory pids\n");
    let mounts = [("/", "unified", "cgroup2", "rw")];
    let hierarchy = machine.discover(&mounts, "0::/unit/launcher\n");
    assert_eq!(
        hierarchy.unified().unwrap().delegated,
        machine.path("unified/unit")
    );
    assert_eq!(hierarchy.place(Controller::Memory), Place::V2);
}

#[test]
fn a_mount_that_shows_only_part_of_a_hierarchy_is_understood() {
    let machine = Machine::new(&["a space/inner"]);
    let mounts = [("/docker/1", "a space", "cgroup", "rw,memory")];
    let inside = machine.discover(&mounts, "4:memory:/docker/1/inner\n");
    let own = machine.path("a space/inner");
    assert_eq!(inside.place(Controller::Memory), Place::V1 { own });
    let outside = machine.discover(&mounts, "4:memory:/docker/2\n");
    assert_eq!(outside.place(Controller::Memory), Place::Missing);
}

#[test]
fn nonsense_in_proc_is_no_hierarchy() {
    let machine = Machine::new(&[]);
    machine.write(
        "mountinfo",
        "\n - \n33 31 0:30 / \\777\\ - cgroup\n1 2 3 4 5 6 7 8\n- - - - - - -\n",
    );
    machine.write("cgroup", "::\n4\n\n4:memory\n4:memory:\u{0}\n");
    let paths = ProcPaths {
        mountinfo: machine.path("mountinfo"),
        cgroup: machine.path("cgroup"),
        meminfo: machine.path("meminfo"),
    };
    let hierarchy = Hierarchy::discover(&paths).unwrap();
    assert!(!hierarchy.has_unified());
    assert_eq!(hierarchy.place(Controller::Memory), Place::Missing);
    let paths = ProcPaths {
        mountinfo: machine.path("absent"),
        ..paths
    };
    assert!(matches!(
        Hierarchy::discover(&paths),
        Err(CgroupError::Read { .. })
    ));
}

fn limits() -> Limits {
    Limits {
        memory_bytes: Some(64 << 20),
        cpu_percent: Some(150),
        pids: Some(48),
        io: None,
        devices: false,
    }
}

fn state(applied: &[Applied], control: Control) -> &State {
    let found: Vec<_> = applied
        .iter()
        .filter(|entry| entry.control == control)
        .collect();
    assert_eq!(found.len(), 1, "{control}: {applied:?}");
    &found[0].state
}

#[test]
fn version_1_limits_are_written_beneath_the_launchers_own_group() {
    let (machine, hierarchy) = version1();
    let parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
    let (leaf, applied) = parent.leaf("mailer-1", &limits()).unwrap();
    for control in [Control::Memory, Control::Cpu, Control::Processes] {
        assert_eq!(
            *state(&applied, control),
            State::Enforced { how: How::V1 },
            "{control}"
        );
    }
    assert!(matches!(
        state(&applied, Control::MemoryGroupKill),
        State::Partial { .. }
    ));
    assert!(matches!(
        state(&applied, Control::GroupKill),
        State::Partial { how: How::V1, .. }
    ));
    let file = |group: &str, file: &str| {
        machine.read(&format!("{group}/{}/mailer-1/{file}", parent.name()))
    };
    assert_eq!(file("memory/here", "memory.limit_in_bytes"), "67108864");
    assert_eq!(
        file("memory/here", "memory.memsw.limit_in_bytes"),
        "67108864"
    );
    assert_eq!(
        file("memory/here", "memory.kmem.tcp.limit_in_bytes"),
        "16777216"
    );
    assert_eq!(file("cpu,cpuacct", "cpu.cfs_period_us"), "100000");
    assert_eq!(file("cpu,cpuacct", "cpu.cfs_quota_us"), "150000");
    assert_eq!(file("cpu,cpuacct", "cpu.shares"), "1536");
    assert_eq!(file("pids/sub", "pids.max"), "48");
    assert_eq!(leaf.paths().count(), 3);
}

#[test]
fn less_than_a_processor_is_given_out_one_slice_at_a_time() {
    for (percent, quota_us, period_us) in [
        (1, 1_000, 100_000),
        (5, 5_000, 100_000),
        (20, 5_000, 25_000),
        (30, 4_980, 16_600),
        (50, 5_000, 10_000),
        (99, 9_900, 10_000),
        (100, 100_000, 100_000),
        (400, 400_000, 100_000),
    ] {
        let quota = v1::CpuQuota {
            quota_us,
            period_us,
        };
        assert_eq!(v1::cpu_quota(percent), quota, "{percent} %");
    }
}

#[test]
fn limits_that_are_not_asked_for_are_off() {
    let (machine, hierarchy) = version1();
    let parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
    let (_, applied) = parent.leaf("mailer-1", &Limits::default()).unwrap();
    for control in [
        Control::Memory,
        Control::MemoryGroupKill,
        Control::Cpu,
        Control::Processes,
        Control::Io,
        Control::Devices,
    ] {
        assert_eq!(*state(&applied, control), State::Off, "{control}");
    }
}

#[test]
fn without_hierarchies_every_control_is_missing_with_its_reason() {
    let machine = Machine::new(&[]);
    let hierarchy = machine.discover(&[], "");
    let mut parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
    let controls = [
        Control::Memory,
        Control::MemoryGroupKill,
        Control::Cpu,
        Control::Processes,
        Control::Io,
        Control::Devices,
        Control::GroupKill,
        Control::GroupFreeze,
    ];
    let limits = Limits {
        io: Some(disks::IO),
        devices: true,
        ..limits()
    };
    let (mut leaf, applied) = parent.leaf("mailer-1", &limits).unwrap();
    for control in controls {
        let State::Missing { reason } = state(&applied, control) else {
            panic!("{applied:?}")
        };
        assert!(reason.to_string().contains("mounted"), "{reason}");
    }
    assert!(leaf.is_empty().unwrap());
    assert!(leaf.enter_files().unwrap().tasks.is_empty());
    assert_eq!(leaf.remove().unwrap(), Removal::Gone);
    assert_eq!(parent.remove().unwrap(), Removal::Gone);
}

#[test]
fn a_hierarchy_that_cannot_be_written_is_missing_with_errno() {
    let (machine, hierarchy) = version1();
    // A file where the group is expected: works for root too, unlike permissions.
    fs::remove_dir(machine.path("pids/sub")).unwrap();
    machine.write("pids/sub", "");
    let parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
    let (_, applied) = parent.leaf("mailer-1", &limits()).unwrap();
    let State::Missing { reason } = state(&applied, Control::Processes) else {
        panic!("{applied:?}")
    };
    assert_eq!(reason.errno, Some(libc::ENOTDIR));
    assert_eq!(reason.step, "make group");
    assert_eq!(
        *state(&applied, Control::Memory),
        State::Enforced { how: How::V1 }
    );
}

#[test]
fn names_that_could_leave_the_group_or_hide_are_refused() {
    let (machine, hierarchy) = version1();
    let parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
    let long = "a".repeat(129);
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "cgroup.procs",
        "a b",
        "ä",
        "a\0",
        &long,
    ] {
        let refused = parent.leaf(name, &limits());
        assert!(
            matches!(refused, Err(CgroupError::LeafName { .. })),
            "{name:?}"
        );
    }
    let (_leaf, _) = parent.leaf("twice", &limits()).unwrap();
    let again = parent.leaf("twice", &limits());
    assert!(matches!(again, Err(CgroupError::LeafExists { .. })));
}

/// A v2 leaf as the kernel makes it, with these files empty.
fn v2_leaf(files: &[&str]) -> (TempDir, Dir) {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        fs::write(dir.path().join(file), "").unwrap();
    }
    let leaf = Dir::open(dir.path()).unwrap();
    (dir, leaf)
}

/// A machine with so much swap, as a file in `dir` says.
fn swap(dir: &TempDir, kibibytes: u32) -> Swap {
    let meminfo = dir.path().join("meminfo");
    let text = format!("MemTotal:        8000000 kB\nSwapTotal:       {kibibytes} kB\n");
    fs::write(&meminfo, text).unwrap();
    Swap { meminfo }
}

#[test]
fn version_2_limits_are_written_and_swap_is_none() {
    let all = [Controller::Memory, Controller::Cpu, Controller::Pids]
        .into_iter()
        .collect();
    let (dir, leaf) = v2_leaf(&[
        "memory.max",
        "memory.swap.max",
        "memory.zswap.max",
        "memory.oom.group",
        "cpu.max",
        "cpu.weight",
        "pids.max",
    ]);
    let applied = v2::limit(&leaf, &all, &limits(), &swap(&dir, 1024));
    assert!(
        applied
            .iter()
            .all(|entry| entry.state == State::Enforced { how: How::V2 })
    );
    assert_eq!(applied.len(), 4);
    let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("memory.swap.max"), "0");
    assert_eq!(read("memory.zswap.max"), "0");
    assert_eq!(read("memory.oom.group"), "1");
    assert_eq!(read("cpu.max"), "150000 100000");
    assert_eq!(read("cpu.weight"), "150");
    assert_eq!(read("pids.max"), "48");
}

#[test]
fn version_2_limits_that_the_kernel_lacks_are_missing_by_file() {
    let all = [Controller::Memory, Controller::Cpu, Controller::Pids]
        .into_iter()
        .collect();
    // A kernel without swap and group kill.
    let (dir, leaf) = v2_leaf(&["memory.max", "pids.max"]);
    let no_swap = swap(&dir, 0);
    let applied = v2::limit(&leaf, &all, &limits(), &no_swap);
    assert_eq!(
        *state(&applied, Control::Memory),
        State::Enforced { how: How::V2 }
    );
    for (control, step) in [
        (Control::MemoryGroupKill, "write memory.oom.group"),
        (Control::Cpu, "write cpu.max"),
    ] {
        let State::Missing { reason } = state(&applied, control) else {
            panic!("{applied:?}")
        };
        assert_eq!(
            (reason.step.as_str(), reason.errno),
            (step, Some(libc::ENOENT))
        );
    }
    let none = v2::limit(
        &leaf,
        &std::collections::BTreeSet::new(),
        &limits(),
        &no_swap,
    );
    assert!(none.is_empty());
}

#[test]
fn memory_is_not_limited_where_there_is_swap_that_cannot_be() {
    let all = [Controller::Memory].into_iter().collect();
    // A kernel that does not account for swap, and one that refuses the limit.
    let (place, without) = v2_leaf(&["memory.max", "memory.oom.group"]);
    let (other, refusing) = v2_leaf(&["memory.max", "memory.oom.group"]);
    fs::create_dir(other.path().join("memory.swap.max")).unwrap();
    let found = |leaf: &Dir, swap: &Swap| {
        let applied = v2::limit(leaf, &all, &limits(), swap);
        state(&applied, Control::Memory).clone()
    };
    let not_known = Swap {
        meminfo: place.path().join("absent"),
    };
    for swap in [swap(&place, 1024), not_known] {
        for (leaf, errno) in [(&without, libc::ENOENT), (&refusing, libc::EISDIR)] {
            let State::Missing { reason } = found(leaf, &swap) else {
                panic!("{swap:?}")
            };
            assert_eq!(reason.step, "write memory.swap.max");
            assert_eq!(reason.errno, Some(errno));
            assert!(reason.detail.contains("all the swap"), "{reason}");
        }
    }
    let none = swap(&place, 0);
    assert_eq!(found(&without, &none), State::Enforced { how: How::V2 });
    let State::Partial { how, reason } = found(&refusing, &none) else {
        panic!("{none:?}")
    };
    assert_eq!(how, How::V2);
    assert!(reason.detail.ends_with(": there is no swap to be limited"));
}

#[test]
fn on_version_1_the_same_swap_counts() {
    let place = tempfile::tempdir().unwrap();
    let reason = Reason::absent("write memory.memsw.limit_in_bytes", "/group");
    let found = |kibibytes| swap(&place, kibibytes).unlimited(How::V1, &reason);
    assert!(!found(1024).is_in_force());
    let how = How::V1;
    let detail = "/group: there is no swap to be limited";
    let expected = Reason::absent("write memory.memsw.limit_in_bytes", detail);
    assert_eq!(found(0), Applied::partial(Control::Memory, how, expected));
}

#[test]
fn a_launcher_on_version_2_builds_beside_itself_and_passes_controllers_down() {
    let machine = Machine::new(&["unified/unit"]);
    machine.write(
        "unified/unit/cgroup.controllers",
        "cpuset cpu io memory pids\n",
    );
    // Writes to this file are all the fake can see; the kernel makes it in each new group.
    machine.write("unified/unit/cgroup.subtree_control", "");
    let hierarchy = machine.discover(&[("/", "unified", "cgroup2", "rw")], "0::/unit\n");
    let parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
    let group = format!("unified/unit/{}", parent.name());
    assert!(machine.path(&format!("{group}/launcher")).is_dir());
    assert!(machine.path(&format!("{group}/jails")).is_dir());
    // Nothing here has cgroup.procs, so entering fails and every controller says so.
    let (leaf, applied) = parent.leaf("mailer-1", &limits()).unwrap();
    assert!(machine.path(&format!("{group}/jails/mailer-1")).is_dir());
    let State::Missing { reason } = state(&applied, Control::Memory) else {
        panic!("{applied:?}")
    };
    assert_eq!(
        (reason.step.as_str(), reason.errno),
        ("enter own group", Some(libc::ENOENT))
    );
    assert!(leaf.enter_files().unwrap().birth.is_some());
}

#[test]
fn a_launcher_that_ends_leaves_its_group_for_the_other_processes_of_the_unit() {
    let machine = Machine::new(&["unit/pinfold-1/jails", "unit/pinfold-1/launcher"]);
    let group = |name: &str| Dir::open(&machine.path(name)).unwrap();
    let mut parent = v2::Parent {
        delegated: group("unit"),
        dir: group("unit/pinfold-1"),
        jails: std::sync::Arc::new(group("unit/pinfold-1/jails")),
        entered: false,
        controllers: std::collections::BTreeSet::new(),
    };
    parent.leave().unwrap();
    assert!(!machine.path("unit/pinfold-members").exists());
    parent.entered = true;
    // The kernel makes the file in each group; here it is missing at first.
    let refused = parent.leave().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOENT));
    machine.write("unit/pinfold-members/cgroup.procs", "");
    parent.leave().unwrap();
    assert_eq!(machine.read("unit/pinfold-members/cgroup.procs"), "0");
}
