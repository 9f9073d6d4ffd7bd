//! A running jail.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pinfold_policy::Control;
use pinfold_reaper::message::{self, Message};
use pinfold_reaper::plan::Fault;
use rustix::io::Errno;
use rustix::process::Signal;

use super::channels::Kept;
use super::reaper::Reaper;
use super::starting::{receive, status};
use super::{ExitStatus, JailError, JailSpec, look};
use crate::sys::notify::{self, Heard};

/// A jail whose plugin has been executed. Dropping it, or only [`Self::reaper`], kills it.
#[derive(Debug)]
pub struct Jail {
    /// Process 1: readable when the jail is over.
    pub reaper: Reaper,
    /// The plugin's main process: readable when it has ended.
    pub plugin: OwnedFd,
    /// Its id in the launcher's PID namespace, for logs; -1 where it ended at once.
    pub plugin_pid: i32,
    /// Where the calls are told that its filter stops; readable when there is one, and when nobody
    /// has the filter any more.
    pub filter_listener: Option<OwnedFd>,
    /// Reading end of its standard output.
    pub stdout: OwnedFd,
    /// Reading end of its standard error.
    pub stderr: OwnedFd,
    /// `/run/plugin` of the jail, to be reached from outside.
    pub run_directory: OwnedFd,
    /// The template's temporary directory, to be reached from outside.
    pub tmp_directory: OwnedFd,
    /// The sockets that listen inside, in the order of the spec's ports.
    pub listeners: Vec<OwnedFd>,
    /// Controls that were preferred and are not in force, with the reason.
    pub missing: Vec<(Control, String)>,
    status: OwnedFd,
    /// Never read: its end tells the reaper that the launcher is gone.
    _life: OwnedFd,
    ended: Cell<Option<ExitStatus>>,
    /// Where tests have a step fail on purpose.
    pub(super) fault: Option<Fault>,
}

impl Jail {
    pub(super) fn new(
        reaper: Reaper,
        plugin: OwnedFd,
        plugin_pid: i32,
        filter_listener: Option<OwnedFd>,
        kept: Kept,
        (run_directory, tmp_directory): (OwnedFd, OwnedFd),
        missing: Vec<(Control, String)>,
    ) -> Self {
        Self {
            reaper,
            plugin,
            plugin_pid,
            filter_listener,
            stdout: kept.stdout,
            stderr: kept.stderr,
            run_directory,
            tmp_directory,
            listeners: Vec::new(),
            missing,
            status: kept.status,
            _life: kept.life,
            ended: Cell::new(None),
            fault: None,
        }
    }

    /// P10: reads from outside, through proc, what the plugin really has, and compares it with the
    /// spec: ids, capabilities, no-new-privileges, filter, namespaces, control groups, program.
    ///
    /// # Errors
    /// [`JailError::Mismatch`]: kill the jail. [`JailError::Gone`]: the plugin ended by itself.
    /// [`JailError::Step`]: it cannot be looked at.
    pub fn look(&self, spec: &JailSpec) -> Result<(), JailError> {
        look::look(self, spec)
    }

    /// Takes in what the listener says, without waiting. A call that is told has not been made and
    /// never will be: what is left is to kill the jail.
    ///
    /// # Errors
    /// The kernel's.
    pub fn heard(&self) -> io::Result<Heard> {
        match &self.filter_listener {
            Some(listener) => notify::receive(listener),
            None => Ok(Heard::End),
        }
    }

    /// Sends SIGTERM to the plugin's main process.
    ///
    /// # Errors
    /// The kernel's; a process that has ended is none.
    pub fn terminate(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.plugin, Signal::TERM) {
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Sends SIGKILL to process 1: the kernel kills everything in the jail.
    ///
    /// # Errors
    /// The kernel's; a jail that is over is none.
    pub fn kill(&self) -> io::Result<()> {
        self.reaper.kill()
    }

    /// How the plugin's main process ended, as the reaper saw it. `None` while it runs, and where
    /// the reaper was killed first.
    #[must_use]
    pub fn plugin_status(&self) -> Option<ExitStatus> {
        if self.ended.get().is_none() {
            let mut packet = [0; message::LIMIT_BYTES];
            if let Ok(Some((length, _))) = receive(self.status.as_fd(), &mut packet)
                && let Some(Message::Ended(how)) = packet.get(..length).and_then(Message::read)
            {
                self.ended.set(Some(status(how)));
            }
        }
        self.ended.get()
    }
}

/// The process id behind a pidfd in our PID namespace; `None` when it has been reaped.
pub(super) fn process_id(pidfd: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = fs::read_to_string(path)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .ok_or(Errno::BADF)?;
    let pid: i32 = line.trim().parse().map_err(|_| Errno::BADF)?;
    Ok((pid > 0).then_some(pid))
}
