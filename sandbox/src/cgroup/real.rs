//! Tests on the kernel's own control groups. They need root and the controllers memory, cpu and
//! pids, all on v1 or all on v2 in a delegated group; elsewhere they are skipped by name, unless
//! `PINFOLD_TEST_REQUIRE` promises the ability.
#![expect(
    clippy::disallowed_methods,
    reason = "programs that meet limits are started here"
)]

mod delegation;
mod disks;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pinfold_policy::Control;
use tempfile::TempDir;

use super::{
    Controller, Hierarchy, How, Interest, Killed, Leaf, Limits, Parent, Place, ProcPaths, Removal,
    State, Watch, WatchKind, sweep,
};
use crate::skip::{skip, tell};

/// Longest wait for anything here; nothing takes it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the tests stand on. Declared first and so dropped last, it clears what a test that failed
/// has left in its groups.
struct Home {
    hierarchy: Hierarchy,
    locks: TempDir,
}

impl Drop for Home {
    fn drop(&mut self) {
        sweep(&self.hierarchy, self.locks.path()).unwrap();
    }
}

/// The machine's groups, or `None` after saying why they will not do.
fn able(test: &str) -> Option<Home> {
    if !nix::unistd::geteuid().is_root() {
        skip(test, "root", "needs root");
        return None;
    }
    let hierarchy = Hierarchy::discover(&ProcPaths::own()).unwrap();
    let controllers = [Controller::Memory, Controller::Cpu, Controller::Pids];
    let places = controllers.map(|controller| hierarchy.place(controller));
    if places.contains(&Place::V2) {
        return match std::env::var_os(ALONE) {
            // The launcher's place in the tree is the whole process's, so each has its own.
            None => {
                run_alone(test);
                None
            }
            Some(_) => delegated()
                .map_err(|reason| skip(test, "cgroup-v2", &reason))
                .ok(),
        };
    }
    for (controller, place) in controllers.into_iter().zip(places) {
        if place == Place::Missing {
            let reason = format!("needs the controller {controller}");
            skip(test, "cgroup-v1", &reason);
            return None;
        }
    }
    let locks = tempfile::tempdir().unwrap();
    Some(Home { hierarchy, locks })
}

/// Says to a test, started as a process of its own, that it is.
const ALONE: &str = "PINFOLD_TEST_CGROUP_ALONE";

fn run_alone(test: &str) {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("cgroup::real::{test}"), "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    tell(&said);
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && text.contains("1 passed"),
        "{text}{said}"
    );
}

/// The machine's groups on version 2, if limits can be set there.
fn delegated() -> Result<Home, String> {
    let locks = tempfile::tempdir().unwrap();
    let hierarchy = Hierarchy::discover(&ProcPaths::own()).unwrap();
    let parent = Parent::create(&hierarchy, locks.path()).unwrap();
    let applied = parent.probe(None).unwrap();
    let limits = applied.iter().filter(|entry| {
        [Control::Memory, Control::Cpu, Control::Processes].contains(&entry.control)
    });
    if let Some(missing) = limits.into_iter().find(|entry| !entry.is_in_force()) {
        return Err(format!("needs delegated v2 controllers: {missing:?}"));
    }
    drop(parent);
    // Making the group moved this process.
    let hierarchy = Hierarchy::discover(&ProcPaths::own()).unwrap();
    Ok(Home { hierarchy, locks })
}

/// A shell that enters the leaf by itself, as a reaper does: `0` to each `tasks` file through the
/// descriptor that was opened for it, then into the unified tree.
fn enter(leaf: &Leaf, script: &str) -> Child {
    let files = leaf.enter_files().unwrap().tasks;
    let join = leaf.v2.as_ref().map_or_else(String::new, |part| {
        format!("echo 0 > {}/cgroup.procs;", part.dir.path().display())
    });
    let script = format!("{join} exec </dev/null >/dev/null 2>&1; {script}");
    let mut command = Command::new("/bin/sh");
    if files.is_empty() {
        return command.args(["-c", &script]).spawn().unwrap();
    }
    let tasks: [OwnedFd; 3] = files
        .try_into()
        .expect("memory, cpu and pids, mounted apart");
    let [one, two, three] = tasks.map(Stdio::from);
    let script = format!("echo 0 >&0; echo 0 >&1; echo 0 >&2; {script}");
    command
        .args(["-c", &script])
        .stdin(one)
        .stdout(two)
        .stderr(three)
        .spawn()
        .unwrap()
}

