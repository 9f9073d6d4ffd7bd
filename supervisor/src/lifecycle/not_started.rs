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
    /// Whether it may do another time unchanged: it died, or the launcher or the machine could not do it.
    pub(super) again: bool,
    /// Whether it is known that the machine was short of something, and nothing else is wrong: it does another
    /// time, however often it has not.
    pub(super) shortage: bool,
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
            shortage: false,
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

    /// The same, for want of what the machine is short of.
    pub(super) fn short(self) -> Self {
        Self {
            shortage: true,
            ..self.again()
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
    let shortage = matches!(error, LauncherError::Busy | LauncherError::Deadline);
    NotStarted {
        hint: error.hint().map(Into::into),
        // Of what the launcher could not do it does not say whether it is a shortage: a limit of the plugin's
        // policy that is too small for its jail, say, is none and goes on for ever.
        again: shortage || kind == Some(FailureKind::Host),
        shortage,
        late: kind == Some(FailureKind::Trust),
        unknown: kind == Some(FailureKind::Request),
        untrusted: matches!(kind, Some(FailureKind::Policy | FailureKind::Trust)),
        ..NotStarted::new(state, format!("{what}: {}", Chain(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_a_shortage_is_tried_for_ever() {
        let failed = |kind| {
            LauncherError::Failed(Failure {
                kind,
                message: "said".into(),
                hint: None,
            })
        };
        for (error, again, shortage) in [
            (LauncherError::Busy, true, true),
            (LauncherError::Deadline, true, true),
            (failed(FailureKind::Host), true, false),
            (failed(FailureKind::Plugin), false, false),
            (LauncherError::Gone, false, false),
        ] {
            let not_started = refused("launch", &error);
            let is = (not_started.again, not_started.shortage);
            assert_eq!(is, (again, shortage), "{error}");
        }
        let short = NotStarted::failed(&"full").short();
        assert!(short.again && short.shortage);
    }
}
