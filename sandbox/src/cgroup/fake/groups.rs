//! What groups say of themselves, and which of them are taken away.

use super::*;

#[test]
fn statistics_have_the_same_names_on_both_versions() {
    let (machine, hierarchy) = version1();
    let parent = Parent::create(&hierarchy, &machine.locks()).unwrap();
    let (leaf, _) = parent.leaf("a", &Limits::default()).unwrap();
    let write = |group: &str, file: &str, text: &str| {
        machine.write(&format!("{group}/{}/a/{file}", parent.name()), text);
    };
    // 8 KiB of it are of files that the plugin has read.
    write("memory/here", "memory.usage_in_bytes", "12288\n");
    write("memory/here", "memory.max_usage_in_bytes", "16384\n");
    write(
        "memory/here",
        "memory.limit_in_bytes",
        "9223372036854771712\n",
    );
    write(
        "memory/here",
        "memory.stat",
        "cache 8704\nshmem 512\nmapped_file 2\n",
    );
    write(
        "memory/here",
        "memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    );
    write("cpu,cpuacct", "cpuacct.usage", "1500000000\n");
    write(
        "cpu,cpuacct",
        "cpu.stat",
        "nr_periods 9\nnr_throttled 2\nthrottled_time 7000\n",
    );
    write("pids/sub", "pids.current", "5\n");
    write("pids/sub", "pids.max", "max\n");
    write("pids/sub", "pids.events", "max 4\n");
    let v1 = leaf.stats();
    assert_eq!(v1.memory_bytes, Some(4096));
    assert_eq!(v1.memory_peak_bytes, Some(16384));
    assert_eq!(v1.memory_limit_bytes, None);
    assert_eq!(v1.memory_tmpfs_bytes, Some(512));
    assert_eq!(v1.oom_kills, Some(3));
    assert_eq!(v1.cpu_usage.unwrap().as_millis(), 1500);
    assert_eq!(v1.cpu_throttled.unwrap().as_nanos(), 7000);
    assert_eq!(v1.cpu_throttled_periods, Some(2));
    assert_eq!(
        (v1.tasks, v1.tasks_peak, v1.tasks_limit),
        (Some(5), None, None)
    );
    assert_eq!(v1.tasks_refused, Some(4));

    let unified = Machine::new(&["unified/unit"]);
    let hierarchy = unified.discover(&[("/", "unified", "cgroup2", "rw")], "0::/unit\n");
    let parent = Parent::create(&hierarchy, &unified.locks()).unwrap();
    let (leaf, _) = parent.leaf("a", &Limits::default()).unwrap();
    for (file, text) in [
        ("memory.current", "12288\n"),
        (
            "memory.stat",
            "anon 4096\nfile 7680\nfile_mapped 2\nshmem 512\nslab_reclaimable 1024\n",
        ),
        ("memory.max", "67108864\n"),
        (
            "memory.events.local",
            "low 0\nhigh 1\nmax 2\noom 1\noom_kill 3\noom_group_kill 1\n",
        ),
        (
            "cpu.stat",
            "usage_usec 1500000\nnr_throttled 2\nthrottled_usec 7\n",
        ),
        ("pids.peak", "9\n"),
    ] {
        unified.write(
            &format!("unified/unit/{}/jails/a/{file}", parent.name()),
            text,
        );
    }
    let v2 = leaf.stats();
    assert_eq!(
        (v2.memory_bytes, v2.memory_tmpfs_bytes, v2.oom_kills),
        (v1.memory_bytes, v1.memory_tmpfs_bytes, v1.oom_kills)
    );
    assert_eq!(v2.memory_limit_bytes, Some(64 << 20));
    assert_eq!(
        (v2.cpu_usage, v2.cpu_throttled),
        (v1.cpu_usage, v1.cpu_throttled)
    );
    assert_eq!((v2.tasks_peak, v2.tasks), (Some(9), None));
}

/// Everything below a directory that looks like a launcher's group.
fn groups_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.to_str().unwrap().contains("/pinfold-"))
        .collect()
}

#[test]
fn a_sweep_removes_what_nobody_holds_and_leaves_the_rest() {
    let machine = Machine::new(&["unified"]);
    let hierarchy = machine.discover(&[("/", "unified", "cgroup2", "rw")], "0::/\n");
    let locks = machine.locks();
    let living = Parent::create(&hierarchy, &locks).unwrap();
    let (_leaf, _) = living.leaf("works", &Limits::default()).unwrap();
    // A launcher that was killed: its groups and its lock file are there, and nobody has the lock.
    let dead = Parent::create(&hierarchy, &locks).unwrap();
    let (_orphan, _) = dead.leaf("orphan", &Limits::default()).unwrap();
    let name = dead.name().to_owned();
    let kept = machine.path("lock");
    let lock = locks.join(format!("{name}.lock"));
    fs::copy(&lock, &kept).unwrap();
    drop(dead);
    fs::copy(&kept, &lock).unwrap();
    // Nothing of ours: a group that only looks like it, and a record that points elsewhere.
    fs::create_dir(machine.path("unified/pinfold-0123456789abcdef")).unwrap();
    let stray = "pinfold-00000000000000aa";
    fs::create_dir(machine.path(stray)).unwrap();
    let record = format!("{}\n/etc\n", machine.path(stray).display());
    fs::write(locks.join(format!("{stray}.lock")), record).unwrap();

    let Sweep { swept, held } = sweep(&hierarchy, &locks).unwrap();
    assert_eq!(held, 1);
    let [only] = swept.as_slice() else {
        panic!("{swept:?}")
    };
    assert_eq!(only.path, machine.path(&format!("unified/{name}")));
    assert!(only.outcome.is_ok(), "{only:?}");
    assert!(!only.path.exists() && !lock.exists());
    assert!(machine.path(stray).is_dir());
    assert_eq!(groups_in(&machine.path("unified")).len(), 2);
    assert!(
        machine
            .path(&format!("unified/{}/jails/works", living.name()))
            .is_dir()
    );
    assert_eq!(sweep(&hierarchy, &locks).unwrap().swept.len(), 0);
}

#[test]
fn an_orderly_end_leaves_neither_groups_nor_locks() {
    let (machine, hierarchy) = version1();
    let locks = machine.locks();
    let mut parent = Parent::create(&hierarchy, &locks).unwrap();
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 1);
    assert_eq!(groups_in(&machine.path("pids/sub")).len(), 1);
    assert_eq!(parent.remove().unwrap(), Removal::Gone);
    drop(parent);
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 0);
    assert_eq!(groups_in(&machine.path("pids/sub")).len(), 0);
}

#[test]
fn a_sweep_without_a_lock_directory_finds_nothing() {
    let (machine, hierarchy) = version1();
    let swept = sweep(&hierarchy, &machine.path("absent")).unwrap();
    assert_eq!((swept.swept.len(), swept.held), (0, 0));
}