fn outside(script: &str) -> ExitStatus {
    Command::new("/bin/sh")
        .args(["-c", script])
        .output()
        .unwrap()
        .status
}

fn limited(limits: Limits, parent: &Parent, name: &str) -> Leaf {
    let (leaf, applied) = parent.leaf(name, &limits).unwrap();
    for (wanted, control) in [
        (limits.memory_bytes.is_some(), Control::Memory),
        (limits.cpu_percent.is_some(), Control::Cpu),
        (limits.pids.is_some(), Control::Processes),
    ] {
        let entry = applied
            .iter()
            .find(|entry| entry.control == control)
            .unwrap();
        match wanted {
            true => assert!(entry.is_in_force(), "{entry:?}"),
            false => assert_eq!(entry.state, State::Off),
        }
    }
    leaf
}

fn poll_for(watch: &Watch, patience: Duration) -> bool {
    let flags = match watch.interest() {
        Interest::Readable => PollFlags::POLLIN,
        Interest::Priority => PollFlags::POLLPRI,
    };
    let mut fds = [PollFd::new(watch.as_fd(), flags)];
    poll(&mut fds, PollTimeout::try_from(patience).unwrap()).unwrap() == 1
}

fn wait_for(watch: &Watch) {
    assert!(
        poll_for(watch, PATIENCE),
        "{:?} did not happen",
        watch.kind()
    );
    watch.acknowledge().unwrap();
}

fn is_quiet(watch: &Watch) -> bool {
    !poll_for(watch, Duration::ZERO)
}

/// As the launcher does it, but for waiting on a timer between two attempts.
fn remove(mut leaf: Leaf) {
    let begin = Instant::now();
    while leaf.remove().unwrap() == Removal::Busy {
        assert!(begin.elapsed() < PATIENCE, "the group stays busy");
        std::thread::yield_now();
    }
}

/// Holds 64 MiB in memory at once.
const HOG: &str = "head -c 64m /dev/zero | tail -c 64m";

#[test]
fn memory_beyond_the_limit_ends_the_program_and_is_counted() {
    let Some(home) = able("memory_beyond_the_limit_ends_the_program_and_is_counted") else {
        return;
    };
    assert!(outside(HOG).success());
    let parent = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let limits = Limits {
        memory_bytes: Some(16 << 20),
        ..Limits::default()
    };
    let leaf = limited(limits, &parent, "hog");
    assert_eq!(leaf.stats().memory_limit_bytes, Some(16 << 20));
    assert_eq!(leaf.oom_kills(), Some(0));
    let watch = leaf.watch(WatchKind::OutOfMemory).unwrap().unwrap();
    assert!(is_quiet(&watch));

    let mut hog = enter(&leaf, HOG);
    wait_for(&watch);
    assert!(is_quiet(&watch) || leaf.oom_kills() > Some(1));
    let ended = hog.wait().unwrap();
    // On v2 the shell dies with the program, on v1 it tells of it.
    let is_killed = ended.signal() == Some(libc::SIGKILL) || ended.code() == Some(128 + 9);
    assert!(is_killed, "{ended}");
    assert!(leaf.oom_kills() >= Some(1));
    let stats = leaf.stats();
    assert!(stats.memory_peak_bytes.unwrap() <= 16 << 20, "{stats:?}");
    remove(leaf);
}

/// Starts twenty programs at once.
const BOMB: &str = "i=0; while [ $i -lt 20 ]; do sleep 60 & p=\"$p $!\"; i=$((i+1)); done; kill $p";

#[test]
fn tasks_beyond_the_limit_are_refused_and_counted() {
    let Some(home) = able("tasks_beyond_the_limit_are_refused_and_counted") else {
        return;
    };
    assert!(outside(BOMB).success());
    let parent = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let leaf = limited(
        Limits {
            pids: Some(8),
            ..Limits::default()
        },
        &parent,
        "bomb",
    );
    // On v1 the kernel counts, and does not tell.
    let watch = leaf.watch(WatchKind::Tasks).unwrap();
    assert_eq!(watch.is_some(), leaf.v1.is_empty());

    let mut bomb = enter(&leaf, BOMB);
    assert!(!bomb.wait().unwrap().success());
    if let Some(watch) = watch {
        wait_for(&watch);
    }
    let stats = leaf.stats();
    assert_eq!(stats.tasks_limit, Some(8));
    assert!(stats.tasks_refused >= Some(1), "{stats:?}");
    assert!(stats.tasks_peak.is_none_or(|peak| peak <= 8), "{stats:?}");
    // The ones that did start are still there, and were born into the group.
    assert!(!leaf.is_empty().unwrap());
    leaf.kill().unwrap();
    remove(leaf);
}

