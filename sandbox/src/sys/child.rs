//! Short-lived children that run a function of ours: what takes time, or must change its rights or
//! namespaces, without the launcher waiting or changing its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, pidfd_open,
    pidfd_send_signal, set_parent_process_death_signal, waitid,
};

/// Exit status of a child whose function panicked.
const PANICKED: i32 = 101;

/// Exit status of a child that could not set itself up.
const NO_START: i32 = 102;

/// A child. Dropping it kills and reaps it, and waits for that: [`Child::kill`] does not.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    /// Whether dropping it has nothing left to do: it is reaped, or [`Killed`].
    is_done: bool,
}

/// A child that was killed and that nobody waits for. The kernel ends one that waits for a file server
/// or a disk only once that has answered. Dropping it does not wait either: a child that has not been
/// reaped by then is reaped when this process has ended.
#[derive(Debug)]
pub(crate) struct Killed(Child);

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
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => Ok(Child {
                    pidfd,
                    is_done: false,
                }),
                Err(errno) => {
                    end(pid);
                    Err(errno.into())
                }
            }
        }
    }
}

/// Kills and reaps a child of ours that there is no pidfd of, and waits for that.
fn end(pid: Pid) {
    // It may have ended meanwhile, which is as well.
    let _killed = kill_process(pid, Signal::KILL);
    while matches!(
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED),
        Err(Errno::INTR)
    ) {}
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
        self.is_done = true;
        match (status.terminating_signal(), status.exit_status()) {
            (Some(signal), _) => Ok(Ended::Signal(signal)),
            (None, Some(status)) => Ok(Ended::Status(status)),
            (None, None) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Kills it and waits for nothing. A poller that waits for [`Self::pidfd`] goes on doing so.
    pub(crate) fn kill(mut self) -> Killed {
        // It may have ended meanwhile, which is as well.
        let _killed = pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.is_done = true;
        Killed(self)
    }
}

impl Killed {
    /// Reaps it where it has ended; whether it has. Never waits.
    pub(crate) fn reap(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.0.pidfd()), options) {
            Ok(None) | Err(Errno::INTR) => false,
            // An error says that there is no such child any more.
            Ok(Some(_)) | Err(_) => true,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_done {
            // It may have ended meanwhile, which is as well.
            let _killed = pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ended = self.wait();
        }
    }
}

/// Programs in the place of children: a test has threads, and cannot fork.
#[cfg(test)]
pub(crate) mod living {
    use super::*;

    /// One that goes on until this is dropped.
    pub(crate) struct Living {
        program: std::process::Child,
        pidfd: OwnedFd,
    }

    impl Living {
        pub(crate) fn start() -> Self {
            #[expect(clippy::disallowed_methods, reason = "the test needs any child")]
            let program = std::process::Command::new("sleep")
                .arg("600")
                .spawn()
                .unwrap();
            let pidfd = open(&program);
            Self { program, pidfd }
        }

        pub(crate) fn pid(&self) -> Pid {
            Pid::from_child(&self.program)
        }

        pub(crate) fn child(&self) -> Child {
            Child {
                pidfd: open(&self.program),
                is_done: false,
            }
        }

        /// As if it had been killed and the kernel could not end it.
        pub(crate) fn hanging(&self) -> Killed {
            let mut child = self.child();
            child.is_done = true;
            Killed(child)
        }
    }

    impl Drop for Living {
        fn drop(&mut self) {
            // The test may have ended and reaped it.
            let _killed = pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _reaped = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }

    fn open(program: &std::process::Child) -> OwnedFd {
        pidfd_open(Pid::from_child(program), PidfdFlags::empty()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::living::Living;
    use super::*;

    #[test]
    fn a_killed_child_is_reaped_once_it_has_ended() {
        let living = Living::start();
        let killed = living.child().kill();
        let limit = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        let pidfd = killed.0.pidfd();
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1);
        assert!(killed.reap());
        // Nobody is there to be waited for any more.
        let again = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
        assert_eq!(again.unwrap_err(), Errno::CHILD);
    }

    #[test]
    fn a_child_without_a_pidfd_is_ended_and_reaped() {
        let living = Living::start();
        let seen = living.hanging();
        end(living.pid());
        let again = waitid(WaitId::PidFd(seen.0.pidfd()), WaitIdOptions::EXITED);
        assert_eq!(again.unwrap_err(), Errno::CHILD);
    }

    #[test]
    fn a_killed_child_that_does_not_end_holds_nobody_up() {
        let living = Living::start();
        let hanging = living.hanging();
        assert!(!hanging.reap());
        drop(hanging);
        // It was neither waited for nor ended.
        assert!(!living.hanging().reap());
    }
}
