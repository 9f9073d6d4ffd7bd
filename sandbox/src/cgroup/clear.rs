//! Killing by list, and removing a group with all that is in it.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::CgroupError;
use super::dir::Dir;
use super::freeze;
use super::parent::is_busy;

/// Sends SIGKILL to every process that the group lists, and gives their numbers.
///
/// By descriptor: a number is only believed if it is still listed after the descriptor was opened,
/// so that one which was reused in between is never hit.
pub(super) fn kill_listed(dir: &Dir) -> Result<Vec<i32>, CgroupError> {
    let mut open = Vec::new();
    for number in dir.processes()? {
        let Some(pid) = Pid::from_raw(number) else {
            continue;
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => open.push((number, pidfd)),
            Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(failed(dir, number, errno.into())),
        }
    }
    let still_there: BTreeSet<i32> = dir.processes()?.into_iter().collect();
    let mut killed = Vec::new();
    for (number, pidfd) in open {
        if !still_there.contains(&number) {
            continue;
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) => killed.push(number),
            Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(failed(dir, number, errno.into())),
        }
    }
    Ok(killed)
}

/// A leaf is at depth 2 or 3, and a plugin cannot make groups.
const MAX_DEPTH: usize = 4;
/// Leaves of one launcher.
const MAX_CHILDREN: usize = 10_000;
/// The first wait between two attempts; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// 1 + 2 + … + 512 ms: one second in all. Killed processes are gone within milliseconds, unless
/// somebody else has to reap them.
const ATTEMPTS: u32 = 10;

/// Kills all that is in a child group, and removes it. Waits up to one second; for use at the
/// launcher's start alone.
///
/// # Errors
///
/// The last attempt's.
pub(super) fn clear(parent: &Dir, name: &str) -> Result<(), CgroupError> {
    let mut wait = FIRST_WAIT;
    for attempt in 1.. {
        match attempt_to_clear(parent, name, 0) {
            Ok(()) => return Ok(()),
            Err(CgroupError::Remove { source, .. }) if is_busy(&source) && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(wait);
        wait *= 2;
    }
    Ok(())
}

fn attempt_to_clear(parent: &Dir, name: &str, depth: usize) -> Result<(), CgroupError> {
    let dir = match parent.open_child(name) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(CgroupError::Open {
                path: parent.path().join(name),
                source,
            });
        }
    };
    if dir.has("cgroup.kill") {
        dir.write("cgroup.kill", "1")
            .map_err(|source| CgroupError::Write {
                path: dir.path().join("cgroup.kill"),
                source,
            })?;
    } else if dir.has("cgroup.procs") {
        let _frozen = freeze::freeze(&dir);
        kill_listed(&dir)?;
    }
    if depth < MAX_DEPTH {
        let children = dir
            .children(MAX_CHILDREN)
            .map_err(|source| CgroupError::Read {
                path: dir.path().to_owned(),
                source,
            })?;
        let mut busy = None;
        for child in children {
            match attempt_to_clear(&dir, &child, depth + 1) {
                Err(CgroupError::Remove { path, source }) if is_busy(&source) => {
                    busy = Some(CgroupError::Remove { path, source });
                }
                cleared => cleared?,
            }
        }
        if let Some(error) = busy {
            return Err(error);
        }
    }
    parent
        .remove_child(name)
        .map_err(|source| CgroupError::Remove {
            path: dir.path().to_owned(),
            source,
        })
}

fn failed(dir: &Dir, pid: i32, source: io::Error) -> CgroupError {
    CgroupError::Kill {
        pid,
        path: dir.path().to_owned(),
        source,
    }
}
