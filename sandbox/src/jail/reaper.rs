//! The reaper from the launcher's side: its program, and the handle of a running one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pinfold_reaper::step::Step;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::ExitStatus;
use super::error::{During, JailError};
use crate::plan;

/// The program, as sandbox/build.rs left it.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pinfold-reaper"));

/// The program's bytes: what a trial launch stages.
pub(crate) fn reaper_program() -> &'static [u8] {
    PROGRAM
}

/// `MFD_EXEC` and `F_SEAL_EXEC` of linux/memfd.h and linux/fcntl.h, from Linux 6.3.
const EXECUTABLE: MemfdFlags = MemfdFlags::from_bits_retain(0x10);
const SEAL_EXECUTABLE: SealFlags = SealFlags::from_bits_retain(0x20);

/// How long dropping a handle waits for the kernel to end a jail.
const LAST_WAIT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The reaper's program in a sealed memory file, open for reading: what is process 1 of every
/// jail, and what its `/proc/1/exe` is.
///
/// # Errors
/// [`JailError::Step`] with L4; `EACCES` where the host forbids executable memory files
/// (`vm.memfd_noexec = 2`).
pub fn sealed_reaper() -> Result<OwnedFd, JailError> {
    let step = Step::L4;
    let seal = |flags, more| plan::seal("pinfold-reaper", PROGRAM, flags, more);
    let sealed = match seal(EXECUTABLE, SEAL_EXECUTABLE) {
        // Before Linux 6.3 every memory file is executable.
        Err(Errno::INVAL) => seal(MemfdFlags::empty(), SealFlags::empty()),
        sealed => sealed,
    }
    .during(step, "seal the reaper in a memory file")?;
    // A file with a writer cannot be executed: only a descriptor for reading is kept.
    let path = format!("/proc/self/fd/{}", sealed.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .during(step, "reopen for reading")
}

/// A reaper, process 1 of a jail. Dropping it kills the jail and takes its end in.
#[derive(Debug)]
pub struct Reaper {
    pidfd: OwnedFd,
    pid: i32,
}

impl Reaper {
    pub(super) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pidfd, pid }
    }

    /// Process id in the launcher's namespace, valid until [`Self::reap`] has given a status.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends SIGKILL; the kernel then kills everything in the jail.
    ///
    /// # Errors
    /// The kernel's; a reaper that has ended is none.
    pub fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Takes the end in without waiting: `None` while the jail lives. The descriptor is readable
    /// once there is one.
    ///
    /// # Errors
    /// The kernel's: `ECHILD` when it has been taken in already.
    pub fn reap(&self) -> io::Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
        Ok(status.and_then(|status| {
            let code = status.exit_status().map(ExitStatus::Code);
            code.or(status.terminating_signal().map(ExitStatus::Signal))
        }))
    }

    /// Waits a little for the end and takes it in.
    pub(super) fn last_words(&self) -> Option<ExitStatus> {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&LAST_WAIT)).ok()?;
        self.reap().ok().flatten()
    }
}

impl AsFd for Reaper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Reaper {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        // Whoever drops it has no further use for why this could fail; the death signal and the
        // life pipe are still there.
        drop(self.kill());
        let _status = self.last_words();
    }
}
