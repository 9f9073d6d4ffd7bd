//! What a jail uses, under the same names on both versions.

use std::time::Duration;

use super::dir::{Dir, keyed};
use super::{Controller, Leaf};

/// What a leaf has used. `None`: this machine does not tell, or there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory now, in bytes, tmpfs included; without what the kernel keeps of files and takes back when it needs room,
    /// which is as much as the limit lets it be.
    pub memory_bytes: Option<u64>,
    /// Most memory ever, in bytes, with that.
    pub memory_peak_bytes: Option<u64>,
    /// The limit, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// How much of the memory is in tmpfs and other shared memory.
    pub memory_tmpfs_bytes: Option<u64>,
    /// Processor time used.
    pub cpu_usage: Option<Duration>,
    /// Time during which the quota kept tasks from running.
    pub cpu_throttled: Option<Duration>,
    /// How many periods the quota cut short.
    pub cpu_throttled_periods: Option<u64>,
    /// Tasks now: processes and threads.
    pub tasks: Option<u64>,
    /// Most tasks ever.
    pub tasks_peak: Option<u64>,
    /// The limit.
    pub tasks_limit: Option<u64>,
    /// How often a new task was refused.
    pub tasks_refused: Option<u64>,
    /// How many processes the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
}

impl Leaf {
    /// Reads the counters. Files that are missing leave their field empty.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            oom_kills: self.oom_kills(),
            ..Stats::default()
        };
        match (self.on_v1(Controller::Memory), self.unified()) {
            (Some(dir), _) => memory_v1(&mut stats, dir),
            (None, Some(dir)) => memory_v2(&mut stats, dir),
            (None, None) => {}
        }
        if let Some(dir) = self.on_v1(Controller::Cpu).or(self.unified()) {
            cpu(&mut stats, dir);
        }
        stats.cpu_usage = self
            .on_v1(Controller::Cpuacct)
            .and_then(|dir| dir.number("cpuacct.usage"))
            .map(Duration::from_nanos)
            .or_else(|| {
                self.unified()?
                    .keyed("cpu.stat", "usage_usec")
                    .map(Duration::from_micros)
            });
        if let Some(dir) = self.on_v1(Controller::Pids).or(self.unified()) {
            stats.tasks = dir.number("pids.current");
            stats.tasks_peak = dir.number("pids.peak");
            stats.tasks_limit = dir.number("pids.max");
            stats.tasks_refused = dir.keyed("pids.events", "max");
        }
        stats
    }

    /// How many processes of the group the kernel has killed for want of memory. One above what it
    /// was before is the cause "out of memory".
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        if let Some(dir) = self.on_v1(Controller::Memory) {
            return dir.keyed("memory.oom_control", "oom_kill");
        }
        let dir = self.unified()?;
        dir.keyed("memory.events.local", "oom_kill")
            .or_else(|| dir.keyed("memory.events", "oom_kill"))
    }

    fn unified(&self) -> Option<&Dir> {
        self.v2.as_ref().map(|part| &part.dir)
    }
}

/// What v1 says for "no limit": the largest number of pages, in bytes. Limits near it are none.
const NO_LIMIT_V1: u64 = i64::MAX as u64 - 0xffff;

fn memory_v1(stats: &mut Stats, dir: &Dir) {
    let told = dir.read("memory.stat").unwrap_or_default();
    stats.memory_tmpfs_bytes = keyed(&told, "shmem");
    let reclaimable = of_files(keyed(&told, "cache"), stats.memory_tmpfs_bytes);
    stats.memory_bytes = dir
        .number("memory.usage_in_bytes")
        .map(|all| all.saturating_sub(reclaimable));
    stats.memory_peak_bytes = dir.number("memory.max_usage_in_bytes");
    stats.memory_limit_bytes = dir
        .number("memory.limit_in_bytes")
        .filter(|limit| *limit < NO_LIMIT_V1);
}

fn memory_v2(stats: &mut Stats, dir: &Dir) {
    let told = dir.read("memory.stat").unwrap_or_default();
    stats.memory_tmpfs_bytes = keyed(&told, "shmem");
    // Names and attributes of files are kept likewise.
    let reclaimable = of_files(keyed(&told, "file"), stats.memory_tmpfs_bytes)
        .saturating_add(keyed(&told, "slab_reclaimable").unwrap_or(0));
    stats.memory_bytes = dir
        .number("memory.current")
        .map(|all| all.saturating_sub(reclaimable));
    stats.memory_peak_bytes = dir.number("memory.peak");
    stats.memory_limit_bytes = dir.number("memory.max");
}

/// What is kept of files on disks: of the page cache, in which is tmpfs too, what has another place.
fn of_files(cache: Option<u64>, tmpfs: Option<u64>) -> u64 {
    cache.unwrap_or(0).saturating_sub(tmpfs.unwrap_or(0))
}

/// v1 counts throttled time in nanoseconds as `throttled_time`, v2 in microseconds as
/// `throttled_usec`.
fn cpu(stats: &mut Stats, dir: &Dir) {
    let Ok(text) = dir.read("cpu.stat") else {
        return;
    };
    stats.cpu_throttled_periods = keyed(&text, "nr_throttled");
    stats.cpu_throttled = keyed(&text, "throttled_time")
        .map(Duration::from_nanos)
        .or_else(|| keyed(&text, "throttled_usec").map(Duration::from_micros));
}
