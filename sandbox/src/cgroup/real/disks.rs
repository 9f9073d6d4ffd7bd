//! Disks, devices and stopping, by the kernel's own hierarchies: what is written there is held to.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::*;
use crate::cgroup::{Disk, IoLimits};

/// The limits of a leaf of which only this one is asked.
fn leaf_with(parent: &Parent, limits: Limits, control: Control) -> Option<(Leaf, State)> {
    let (leaf, applied) = parent.leaf("disks", &limits).unwrap();
    let found = applied.into_iter().find(|entry| entry.control == control);
    let state = found.unwrap().state;
    match &state {
        State::Missing { .. } => {
            remove(leaf);
            None
        }
        _ => Some((leaf, state)),
    }
}

/// A shell in every group of the leaf, which gives each of its `tasks` files a turn.
fn run_in(leaf: &Leaf, script: &str) -> Child {
    let groups: String = leaf
        .paths()
        .map(|path| match path.join("tasks").exists() {
            true => format!("echo 0 > {}/tasks;", path.display()),
            false => format!("echo 0 > {}/cgroup.procs;", path.display()),
        })
        .collect();
    Command::new("/bin/sh")
        .args(["-c", &format!("{groups} {script}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn no_device_but_the_five_opens_in_a_group_of_version_1() {
    let test = "disks::no_device_but_the_five_opens_in_a_group_of_version_1";
    let Some(home) = able(test) else {
        return;
    };
    let parent = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let limits = Limits {
        devices: true,
        ..Limits::default()
    };
    let Some((leaf, state)) = leaf_with(&parent, limits, Control::Devices) else {
        return skip(test, "cgroup-v1", "needs the controller devices");
    };
    assert_eq!(state, State::Enforced { how: How::V1 });
    // A device that every machine has, and no jail; only opened, never read.
    let other = ": < /dev/kmsg";
    assert!(outside(other).success());
    assert!(!run_in(&leaf, other).wait().unwrap().success());
    for own in ["null", "zero", "full", "random", "urandom"] {
        let script = format!(": < /dev/{own}");
        assert!(run_in(&leaf, &script).wait().unwrap().success(), "{own}");
    }
    // Made by somebody with every right, in a file system that allows it.
    let node = home.locks.path().join("node");
    let make = format!("mknod {} c 1 3", node.display());
    assert!(!run_in(&leaf, &make).wait().unwrap().success());
    assert!(outside(&make).success());
    remove(leaf);
}

/// A file on a disk of the machine, and the disk.
fn on_disk(home: &Home) -> Option<(PathBuf, Disk)> {
    let path = home.locks.path().join("written");
    fs::write(&path, "").unwrap();
    let device = fs::metadata(&path).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let is_partition = fs::exists(format!("/sys/dev/block/{major}:{minor}/partition"));
    (major != 0 && !is_partition.unwrap()).then_some((path, Disk { major, minor }))
}

/// Writes that the group has made at a disk.
fn written(leaf: &Leaf) -> u64 {
    let Some(dir) = leaf.on_v1(Controller::Io) else {
        let dir = &leaf.v2.as_ref().unwrap().dir;
        let text = dir.read("io.stat").unwrap();
        let words = text.split_whitespace();
        let counts = words.filter_map(|word| word.strip_prefix("wios="));
        return counts.map(|count| count.parse::<u64>().unwrap()).sum();
    };
    let text = dir.read("blkio.throttle.io_serviced").unwrap();
    let lines = text.lines().filter(|line| line.contains(" Write "));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn direct_writes_beyond_the_limit_wait() {
    let test = "disks::direct_writes_beyond_the_limit_wait";
    let Some(home) = able(test) else {
        return;
    };
    let Some((path, disk)) = on_disk(&home) else {
        return skip(test, "disk", "needs a temporary directory on a whole disk");
    };
    // Without buffers, in the place of a page that can be written so.
    let direct = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path);
    if direct.is_err() {
        return skip(test, "disk", "needs a file system with direct writes");
    }
    let parent = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let io = |write_operations| Limits {
        io: Some(IoLimits {
            disk,
            read_bytes: None,
            write_bytes: None,
            read_operations: None,
            write_operations,
        }),
        ..Limits::default()
    };
    let write = format!(
        "dd if=/dev/zero of={} bs=4096 count=30 oflag=direct conv=notrunc; echo done; cat",
        path.display()
    );
    let took = |limits: Limits| {
        let (leaf, state) = leaf_with(&parent, limits, Control::Io)?;
        match leaf.v1.is_empty() {
            true => assert_eq!(state, State::Enforced { how: How::V2 }),
            false => assert!(
                matches!(state, State::Partial { how: How::V1, .. }),
                "{state:?}"
            ),
        }
        let begin = Instant::now();
        let mut dd = run_in(&leaf, &write);
        let mut line = String::new();
        BufReader::new(dd.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let took = begin.elapsed();
        assert_eq!(written(&leaf), 30);
        leaf.kill().unwrap();
        dd.wait().unwrap();
        remove(leaf);
        Some(took)
    };
    let Some(slow) = took(io(Some(10))) else {
        return skip(test, "cgroup-io", "needs the controller blkio or io");
    };
    // Thirty at ten a second: two of the three seconds at least are the limit's, however fast the disk.
    assert!(slow >= Duration::from_secs(2), "{slow:?}");
    let fast = took(io(None)).unwrap();
    assert!(fast < slow, "{fast:?} without, {slow:?} with the limit");
}

#[test]
fn what_forks_all_the_time_is_killed_at_once_where_groups_can_be_stopped() {
    let test = "disks::what_forks_all_the_time_is_killed_at_once_where_groups_can_be_stopped";
    let Some(home) = able(test) else {
        return;
    };
    // As on a machine with version 1 alone.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = table.lines().filter(|line| !line.contains(" cgroup2 "));
    let mountinfo = home.locks.path().join("mountinfo");
    let mut file = fs::File::create(&mountinfo).unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
    let paths = ProcPaths {
        mountinfo,
        ..ProcPaths::own()
    };
    let alone = Hierarchy::discover(&paths).unwrap();
    if matches!(alone.place(Controller::Freezer), Place::Missing) {
        return skip(test, "cgroup-v1", "needs the controller freezer");
    }
    let parent = Parent::create(&alone, home.locks.path()).unwrap();
    let limits = Limits {
        pids: Some(64),
        ..Limits::default()
    };
    let (leaf, state) = leaf_with(&parent, limits, Control::GroupFreeze).unwrap();
    assert_eq!(state, State::Enforced { how: How::V1 });
    let mut bomb = run_in(
        &leaf,
        "echo ready; while :; do (while :; do (:); done) & done",
    );
    let mut line = String::new();
    let mut output = BufReader::new(bomb.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // On a machine that is busy with more, stopping all of them may take longer than a kill waits for it.
    while !matches!(leaf.kill().unwrap(), Killed::Listed { frozen: true, .. }) {}
    // Nobody escaped that kill: its output ends, of which each of them had a copy, without another.
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
    bomb.wait().unwrap();
    remove(leaf);
}
