//! Errors as they cross the socket.

use std::error::Error;

use super::files::FilesError;
use super::log;
use crate::protocol::{Failure, FailureKind};

/// A failure with an error's whole chain as its message.
pub(super) fn of(kind: FailureKind, error: &dyn Error) -> Failure {
    Failure {
        kind,
        message: log::chain(error),
        hint: None,
    }
}

/// The failure of a launch without its policy or what that names, with what to do about it.
pub(super) fn of_files(error: &FilesError) -> Failure {
    let failure = of(FailureKind::Policy, error);
    match error.hint() {
        Some(hint) => with_hint(failure, hint),
        None => failure,
    }
}

/// A failure with a message of its own.
pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind,
        message: message.into(),
        hint: None,
    }
}

/// The same failure with a hint.
pub(super) fn with_hint(mut failure: Failure, hint: impl Into<String>) -> Failure {
    failure.hint = Some(hint.into());
    failure
}
