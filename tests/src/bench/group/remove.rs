//! The end of groups, with whatever is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PREFIX, find};

/// Killed processes take a while to be gone.
const LIMIT: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Removes the groups of benchmarks whose process number `is_gone` says yes to.
///
/// # Errors
/// Where one stays.
pub fn sweep(is_gone: impl Fn(u32) -> bool) -> anyhow::Result<()> {
    let mut left = Vec::new();
    for hierarchy in find::hierarchies()? {
        for entry in fs::read_dir(hierarchy.own()).context("list the control groups")? {
            let entry = entry.context("list the control groups")?;
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
                .and_then(|(owner, _)| owner.parse().ok());
            if owner.is_some_and(&is_gone) {
                left.push(entry.path());
            }
        }
    }
    remove(&left)
}

/// Kills what is in these groups and below, and removes them.
pub(super) fn remove(groups: &[PathBuf]) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    let mut left: Vec<&PathBuf> = groups.iter().collect();
    while !left.is_empty() {
        for group in &left {
            for process in processes(group) {
                if let Ok(process) = i32::try_from(process) {
                    // It may have ended since.
                    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap_or_default();
                }
            }
        }
        left.retain(|group| !remove_tree(group));
        if let Some(group) = left.first() {
            ensure!(
                Instant::now() < end,
                "the control group {} cannot be removed",
                group.display()
            );
            std::thread::sleep(AGAIN_AFTER);
        }
    }
    Ok(())
}

/// Every process in a group and below.
pub(super) fn processes(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    // On v1 a process that is in another process number namespace reads as 0.
    found.retain(|process| *process > 1 && *process != std::process::id());
    for below in children(group) {
        found.extend(processes(&below));
    }
    found
}

/// Whether it is gone.
fn remove_tree(group: &Path) -> bool {
    for below in children(group) {
        remove_tree(&below);
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path())
        })
        .collect()
}
