//! How the command line ends: exit statuses, and failures with what to do next.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::chain::Chain;

/// Exit statuses: 1 and 2 by custom, 3 Pinfold's own, the others from sysexits(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// What was asked for did not happen: a plugin failed, a call was refused.
    Failed,
    /// The command line itself is wrong.
    Usage,
    /// It was done, but not with everything: the result lists what is missing.
    Incomplete,
    /// A plugin's files or manifest are refused (`EX_DATAERR`).
    Data,
    /// A file or directory that was named is not there (`EX_NOINPUT`).
    NoInput,
    /// The daemon cannot be reached (`EX_UNAVAILABLE`).
    Unavailable,
    /// A file cannot be written (`EX_CANTCREAT`).
    CannotCreate,
    /// Reading or writing failed (`EX_IOERR`).
    Io,
    /// It may succeed later (`EX_TEMPFAIL`).
    Temporary,
    /// The daemon's answer is not understood (`EX_PROTOCOL`).
    Protocol,
    /// This user may not (`EX_NOPERM`).
    NoPermission,
    /// A configuration or policy file is refused (`EX_CONFIG`).
    Config,
}

impl Exit {
    /// Every one, with its line in the help.
    pub(super) const ALL: [(Self, &'static str); 12] = [
        (Self::Failed, "what was asked for did not happen"),
        (Self::Usage, "wrong usage, or input that cannot be used"),
        (
            Self::Incomplete,
            "the backup is made, without what the result lists",
        ),
        (Self::Data, "a plugin's files or manifest are refused"),
        (Self::NoInput, "a file or directory is not there"),
        (Self::Unavailable, "the daemon cannot be reached"),
        (Self::CannotCreate, "a file cannot be written"),
        (Self::Io, "reading or writing failed"),
        (Self::Temporary, "the daemon is stopping, try again"),
        (Self::Protocol, "the daemon's answer is not understood"),
        (Self::NoPermission, "permission denied"),
        (Self::Config, "a configuration or policy file is refused"),
    ];

    /// The number.
    pub(super) const fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Data => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::CannotCreate => 73,
            Self::Io => 74,
            Self::Temporary => 75,
            Self::Protocol => 76,
            Self::NoPermission => 77,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

/// Why a command failed, how it ends, and what to do next.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    error: Box<dyn Error>,
    hint: Option<String>,
    /// Whether the result said it already.
    is_said: bool,
}

/// What the result on standard output says is the failure.
#[derive(Debug, thiserror::Error)]
#[error("see the result")]
struct Said;

impl Failure {
    pub(super) fn new(exit: Exit, error: impl Error + 'static) -> Self {
        Self {
            exit,
            error: Box::new(error),
            hint: None,
            is_said: false,
        }
    }

    /// One of which the result has said everything: nothing more is printed.
    pub(super) fn said(exit: Exit) -> Self {
        Self {
            is_said: true,
            ..Self::new(exit, Said)
        }
    }

    /// Whether it is still to be printed.
    pub(super) fn is_said(&self) -> bool {
        self.is_said
    }

    /// The same with another status.
    pub(super) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// With the next command to run.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    /// The error and its causes, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self.error.as_ref()).fmt(f)
    }
}

/// This process cannot even begin.
#[derive(Debug, thiserror::Error)]
#[error("start")]
pub(super) struct StartError(#[source] pub(super) std::io::Error);

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

/// A failure to read or write by what the kernel said: one that more rights would mend ends as
/// that.
pub(super) fn of_io(otherwise: Exit, error: &std::io::Error) -> Exit {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_sysexits_or_small_and_each_is_listed_once() {
        let statuses: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.status()).collect();
        assert_eq!(statuses, [1, 2, 3, 65, 66, 69, 73, 74, 75, 76, 77, 78]);
    }

    #[test]
    fn a_failure_prints_its_causes_on_one_line() {
        let source = std::io::Error::from_raw_os_error(nix::libc::EACCES);
        let failure = Failure::new(of_io(Exit::Io, &source), StartError(source));
        assert_eq!(
            failure.to_string(),
            "start: Permission denied (os error 13)"
        );
        assert_eq!(failure.exit(), Exit::NoPermission);
    }
}
