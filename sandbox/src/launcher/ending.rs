//! Whether a process has run its last instruction, though the kernel is not done with it yet.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// `PF_EXITING` (linux/sched.h), of the flags in `/proc/PID/task/TID/stat` (proc_pid_stat(5)).
const EXITING: u64 = 0x4;

/// Time for the other threads of a process whose first one ends: each is told to, and does.
const MOMENT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Whether a process, by its pidfd and its number, ends: between giving up its memory and being gone lies
/// work in the kernel, of some microseconds where it gets a processor.
pub(super) fn ends_soon(process: impl AsFd, pid: i32) -> bool {
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    is_ending(pid) || matches!(poll(&mut polled, Some(&MOMENT)), Ok(1)) || is_ending(pid)
}

/// Whether no thread of a process will run again. One that ends starts no other, so that what is listed
/// after all were seen to end, and was not before, was started by nobody.
fn is_ending(pid: i32) -> bool {
    let Some(before) = threads(pid) else {
        return true;
    };
    let all_end = before.iter().all(|thread| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"));
        // One that cannot be read any more has ended.
        stat.map_or(true, |stat| is_exiting(&stat))
    });
    all_end && threads(pid).is_none_or(|after| after.is_subset(&before))
}

/// The threads of a process; `None` where there is none.
fn threads(pid: i32) -> Option<BTreeSet<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let names = entries.map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn is_exiting(stat: &str) -> bool {
    // The name before may hold anything.
    let flags = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::{is_ending, is_exiting};

    #[test]
    fn a_process_that_runs_does_not_end_and_one_that_nobody_waited_for_does() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!is_ending(own));
        #[expect(clippy::disallowed_methods, reason = "the test looks at its own child")]
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // A zombie has no program.
        while std::fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
            std::thread::yield_now();
        }
        assert!(is_ending(pid));
        child.wait().unwrap();
        assert!(is_ending(pid));
    }

    #[test]
    fn the_flags_are_found_after_any_name() {
        let stat = |name: &str, flags: u32| format!("7 ({name}) Z 1 7 7 0 -1 {flags} 0 0");
        assert!(is_exiting(&stat("a", 0x40_0004)));
        assert!(!is_exiting(&stat("a", 0x40_0000)));
        assert!(!is_exiting(&stat("a) Z 1 2 3 4 5 4 (", 0)));
        assert!(!is_exiting(""));
    }
}