#[test]
fn processor_time_beyond_the_quota_is_withheld_and_counted() {
    let Some(home) = able("processor_time_beyond_the_quota_is_withheld_and_counted") else {
        return;
    };
    let parent = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let leaf = limited(
        Limits {
            cpu_percent: Some(20),
            ..Limits::default()
        },
        &parent,
        "busy",
    );
    let mut busy = enter(&leaf, "exec timeout 1 sh -c 'while :; do :; done'");
    assert_eq!(busy.wait().unwrap().code(), Some(124));
    let stats = leaf.stats();
    let used = stats.cpu_usage.unwrap();
    assert!((50..500).contains(&used.as_millis()), "{stats:?}");
    assert!(stats.cpu_throttled_periods >= Some(2), "{stats:?}");
    assert!(
        stats.cpu_throttled >= Some(Duration::from_millis(50)),
        "{stats:?}"
    );
    remove(leaf);
}

#[test]
fn a_group_is_killed_whole_and_tells_when_it_is_empty() {
    let Some(home) = able("a_group_is_killed_whole_and_tells_when_it_is_empty") else {
        return;
    };
    let parent = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let (mut leaf, applied) = parent.leaf("family", &Limits::default()).unwrap();
    let kill = applied
        .iter()
        .find(|entry| entry.control == Control::GroupKill)
        .unwrap();
    let Some(watch) = leaf.watch(WatchKind::Populated).unwrap() else {
        // Version 1 alone: there is nothing that kills a group whole.
        assert!(matches!(kill.state, State::Partial { how: How::V1, .. }));
        return;
    };
    assert_eq!(kill.state, State::Enforced { how: How::V2 });
    let mut shell = enter(&leaf, "sleep 60 & sleep 60 & wait");
    wait_for(&watch);
    assert!(!leaf.is_empty().unwrap());
    assert_eq!(leaf.remove().unwrap(), Removal::Busy);
    assert_eq!(leaf.kill().unwrap(), Killed::Whole);
    assert_eq!(shell.wait().unwrap().signal(), Some(libc::SIGKILL));
    // Becoming populated may have been told once more for each task; the last word is "empty".
    while !leaf.is_empty().unwrap() {
        wait_for(&watch);
    }
    remove(leaf);
}

