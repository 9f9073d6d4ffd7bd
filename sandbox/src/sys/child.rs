//! Short-lived children that run a function of ours: what takes time, or must change its rights or
//! namespaces, without the launcher waiting or changing its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getppid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitid,
};

/// Exit status of a child whose function panicked.
const PANICKED: i32 = 101;

/// Exit status of a child that could not set itself up.
const NO_START: i32 = 102;

/// A child. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    is_reaped: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// Runs `work` in a child and takes its value as exit status. The child keeps the standard streams
/// and the descriptors of `keep` and has closed every other one; nothing it owns is dropped. It is
/// killed when this process ends.
///
/// # Errors
/// That of fork(2), and `EDEADLK` in a process with more than one thread: a lock that another
/// thread holds would never be released in the child.
pub(crate) fn spawn(keep: &[BorrowedFd<'_>], work: impl FnOnce() -> u8) -> io::Result<Child> {
    if !is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let parent = getpid();
    let mut keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    keep.sort_unstable();
    // SAFETY: the only thread calls this, so the child's copy of the heap and of every lock is
    // whole, and it may go on as the parent would.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = run(parent, &keep, work);
            // SAFETY: ends the process without running destructors or exit handlers, which belong
            // to the parent.
            unsafe { libc::_exit(status) }
        }
        pid => {
            let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
            // Nobody else reaps our children, so the number is still this child's.
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            Ok(Child {
                pidfd,
                is_reaped: false,
            })
        }
    }
}

fn run(parent: Pid, keep: &[RawFd], work: impl FnOnce() -> u8) -> i32 {
    // In a new PID namespace the parent has no number.
    let has_parent = || getppid().is_none_or(|now| now == parent);
    let started =
        die_with_parent().is_ok() && has_parent() && super::own::close_all_but(keep).is_ok();
    if !started {
        return NO_START;
    }
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(status) => status.into(),
        Err(_) => PANICKED,
    }
}

/// Asks to be killed when the parent ends. A change of ids takes the wish away again.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn is_single_threaded() -> io::Result<bool> {
    // One link each for the directory's name, its `.`, and each thread's directory.
    Ok(std::fs::metadata("/proc/self/task")?.nlink() == 3)
}

impl Child {
    /// Readable once the child has ended.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for its end and tells how it was: for a child whose pidfd is readable, or that ends at
    /// once.
    pub(crate) fn wait(&mut self) -> io::Result<Ended> {
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => break status,
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        self.is_reaped = true;
        match (status.terminating_signal(), status.exit_status()) {
            (Some(signal), _) => Ok(Ended::Signal(signal)),
            (None, Some(status)) => Ok(Ended::Status(status)),
            (None, None) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            // It may have ended meanwhile, which is as well.
            let _killed = pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ended = self.wait();
        }
    }
}
