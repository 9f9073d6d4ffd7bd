//! P9: a jail whose reaper works on its set-up.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use pinfold_policy::Control;
use pinfold_reaper::message::{self, Ended, Message, Optional};
use pinfold_reaper::plan::Fault;
use pinfold_reaper::step::Step;
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::ExitStatus;
use super::channels::Kept;
use super::error::{During, JailError, inject};
use super::reaper::Reaper;
use super::running::{Jail, process_id};

/// A jail that is being set up. Dropping it kills it.
#[derive(Debug)]
pub struct Starting {
    parts: Option<Parts>,
    /// The status channel once more: it can be waited on as long as this exists.
    readable: OwnedFd,
    deadline: Instant,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Parts {
    reaper: Reaper,
    plugin: Option<OwnedFd>,
    filter_listener: Option<OwnedFd>,
    kept: Kept,
    run_directory: OwnedFd,
    tmp_directory: OwnedFd,
    listeners: Vec<OwnedFd>,
    missing: Vec<(Control, String)>,
}

/// How far a launch is.
#[derive(Debug)]
pub enum Progress {
    /// Call again when the status channel is readable.
    Pending,
    /// The plugin's program has been executed.
    Ready(Jail),
}

impl Starting {
    pub(super) fn new(
        reaper: Reaper,
        kept: Kept,
        run_directory: OwnedFd,
        tmp_directory: OwnedFd,
        missing: Vec<(Control, String)>,
        deadline: Instant,
    ) -> Result<Self, JailError> {
        let readable = rustix::io::fcntl_dupfd_cloexec(&kept.status, 0)
            .during(Step::P9, "copy the status channel")?;
        let parts = Parts {
            reaper,
            plugin: None,
            filter_listener: None,
            kept,
            run_directory,
            tmp_directory,
            listeners: Vec::new(),
            missing,
        };
        Ok(Self {
            parts: Some(parts),
            readable,
            deadline,
            fault: None,
        })
    }

    /// The same with a step that fails on purpose: this one, or the look at the jail that comes of it.
    pub(super) fn failing(self, fault: Option<Fault>) -> Self {
        Self { fault, ..self }
    }

    /// The descriptor to wait on, until [`Self::on_readable`] gives a [`Jail`] or an error.
    #[must_use]
    pub fn status_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    /// The listener of the plugin's filter, once it has been handed over: whoever answers there lets the
    /// plugin go on.
    #[must_use]
    pub fn filter_listener(&self) -> Option<&OwnedFd> {
        self.parts
            .as_ref()
            .and_then(|parts| parts.filter_listener.as_ref())
    }

    /// When to give up: call [`Self::on_deadline`] then.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes in what the reaper has said. Never waits.
    ///
    /// # Errors
    /// [`JailError`]; the jail is then gone. Also when called after an end.
    pub fn on_readable(&mut self) -> Result<Progress, JailError> {
        let Some(mut parts) = self.parts.take() else {
            return Err(ended(None));
        };
        inject(self.fault, Step::P9)?;
        match parts.receive_all()? {
            false => {
                self.parts = Some(parts);
                Ok(Progress::Pending)
            }
            true => {
                let mut jail = parts.into_jail()?;
                jail.fault = self.fault;
                Ok(Progress::Ready(jail))
            }
        }
    }

