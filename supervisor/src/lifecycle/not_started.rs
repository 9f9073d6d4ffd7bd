//! Why an attempt to start a plugin came to nothing, and what that means for the next one.

use pinfold_policy::{Digest, Generation};
use pinfold_sandbox::protocol::{ExitCause, Failure, FailureKind};

use super::attempt::Outcome;
use super::shared::Shared;
use crate::chain::Chain;
use crate::dialect::DialectError;
use crate::launcher::LauncherError;
use crate::state::State;
use crate::store::audit::PLUGIN_START;

/// Why an attempt came to nothing.
pub(super) struct NotStarted {
    pub(super) state: State,
    pub(super) reason: String,
    /// What the operator can do, where there is something.
    pub(super) hint: Option<Box<str>>,
    /// Whether it may do another time unchanged: it died, or the machine was short of something.
    pub(super) again: bool,
    /// Whether the launcher has the files no more.
    pub(super) unknown: bool,
    /// Whether a signature that is still to come would mend it.
    pub(super) late: bool,
    /// Whether no policy trusts the files as they are.
    pub(super) untrusted: bool,
    pub(super) digest: Option<Digest>,
    pub(super) generation: Option<Generation>,
    /// How its process ended, where it did by itself.
    pub(super) exit: Option<Box<str>>,
}

impl From<NotStarted> for Outcome {
    fn from(not_started: NotStarted) -> Self {
        Self::Failed(Box::new(not_started))
    }
}

impl NotStarted {
    pub(super) fn new(state: State, reason: String) -> Self {
        Self {
            state,
            reason,
            hint: None,
            again: false,
            unknown: false,
            late: false,
            untrusted: false,
            digest: None,
            generation: None,
            exit: None,
        }
    }

    pub(super) fn failed(reason: &dyn std::fmt::Display) -> Self {
        Self::new(State::Failed, reason.to_string())
    }

    pub(super) fn dialect(error: &DialectError) -> Self {
        let state = if error.blocks() {
            State::Blocked
        } else {
            State::Failed
        };
        Self::new(state, Chain(error).to_string())
    }

    pub(super) fn with_hint(self, hint: String) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(super) fn again(self) -> Self {
        Self {
            again: true,
            ..self
        }
    }

    /// The same, and how its process ended.
    pub(super) fn because(self, cause: &ExitCause) -> Self {
        let reason = format!("{}: {cause}", self.reason);
        Self { reason, ..self }.ended(cause)
    }

    pub(super) fn ended(self, cause: &ExitCause) -> Self {
        Self {
            exit: Some(cause.to_string().into()),
            again: true,
            ..self
        }
    }

    pub(super) fn of(self, digest: Digest, generation: Option<Generation>) -> Self {
        Self {
            digest: Some(digest),
            generation,
            ..self
        }
    }

    /// Whether the machine was short of something: nothing has ended by itself.
    pub(super) fn is_shortage(&self) -> bool {
        self.again && self.exit.is_none()
    }

    /// A record of it in the audit trail: refused, or failed.
    pub(super) fn audit(&self, shared: &Shared) {
        let decision = match self.state {
            State::Blocked => "deny",
            _ => "error",
        };
        let digest = self.digest.as_ref();
        let subject = digest.map_or_else(|| "no files".into(), ToString::to_string);
        shared.audit(PLUGIN_START, subject, decision, self.reason.clone());
    }

    /// The reason, with what to do.
    pub(super) fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} (hint: {hint})", self.reason),
            None => self.reason.clone(),
        }
    }
}

/// What the launcher refused or could not do.
pub(super) fn refused(what: &str, error: &LauncherError) -> NotStarted {
    let kind = match error {
        LauncherError::Failed(Failure { kind, .. }) => Some(*kind),
        _ => None,
    };
    let blocked = matches!(
        kind,
        Some(FailureKind::Policy | FailureKind::Trust | FailureKind::Control)
    );
    let state = if blocked {
        State::Blocked
    } else {
        State::Failed
    };
    let machine = match error {
        LauncherError::Busy | LauncherError::Deadline => true,
        _ => kind == Some(FailureKind::Host),
    };
    NotStarted {
        hint: error.hint().map(Into::into),
        again: machine,
        late: kind == Some(FailureKind::Trust),
        unknown: kind == Some(FailureKind::Request),
        untrusted: matches!(kind, Some(FailureKind::Policy | FailureKind::Trust)),
        ..NotStarted::new(state, format!("{what}: {}", Chain(error)))
    }
}
