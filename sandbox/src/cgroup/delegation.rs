//! What was given to us of the unified tree, and who is in the way there: a group that passes
//! controllers on may hold no process itself.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

use super::Reason;
use super::dir::Dir;
use super::parent::MEMBERS;

/// Moves the processes of a group into one below it, where they are ours to move: all of them in a
/// group that was given to us, elsewhere only the daemon that started the calling process.
///
/// # Errors
///
/// `busy`, the kernel's refusal so far, with what is missing; or the reason why they stay.
pub(super) fn free_of_processes(group: &Dir, busy: Reason) -> Result<(), Reason> {
    if is_delegated(group) || is_daemon_alone_below_delegated(group) {
        move_aside(group)
    } else {
        Err(busy.undelegated())
    }
}

/// Whether systemd marked the group as given away (`Delegate=`).
fn is_delegated(group: impl AsFd) -> bool {
    ["user.delegate", "trusted.delegate"]
        .into_iter()
        .any(|name| {
            let mut value = [0; 1];
            rustix::fs::fgetxattr(&group, name, &mut value[..])
                .is_ok_and(|n| n == 1 && value == *b"1")
        })
}

/// Not every user's service manager marks groups (that of systemd 252 does not), but it runs in one
/// that is marked. A group below it that was not given to us has others in it: the shell or the
/// terminal from which pinfoldd was started.
fn is_daemon_alone_below_delegated(group: &Dir) -> bool {
    let daemon = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    let is_alone = group
        .processes()
        .is_ok_and(|processes| processes.iter().all(|pid| Some(*pid) == daemon));
    is_alone && is_below_delegated(group.path())
}

fn is_below_delegated(group: &Path) -> bool {
    group
        .ancestors()
        .skip(1)
        .map_while(|above| Dir::open(above).ok().filter(is_group))
        .any(is_delegated)
}

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h): an attribute of any other directory is no mark.
fn is_group(dir: &Dir) -> bool {
    const CGROUP2: u32 = 0x6367_7270;
    rustix::fs::fstatfs(dir).is_ok_and(|found| u32::try_from(found.f_type) == Ok(CGROUP2))
}

/// How often to look again: processes fork while they are being moved.
const MOVE_PASSES: usize = 8;

/// Moves the processes of a group that was given to us into a group below it.
fn move_aside(delegated: &Dir) -> Result<(), Reason> {
    let refused = |step: &str, error: &io::Error| Reason::refused(step, delegated.path(), error);
    let members = members_of(delegated).map_err(|error| refused("make group", &error))?;
    for _ in 0..MOVE_PASSES {
        let processes = delegated
            .processes()
            .map_err(|error| Reason::absent("list processes", error.to_string()))?;
        if processes.is_empty() {
            return Ok(());
        }
        for process in processes {
            match members.write("cgroup.procs", &process.to_string()) {
                Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                moved => moved.map_err(|error| refused("move processes aside", &error))?,
            }
        }
    }
    Ok(())
}

/// The group below a delegated one for processes that may not be in that itself.
pub(super) fn members_of(delegated: &Dir) -> io::Result<Dir> {
    match delegated.make_child(MEMBERS) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => delegated.open_child(MEMBERS),
        made => made,
    }
}
