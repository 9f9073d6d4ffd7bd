//! What the reaper says on the status channel: one packet each, at most [`LIMIT_BYTES`].
//!
//! Shape: kind, step, control, zero (one byte each), value (`i32`, little endian), then text
//! without terminator, made of what the source of the reaper and the plan hold.

use crate::step::Step;

/// Largest packet.
pub const LIMIT_BYTES: usize = 256;

const HEADER_BYTES: usize = 8;

/// A control that may be missing without ending the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    /// `/proc` with hidden processes.
    Proc,
    /// The ban on executing anonymous memory files.
    MemfdNoexec,
    /// The plugin's user namespace.
    UserNamespace,
    /// File access by path.
    Landlock,
    /// Memory that is never writable and executable.
    WriteXorExecute,
    /// Clocks of the plugin's own.
    TimeNamespace,
    /// A processor core to itself while it runs.
    CoreScheduling,
}

impl Optional {
    const ALL: [Self; 7] = [
        Self::Proc,
        Self::MemfdNoexec,
        Self::UserNamespace,
        Self::Landlock,
        Self::WriteXorExecute,
        Self::TimeNamespace,
        Self::CoreScheduling,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::Proc => 1,
            Self::MemfdNoexec => 2,
            Self::UserNamespace => 3,
            Self::Landlock => 4,
            Self::WriteXorExecute => 5,
            Self::TimeNamespace => 6,
            Self::CoreScheduling => 7,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The process that becomes the plugin is there; its pidfd comes with the packet.
    Plugin,
    /// The listener with this number in the plan is made; its descriptor comes with the packet.
    Listener(u8),
    /// The plugin's filter is installed; its listener comes with the packet.
    FilterListener,
    /// The plugin's program has been executed and the reaper holds no right any more.
    Running,
    /// A step failed and the jail ends.
    Failed {
        /// The step.
        step: Step,
        /// The kernel's reason.
        errno: i32,
        /// What was attempted.
        text: &'a [u8],
    },
    /// A preferred control is not in force.
    Missing {
        /// The control.
        control: Optional,
        /// In which step.
        step: Step,
        /// The kernel's reason.
        errno: i32,
        /// What was attempted.
        text: &'a [u8],
    },
    /// The plugin's main process ended; the reaper and with it the whole jail follow.
    Ended(Ended),
}

const PLUGIN: u8 = 1;
const RUNNING: u8 = 2;
const FAILED: u8 = 3;
const MISSING: u8 = 4;
const EXITED: u8 = 5;
const SIGNALLED: u8 = 6;
const LISTENER: u8 = 7;
const FILTER_LISTENER: u8 = 8;

impl<'a> Message<'a> {
    /// Writes the message into `packet` and tells how many bytes it has. Text that does not fit is
    /// cut.
    pub fn write(&self, packet: &mut [u8; LIMIT_BYTES]) -> usize {
        let (kind, step, control, value, text): (u8, u8, u8, i32, &[u8]) = match *self {
            Self::Plugin => (PLUGIN, 0, 0, 0, &[]),
            Self::Listener(number) => (LISTENER, 0, number, 0, &[]),
            Self::FilterListener => (FILTER_LISTENER, 0, 0, 0, &[]),
            Self::Running => (RUNNING, 0, 0, 0, &[]),
            Self::Failed { step, errno, text } => (FAILED, step.number(), 0, errno, text),
            Self::Missing {
                control,
                step,
                errno,
                text,
            } => (MISSING, step.number(), control.number(), errno, text),
            Self::Ended(Ended::Code(code)) => (EXITED, 0, 0, code, &[]),
            Self::Ended(Ended::Signal(signal)) => (SIGNALLED, 0, 0, signal, &[]),
        };
        let [k, s, c, zero, v0, v1, v2, v3, room @ ..] = packet;
        (*k, *s, *c, *zero) = (kind, step, control, 0);
        [*v0, *v1, *v2, *v3] = value.to_le_bytes();
        let mut length = HEADER_BYTES;
        for (to, from) in room.iter_mut().zip(text) {
            *to = *from;
            length += 1;
        }
        length
    }

    /// Reads a packet. `None` is one that no reaper of this version writes.
    #[must_use]
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let [kind, step, control, _, v0, v1, v2, v3, text @ ..] = packet else {
            return None;
        };
        let value = i32::from_le_bytes([*v0, *v1, *v2, *v3]);
        Some(match *kind {
            PLUGIN => Self::Plugin,
            LISTENER => Self::Listener(*control),
            FILTER_LISTENER => Self::FilterListener,
            RUNNING => Self::Running,
            FAILED => Self::Failed {
                step: Step::from_number(*step)?,
                errno: value,
                text,
            },
            MISSING => Self::Missing {
                control: Optional::from_number(*control)?,
                step: Step::from_number(*step)?,
                errno: value,
                text,
            },
            EXITED => Self::Ended(Ended::Code(value)),
            SIGNALLED => Self::Ended(Ended::Signal(value)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_packet() {
        let text = b"fsopen proc";
        for message in [
            Message::Plugin,
            Message::Listener(3),
            Message::FilterListener,
            Message::Running,
            Message::Failed {
                step: Step::R9,
                errno: 1,
                text,
            },
            Message::Missing {
                control: Optional::MemfdNoexec,
                step: Step::R8,
                errno: 13,
                text,
            },
            Message::Ended(Ended::Code(3)),
            Message::Ended(Ended::Signal(9)),
        ] {
            let mut packet = [0; LIMIT_BYTES];
            let length = message.write(&mut packet);
            assert_eq!(Message::read(&packet[..length]), Some(message));
        }
    }

    #[test]
    fn text_past_the_packet_is_cut() {
        let mut packet = [0; LIMIT_BYTES];
        let long = [b'x'; 2 * LIMIT_BYTES];
        let failed = Message::Failed {
            step: Step::R6,
            errno: 2,
            text: &long,
        };
        assert_eq!(failed.write(&mut packet), LIMIT_BYTES);
    }

    #[test]
    fn foreign_packets_are_refused() {
        assert_eq!(Message::read(&[]), None);
        assert_eq!(Message::read(&[9; 12]), None);
        assert_eq!(Message::read(&[FAILED, 255, 0, 0, 0, 0, 0, 0]), None);
    }
}
