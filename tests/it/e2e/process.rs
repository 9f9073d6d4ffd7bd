//! Processes as `/proc` shows them: what a jail looks like from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pinfold_tests::wait_for;

/// Processes whose parent is `pid`.
pub(super) fn children(pid: u32) -> Vec<u32> {
    parents()
        .into_iter()
        .filter(|(_, parent)| *parent == pid)
        .map(|(child, _)| child)
        .collect()
}

/// Every process below `pid` that runs another program: a launcher's own short-lived children, which prepare what jails
/// are made of, come and go.
pub(super) fn descendants(pid: u32) -> BTreeSet<u32> {
    let parents = parents();
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let own = name(pid);
    let mut found = BTreeSet::new();
    let mut looked_at = vec![pid];
    while let Some(pid) = looked_at.pop() {
        for (child, _) in parents.iter().filter(|(_, parent)| **parent == pid) {
            let is_other = name(*child).is_some_and(|name| Some(name) != own);
            if is_other && lives(*child) && found.insert(*child) {
                looked_at.push(*child);
            }
        }
    }
    found
}

/// The same, once they are so many: the first process of a jail begins before its plugin and ends after it.
pub(super) fn so_many_descendants(pid: u32, count: usize) -> BTreeSet<u32> {
    wait_for(&format!("{count} processes below {pid}"), || {
        Some(descendants(pid)).filter(|found| found.len() == count)
    })
}

/// Every process of this machine that can be seen.
pub(super) fn all() -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The arguments that it was started with, in one text.
pub(super) fn arguments(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parents() -> BTreeMap<u32, u32> {
    all()
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    field(pid, "PPid")?.parse().ok()
}

/// A line of `/proc/PID/status`; `None` where the process is gone or has no such line.
pub(super) fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim().to_owned())
    })
}

/// Whether it runs: not gone, and not merely waiting to be reaped.
pub(super) fn lives(pid: u32) -> bool {
    field(pid, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Processes with this real user id.
pub(super) fn of_uid(uid: u32) -> Vec<u32> {
    parents()
        .into_keys()
        .filter(|pid| self::uid(*pid) == Some(uid) && lives(*pid))
        .collect()
}

/// Its real user id.
pub(super) fn uid(pid: u32) -> Option<u32> {
    field(pid, "Uid")?.split_whitespace().next()?.parse().ok()
}

/// What a namespace is called: `pid:[4026531836]`.
pub(super) fn namespace(pid: &str, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.to_str().unwrap().to_owned()
}

/// User time that it has used, in ticks.
pub(super) fn user_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything: fields are counted after it (proc(5)).
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(11)?.parse().ok()
}

/// The first two numbers of the kernel's version.
pub(crate) fn kernel() -> Option<(u32, u32)> {
    version(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// The first two numbers of a version.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// How long its first thread may run at a time, where the kernel takes that from sched_setattr(2) and
/// tells it: since Linux 6.12.
pub(super) fn slice(pid: u32) -> Option<Duration> {
    if kernel()? < (6, 12) {
        return None;
    }
    let told = fs::read_to_string(format!("/proc/{pid}/sched")).ok()?;
    let line = told.lines().find(|line| line.starts_with("se.slice "))?;
    let nanoseconds = line.rsplit(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Directory of its control group in the version 1 hierarchy of a controller.
pub(super) fn group(pid: u32, controller: &str) -> PathBuf {
    try_group(pid, controller).unwrap_or_else(|| panic!("no {controller} hierarchy of version 1"))
}

/// The same; `None` where there is no such hierarchy.
pub(super) fn try_group(pid: u32, controller: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let names = fields.nth(1)?;
        let is_it = names.split(',').any(|name| name == controller);
        is_it.then(|| fields.next()).flatten()
    })?;
    Some(PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}")))
}

/// Directories of its control groups, in every hierarchy.
pub(super) fn groups(pid: u32) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let directory = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        Some(PathBuf::from(format!("/sys/fs/cgroup/{names}{path}")))
    };
    groups.lines().filter_map(directory).collect()
}

pub(super) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// Kills what may be ending by itself.
pub(super) fn end(pid: u32) {
    let killed = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
    assert!(
        matches!(killed, Ok(()) | Err(nix::errno::Errno::ESRCH)),
        "{killed:?}"
    );
}

/// Waits until every one of these is gone.
pub(super) fn all_gone(what: &str, pids: impl IntoIterator<Item = u32>) {
    for pid in pids {
        wait_for(&format!("{what} (process {pid}) to be gone"), || {
            (!lives(pid)).then_some(())
        });
    }
}

/// Waits until it is gone, and ends it where that takes too long. For the end of a test, which must
/// not panic once more.
pub(super) fn gone_within_limit(pid: u32) {
    let limit = std::time::Instant::now() + pinfold_tests::LIMIT;
    while lives(pid) && std::time::Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    if lives(pid) {
        println!("the launcher (process {pid}) did not end by itself");
        let pid = Pid::from_raw(pid.try_into().unwrap_or(i32::MAX));
        kill(pid, Signal::SIGKILL).unwrap_or_default();
    }
}