    /// Ends a launch whose time is over. The error names the step that it was in.
    #[must_use]
    pub fn on_deadline(mut self) -> JailError {
        let last = self
            .parts
            .take()
            .map_or_else(unknown_step, |parts| parts.last_step());
        JailError::Deadline { last }
    }
}

impl Parts {
    /// Whether the plugin runs.
    fn receive_all(&mut self) -> Result<bool, JailError> {
        loop {
            let mut packet = [0; message::LIMIT_BYTES];
            let Some((length, descriptor)) = receive(self.kept.status.as_fd(), &mut packet)? else {
                return Ok(false);
            };
            if length == 0 {
                return Err(ended(Some(self)));
            }
            let bytes = packet.get(..length).unwrap_or_default();
            match Message::read(bytes) {
                Some(Message::Plugin) => self.plugin = descriptor,
                // Each once, in their order.
                Some(Message::Listener(number))
                    if usize::from(number) == self.listeners.len() && descriptor.is_some() =>
                {
                    self.listeners.extend(descriptor);
                }
                Some(Message::FilterListener) => self.filter_listener = descriptor,
                Some(Message::Running) => return Ok(true),
                Some(Message::Missing {
                    control,
                    step,
                    errno,
                    text,
                }) => {
                    self.missing.push(missing(control, step, errno, text));
                }
                Some(Message::Failed { step, errno, text }) => {
                    let detail = String::from_utf8_lossy(text).into_owned();
                    return Err(JailError::Step {
                        step,
                        detail,
                        errno,
                    });
                }
                // Before it ran: killed from outside, or by its filter.
                Some(Message::Ended(how)) => {
                    return Err(JailError::Ended {
                        last: self.last_step(),
                        status: Some(status(how)),
                    });
                }
                Some(Message::Listener(_)) | None => {
                    return Err(JailError::Packet { bytes: length });
                }
            }
        }
    }

    fn into_jail(self) -> Result<Jail, JailError> {
        let plugin = self.plugin.ok_or(JailError::Packet { bytes: 0 })?;
        let plugin_pid = match process_id(plugin.as_fd()) {
            Ok(Some(pid)) => pid,
            // It ran and has ended and been reaped; there is nothing to look at, but a status.
            Ok(None) => -1,
            Err(errno) => return Err(errno).during(Step::P9, "process id of the plugin"),
        };
        let mut jail = Jail::new(
            self.reaper,
            plugin,
            plugin_pid,
            self.filter_listener,
            self.kept,
            (self.run_directory, self.tmp_directory),
            self.missing,
        );
        jail.listeners = self.listeners;
        Ok(jail)
    }

    /// Reaper and plugin stage name themselves after the step that they are in.
    fn last_step(&self) -> String {
        let plugin = self
            .plugin
            .as_ref()
            .and_then(|plugin| process_id(plugin.as_fd()).ok()?);
        plugin
            .and_then(step_of)
            .or_else(|| step_of(self.reaper.pid()))
            .unwrap_or_else(unknown_step)
    }
}

fn step_of(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let id = name.trim_end().strip_prefix("jail ")?;
    Step::ALL
        .iter()
        .find(|step| step.id() == id)
        .map(ToString::to_string)
}

fn unknown_step() -> String {
    Step::P8.to_string()
}

fn ended(parts: Option<&Parts>) -> JailError {
    match parts {
        Some(parts) => {
            let last = parts.last_step();
            JailError::Ended {
                last,
                status: parts.reaper.last_words(),
            }
        }
        None => JailError::Ended {
            last: unknown_step(),
            status: None,
        },
    }
}

fn missing(control: Optional, step: Step, errno: i32, text: &[u8]) -> (Control, String) {
    let control = match control {
        Optional::Proc => Control::Proc,
        Optional::MemfdNoexec => Control::MemfdNoexec,
        Optional::UserNamespace => Control::UserNamespace,
        Optional::Landlock => Control::Landlock,
        Optional::WriteXorExecute => Control::WriteXorExecute,
        Optional::TimeNamespace => Control::TimeNamespace,
        Optional::CoreScheduling => Control::CoreScheduling,
    };
    let detail = String::from_utf8_lossy(text).into_owned();
    (
        control,
        JailError::Step {
            step,
            detail,
            errno,
        }
        .to_string(),
    )
}

/// The status that a message tells.
pub(super) fn status(how: Ended) -> ExitStatus {
    match how {
        Ended::Code(code) => ExitStatus::Code(code),
        Ended::Signal(signal) => ExitStatus::Signal(signal),
    }
}

/// One packet, with the descriptor that came with it; `None` when there is none yet. A length of
/// zero is the end.
pub(super) fn receive(
    channel: BorrowedFd<'_>,
    packet: &mut [u8; message::LIMIT_BYTES],
) -> Result<Option<(usize, Option<OwnedFd>)>, JailError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(packet)];
    let received = match rustix::net::recvmsg(channel, &mut slices, &mut control, flags) {
        Ok(received) => received.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(errno).during(Step::P9, "read the status channel"),
    };
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Ok(Some((received, descriptor)))
}
