//! Why a jail did not come to be.

use nix::errno::Errno as Named;
use pinfold_reaper::plan::Fault;
use pinfold_reaper::step::Step;
use rustix::io::Errno;

use super::ExitStatus;
use crate::plan::PlanError;

/// Why a jail was not started, or not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailError {
    /// A step failed; what had been done is undone.
    #[error("{step}: {detail}: {}", reason(*.errno))]
    Step {
        /// The step.
        step: Step,
        /// What was attempted.
        detail: String,
        /// The kernel's reason, a raw error number.
        errno: i32,
    },
    /// The jail cannot be planned.
    #[error("{}", Step::P7)]
    Plan(#[source] PlanError),
    /// The set-up took too long and was ended.
    #[error("{}: not started in time, last step {last}", Step::P9)]
    Deadline {
        /// The step that it was in.
        last: String,
    },
    /// The reaper ended without a word.
    #[error("{}: the reaper ended, last step {last}{}", Step::P9, how(*.status))]
    Ended {
        /// The step that it was in.
        last: String,
        /// How it ended, where that can be told.
        status: Option<ExitStatus>,
    },
    /// A packet on the status channel that no reaper of this version sends.
    #[error("{}: a packet of {bytes} bytes that is no message", Step::P9)]
    Packet {
        /// Its length.
        bytes: usize,
    },
    /// Seen from outside, the plugin is not what was planned. The jail must be killed.
    #[error("{}: {what} is {found}, planned was {planned}", Step::P10)]
    Mismatch {
        /// What was looked at.
        what: String,
        /// What is there.
        found: String,
        /// What should be.
        planned: String,
    },
    /// The plugin ended before it could be looked at; [`super::Jail::plugin_status`] tells how.
    #[error("{}: the plugin has ended", Step::P10)]
    Gone,
}

impl JailError {
    /// The step that failed, where one did.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Step { step, .. } => Some(*step),
            Self::Plan(_) => Some(Step::P7),
            Self::Deadline { .. } | Self::Ended { .. } | Self::Packet { .. } => Some(Step::P9),
            Self::Mismatch { .. } | Self::Gone => Some(Step::P10),
        }
    }
}

/// Names the step of a kernel's refusal.
pub(super) trait During<T> {
    fn during(self, step: Step, detail: impl Into<String>) -> Result<T, JailError>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, step: Step, detail: impl Into<String>) -> Result<T, JailError> {
        self.map_err(|errno| JailError::Step {
            step,
            detail: detail.into(),
            errno: errno.raw_os_error(),
        })
    }
}

/// `operation not permitted (EPERM)`.
fn reason(errno: i32) -> String {
    let named = Named::from_raw(errno);
    let mut words = named.desc().chars();
    let first = words.next().map(|c| c.to_ascii_lowercase());
    let text: String = first.into_iter().chain(words).collect();
    format!("{text} ({named:?})")
}

fn how(status: Option<ExitStatus>) -> String {
    match status {
        Some(ExitStatus::Code(code)) => format!(", status {code}"),
        Some(ExitStatus::Signal(signal)) => format!(", signal {signal}"),
        None => String::new(),
    }
}

/// Fails, where this is the step that is to fail on purpose.
pub(super) fn inject(fault: Option<Fault>, step: Step) -> Result<(), JailError> {
    match fault {
        Some(fault) if fault.step == step => Err(JailError::Step {
            step,
            detail: "fault on purpose".to_owned(),
            errno: fault.errno,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_reads_as_what_where_why() {
        let error = Err::<(), _>(Errno::PERM)
            .during(Step::R9, "mount proc")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "R9 proc: mount proc: operation not permitted (EPERM)"
        );
        assert_eq!(error.step(), Some(Step::R9));
    }
}
