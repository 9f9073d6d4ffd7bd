//! Asking the one at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use super::exit::{Exit, Failure};

/// Longest answer read.
const ANSWER_LIMIT_BYTES: u64 = 80;

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfirmError {
    #[error("there is no terminal to confirm on: nothing was changed")]
    NoTerminal,
    #[error("not confirmed: nothing was changed")]
    Declined,
    #[error("read the answer: nothing was changed")]
    Read(#[source] io::Error),
}

impl From<ConfirmError> for Failure {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::NoTerminal => {
                Self::new(Exit::Usage, error).hint("look at the above, then give --yes")
            }
            ConfirmError::Declined => Self::new(Exit::Failed, error),
            ConfirmError::Read(_) => Self::new(Exit::Io, error),
        }
    }
}

/// Asks `question` on the terminal unless `yes`. Whatever is not a yes is a no.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), ConfirmError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(ConfirmError::NoTerminal);
    }
    let mut terminal = io::stderr();
    write!(terminal, "{question} [y/N] ")
        .and_then(|()| terminal.flush())
        .map_err(ConfirmError::Read)?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .take(ANSWER_LIMIT_BYTES)
        .read_line(&mut answer)
        .map_err(ConfirmError::Read)?;
    if is_yes(&answer) {
        Ok(())
    } else {
        Err(ConfirmError::Declined)
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for yes in ["y\n", "Y", " yes \n"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yeah\n", "ye"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
