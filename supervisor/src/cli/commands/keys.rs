//! `pinfold keys`: keys that sign plugins, and which of them count here.

mod change;
mod generate;
mod list;

use std::path::PathBuf;

use pinfold_policy::{KEYS_LIMIT, KeyName, KeyRefusal, KeyRulesError, PublicKey};

use crate::cli::Context;
use crate::cli::args::KeysCommand;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::keys::KeyFileError;

pub(super) async fn run(context: &Context, command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Generate { name, directory } => generate::run(context, &name, &directory),
        KeysCommand::List => list::run(context),
        KeysCommand::Trust(arguments) => change::trust(context, arguments).await,
        KeysCommand::Revoke { name, reason } => {
            change::revoke(context, &name, reason.unwrap_or_default()).await
        }
    }
}

/// Why a key is not trusted or revoked.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error("{file} gives no name for the key: a-z, 0-9, _ and -")]
    NoName { file: PathBuf },
    #[error("there is another key \"{name}\" here: {here}")]
    OtherKey { name: KeyName, here: Box<PublicKey> },
    #[error("this key is trusted already, as \"{name}\"")]
    Known { name: KeyName },
    #[error("what key \"{name}\" is good for cannot be read")]
    Unreadable {
        name: KeyName,
        #[source]
        source: KeyFileError,
    },
    #[error("this key is not trusted again")]
    Revoked(#[source] KeyRefusal),
    #[error("{KEYS_LIMIT} keys are here already, and the launcher reads no more")]
    TooMany {
        /// Those that count no more in any case.
        revoked: Vec<KeyName>,
    },
    #[error("there is no key \"{name}\" in {directory}")]
    Unknown {
        name: KeyName,
        directory: PathBuf,
        nearest: Option<String>,
    },
    #[error(transparent)]
    Rules(#[from] KeyRulesError),
    #[error("make {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        let (exit, hint) = match &error {
            KeysError::NoName { .. } => (Exit::Usage, Some("give --name".to_owned())),
            KeysError::OtherKey { .. } => (Exit::Failed, Some("give it another --name".into())),
            KeysError::Known { name } => (
                Exit::Failed,
                Some(format!("name it as it is known: --name {name}")),
            ),
            // It may have been revoked: that is not undone by the way.
            KeysError::Unreadable { name, .. } => (
                Exit::Config,
                Some(format!(
                    "mend {}, or revoke it: pinfold keys revoke {name}",
                    name.rules_file()
                )),
            ),
            KeysError::Revoked(_) => (
                Exit::Failed,
                Some("make a new one: pinfold keys generate NAME".into()),
            ),
            KeysError::TooMany { revoked } => (Exit::Failed, Some(room(revoked))),
            KeysError::Unknown { nearest, .. } => (
                Exit::Failed,
                Some(match nearest {
                    Some(nearest) => format!("did you mean {nearest:?}?"),
                    None => "`pinfold keys list` names those that are there".into(),
                }),
            ),
            KeysError::Rules(_) => (Exit::Usage, None),
            KeysError::Make { source, .. } => (of_io(Exit::CannotCreate, source), None),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Most revoked keys that a hint names.
const NAMED: usize = 8;

/// How there is room for another key.
fn room(revoked: &[KeyName]) -> String {
    let mut hint =
        "delete NAME.pub and NAME.toml in keys-dir of keys that sign nothing any longer".to_owned();
    if !revoked.is_empty() {
        let names = revoked.iter().take(NAMED).map(KeyName::as_str);
        hint.push_str("; revoked are ");
        hint.push_str(&Vec::from_iter(names).join(" "));
    }
    if let Some(more @ 1..) = revoked.len().checked_sub(NAMED) {
        hint.push_str(&format!(" and {more} more"));
    }
    hint
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let exit = match &error {
            KeyFileError::Read { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Exit::NoInput,
                _ => of_io(Exit::Io, source),
            },
            KeyFileError::Public { .. } => Exit::Data,
            KeyFileError::NoRules { .. } | KeyFileError::Rules { .. } => Exit::Config,
        };
        let failure = Self::new(exit, error);
        match exit {
            Exit::NoPermission => failure.hint("run it with sudo"),
            Exit::Config => failure.hint("trust it anew: pinfold keys trust FILE.pub"),
            _ => failure,
        }
    }
}