#[test]
fn version_1_alone_is_killed_by_list() {
    let Some(home) = able("version_1_alone_is_killed_by_list") else {
        return;
    };
    if home.hierarchy.place(Controller::Memory) == Place::V2 {
        skip(
            "version_1_alone_is_killed_by_list",
            "cgroup-v1",
            "needs version 1",
        );
        return;
    }
    // The same machine, with its unified tree left out of the mount table.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let table: Vec<&str> = table
        .lines()
        .filter(|line| !line.contains(" cgroup2 "))
        .collect();
    let mountinfo = home.locks.path().join("mountinfo");
    fs::write(&mountinfo, table.join("\n")).unwrap();
    let paths = ProcPaths {
        mountinfo,
        ..ProcPaths::own()
    };
    let alone = Hierarchy::discover(&paths).unwrap();
    assert!(!alone.has_unified());
    assert_eq!(
        alone.place(Controller::Pids),
        home.hierarchy.place(Controller::Pids)
    );

    let parent = Parent::create(&alone, home.locks.path()).unwrap();
    let limits = Limits {
        pids: Some(16),
        ..Limits::default()
    };
    let (leaf, _) = parent.leaf("list", &limits).unwrap();
    let tasks = leaf.paths().map(|path| format!("{}/tasks", path.display()));
    let enter: String = tasks.map(|file| format!("echo 0 > {file};")).collect();
    let mut shell = Command::new("/bin/sh")
        .args([
            "-c",
            &format!("{enter} sleep 60 & sleep 60 & echo ready; wait"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    assert_eq!(
        leaf.kill().unwrap(),
        Killed::Listed {
            count: 3,
            frozen: true
        }
    );
    assert_eq!(shell.wait().unwrap().signal(), Some(libc::SIGKILL));
    remove(leaf);
}

#[test]
fn a_probe_finds_what_a_launch_will_get() {
    let Some(home) = able("a_probe_finds_what_a_launch_will_get") else {
        return;
    };
    let mut parent = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let applied = parent.probe(None).unwrap();
    let controls: Vec<Control> = applied.iter().map(|entry| entry.control).collect();
    let all = [
        Control::Memory,
        Control::MemoryGroupKill,
        Control::Cpu,
        Control::Processes,
        Control::Io,
        Control::Devices,
        Control::GroupKill,
        Control::GroupFreeze,
    ];
    assert_eq!(controls, all);
    for entry in &applied {
        match entry.control {
            // Nobody has said at which disk.
            Control::Io => assert_eq!(entry.state, State::Off),
            // Version 2 has none.
            Control::Devices => {}
            _ => assert!(entry.is_in_force(), "{entry:?}"),
        }
    }
    let (leaf, _) = parent.leaf("last", &Limits::default()).unwrap();
    let paths: Vec<PathBuf> = leaf.paths().map(PathBuf::from).collect();
    remove(leaf);
    assert_eq!(parent.remove().unwrap(), Removal::Gone);
    let name = parent.name();
    for path in paths {
        let ours = path.ancestors().find(|path| path.ends_with(name)).unwrap();
        assert!(!ours.exists(), "{}", ours.display());
    }
    assert_eq!(fs::read_dir(home.locks.path()).unwrap().count(), 0);
}

/// Says to a test, started as a process of its own, where its locks are.
const LOCKS: &str = "PINFOLD_TEST_CGROUP_LOCKS";

#[test]
fn what_a_killed_launcher_left_is_swept_and_what_a_living_one_has_is_not() {
    let test = "what_a_killed_launcher_left_is_swept_and_what_a_living_one_has_is_not";
    if let Ok(locks) = std::env::var(LOCKS) {
        return play_launcher(&PathBuf::from(locks));
    }
    let Some(home) = able(test) else {
        return;
    };
    let living = Parent::create(&home.hierarchy, home.locks.path()).unwrap();
    let works = limited(
        Limits {
            pids: Some(8),
            ..Limits::default()
        },
        &living,
        "works",
    );
    let mut worker = enter(&works, "exec sleep 60");

    let mut launcher = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("cgroup::real::{test}"), "--nocapture"])
        .env(LOCKS, home.locks.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(launcher.stdout.take().unwrap());
    let groups = output
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("groups ").map(str::to_owned));
    let groups: Vec<PathBuf> = groups.unwrap().split(' ').map(PathBuf::from).collect();
    assert!(groups.iter().all(|group| group.is_dir()), "{groups:?}");
    // Held: nothing happens.
    let held = sweep(&home.hierarchy, home.locks.path()).unwrap();
    assert_eq!((held.held, held.swept.len()), (2, 0));
    launcher.kill().unwrap();
    launcher.wait().unwrap();

    let swept = sweep(&home.hierarchy, home.locks.path()).unwrap();
    assert_eq!(swept.held, 1);
    assert!(
        swept.swept.iter().all(|one| one.outcome.is_ok()),
        "{swept:?}"
    );
    assert!(!groups.iter().any(|group| group.exists()), "{groups:?}");
    assert_eq!(
        worker.try_wait().unwrap(),
        None,
        "a living launcher's jail was killed"
    );

    works.kill().unwrap();
    worker.wait().unwrap();
    remove(works);
}

/// A launcher with one jail, which says where its groups are and then waits to be killed.
fn play_launcher(locks: &std::path::Path) {
    let hierarchy = Hierarchy::discover(&ProcPaths::own()).unwrap();
    let parent = Parent::create(&hierarchy, locks).unwrap();
    let leaf = limited(
        Limits {
            pids: Some(8),
            ..Limits::default()
        },
        &parent,
        "orphan",
    );
    let populated = leaf.watch(WatchKind::Populated).unwrap();
    let mut jail = enter(&leaf, "sleep 60 & exec sleep 60");
    if let Some(watch) = populated {
        wait_for(&watch);
    }
    let groups: Vec<String> = leaf
        .paths()
        .map(|path| path.display().to_string())
        .collect();
    println!("\ngroups {}", groups.join(" "));
    jail.wait().unwrap();
}
