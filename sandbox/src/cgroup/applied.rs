//! What was asked of a leaf, and what came of it.

use std::fmt;
use std::io;
use std::path::Path;

use pinfold_policy::Control;

use super::IoLimits;

/// The limits of one jail. `None`: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most memory in bytes, page cache and tmpfs included; swap is never given. The kernel rounds
    /// to pages.
    pub memory_bytes: Option<u64>,
    /// Processor time as a percentage of one processor: 150 is one and a half.
    pub cpu_percent: Option<u32>,
    /// Most tasks: processes and threads together.
    pub pids: Option<u64>,
    /// Reads and writes at one disk.
    pub io: Option<IoLimits>,
    /// No device but those of [`super::JAIL_DEVICES`].
    pub devices: bool,
}

/// One control of a leaf and its state, for the posture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Which control.
    pub control: Control,
    /// What came of it.
    pub state: State,
}

/// Whether a control is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// In force.
    Enforced {
        /// By what.
        how: How,
    },
    /// In force with a gap.
    Partial {
        /// By what.
        how: How,
        /// The gap.
        reason: Reason,
    },
    /// Not in force.
    Missing {
        /// Why not.
        reason: Reason,
    },
    /// Not asked for.
    Off,
}

/// Which version of control groups does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Version 1.
    V1,
    /// Version 2.
    V2,
}

/// Why a control is missing or partial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The step that failed, as a verb: `write memory.max`.
    pub step: String,
    /// The kernel's error number, where the kernel refused.
    pub errno: Option<i32>,
    /// What else is known: a path, or a sentence where no step failed.
    pub detail: String,
}

impl Applied {
    pub(super) fn enforced(control: Control, how: How) -> Self {
        Self {
            control,
            state: State::Enforced { how },
        }
    }

    pub(super) fn partial(control: Control, how: How, reason: Reason) -> Self {
        Self {
            control,
            state: State::Partial { how, reason },
        }
    }

    pub(super) fn missing(control: Control, reason: Reason) -> Self {
        Self {
            control,
            state: State::Missing { reason },
        }
    }

    pub(super) fn off(control: Control) -> Self {
        Self {
            control,
            state: State::Off,
        }
    }

    /// Whether the control is in force, gaps or not.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        matches!(self.state, State::Enforced { .. } | State::Partial { .. })
    }
}

impl Reason {
    /// A step on a path that the kernel refused.
    pub(super) fn refused(step: impl Into<String>, path: &Path, error: &io::Error) -> Self {
        Self {
            step: step.into(),
            errno: error.raw_os_error(),
            detail: match error.raw_os_error() {
                Some(_) => path.display().to_string(),
                None => format!("{}: {error}", path.display()),
            },
        }
    }

    /// The same of a group that was not given to us, which is why.
    pub(super) fn undelegated(self) -> Self {
        let detail = format!(
            "{} is not delegated to us (systemd's Delegate=yes does that)",
            self.detail
        );
        Self { detail, ..self }
    }

    /// No step failed; the thing is not there.
    pub(super) fn absent(step: &str, detail: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            errno: None,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                write!(f, "{}: {error}: {}", self.step, self.detail)
            }
            None => write!(f, "{}: {}", self.step, self.detail),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}
