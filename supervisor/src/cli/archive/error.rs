//! Why there is no backup, or nothing is restored.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use pinfold_sandbox::trust::TrustError;

use super::tree::Why;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::config::ConfigError;
use crate::keys::KeyFileError;
use crate::shell::shell_word;
use crate::store::StoreError;
use crate::store::audit::reader::BrokenTrail;

/// Why there is no backup, or nothing is restored.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ArchiveError {
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is there already: a backup overwrites nothing")]
    Exists { path: PathBuf },
    #[error("there is no directory {path}; the name of a backup itself ends in .tar")]
    NoDirectory { path: PathBuf },
    #[error("another backup is being made in {path}")]
    Busy { path: PathBuf },
    #[error("which databases there are is not known")]
    Refused(#[source] ConfigError),
    #[error(
        "entry {entry:?} of the backup has no place: its configuration has no such database in the daemon's state directory"
    )]
    NoPlace { entry: String },
    #[error("{inner} lies in {outer}, which is backed up by itself")]
    Nested { inner: PathBuf, outer: PathBuf },
    #[error("{path} changed while it was read")]
    Changed { path: PathBuf },
    #[error("{path} has more than {limit} {what}")]
    Limit {
        path: PathBuf,
        limit: usize,
        what: &'static str,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} is no backup: {why}")]
    NotOurs { path: PathBuf, why: String },
    #[error("entry {entry:?} of the backup is refused: {why}")]
    Entry { entry: String, why: &'static str },
    #[error("entry {entry:?} of the backup is not what its manifest says: {what}")]
    Differs { entry: String, what: &'static str },
    #[error("what was written cannot be restored, and is not kept")]
    NotReadBack {
        #[source]
        source: Box<ArchiveError>,
    },
    #[error("the backup is of version {version}, whose form {format} this version does not know")]
    Later { version: String, format: u32 },
    #[error("the audit trail of the backup is not whole")]
    Trail(#[source] BrokenTrail),
    #[error("{name} of the backup is refused: {why}")]
    Configuration { name: String, why: String },
    #[error("{name} of the backup is damaged: {why}")]
    Damaged { name: String, why: String },
    #[error("launcher.toml of the backup has {key} = {theirs}, this installation's {ours}")]
    OtherPlaces {
        key: &'static str,
        theirs: String,
        ours: String,
    },
    #[error("{path} is a mount point, and what is restored cannot take its place")]
    Mounted { path: PathBuf },
    #[error("{who} runs on {path}")]
    Running { who: &'static str, path: PathBuf },
    #[error("{path} is no place where a database is verified: others could change it meanwhile")]
    NotAlone {
        path: PathBuf,
        #[source]
        source: TrustError,
    },
    #[error(
        "the keys of the backup, unpacked in {directory}, cannot be compared with those that are here"
    )]
    Keys {
        directory: PathBuf,
        #[source]
        source: Box<KeyFileError>,
    },
    #[error("find ids for the plugins")]
    Ids(#[source] pinfold_sandbox::uids::UidError),
    #[error("{path} was not put in place, and everything is as it was")]
    RolledBack {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} was not put in place, nor {back} put back")]
    Stuck {
        path: PathBuf,
        back: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Names what was done to which file when it failed.
pub(in crate::cli) fn file(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ArchiveError + use<> {
    let path = path.to_owned();
    move |source| ArchiveError::File {
        action,
        path,
        source,
    }
}

impl ArchiveError {
    /// What is no archive, or the beginning of one.
    pub(super) fn torn(path: &Path, error: &dyn Display) -> Self {
        Self::NotOurs {
            path: path.into(),
            why: format!("it is torn, or no tar file: {error}"),
        }
    }

    /// What ends a backup, for something that is not a plugin's.
    pub(super) fn of(why: Why, path: &Path) -> Self {
        let over = |limit, what| Self::Limit {
            path: path.into(),
            limit,
            what,
        };
        match why {
            Why::Deep => over(super::DEPTH_LIMIT, "directories above it"),
            Why::Long => over(super::WRITTEN_PATH_LIMIT_BYTES, "bytes in its path"),
            Why::Many { limit } | Why::Share { limit } => over(limit, "entries"),
            Why::Names { limit } | Why::Unbacked { limit } => {
                over(usize::try_from(limit).unwrap_or(usize::MAX), "bytes")
            }
            Why::Replaced | Why::Short => Self::Changed { path: path.into() },
            Why::Damaged(source) | Why::Unread(source) => file("read", path)(source),
        }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        use ArchiveError as E;
        let (exit, hint) = match &error {
            E::File { source, .. } => match of_io(Exit::Io, source) {
                Exit::NoPermission => (Exit::NoPermission, Some("run it with sudo".to_owned())),
                exit => (exit, None),
            },
            E::NoDirectory { path } => (
                Exit::NoInput,
                Some(format!("nothing was done: make the directory first (mkdir -p -m 700 {})", shell_word(path))),
            ),
            E::Exists { .. } => (Exit::CannotCreate, Some("give another name".into())),
            E::Busy { .. } => (Exit::Temporary, Some("wait for its end, or make this one in another directory".into())),
            E::Refused(ConfigError::Read { source, .. }) => match of_io(Exit::Config, source) {
                Exit::NoPermission => (Exit::NoPermission, Some("run it with sudo".to_owned())),
                exit => (exit, None),
            },
            E::Refused(_) => (Exit::Config, Some("nothing was done: mend pinfold.toml first".into())),
            E::NoPlace { .. } => (
                Exit::Config,
                Some("nothing was changed: with --keep-configuration databases go where this installation's pinfold.toml names them".into()),
            ),
            E::Nested { .. } => (Exit::Config, Some("give each directory of launcher.toml a place of its own".into())),
            E::Changed { .. } => (
                Exit::Temporary,
                Some("disable the plugin that writes it (`pinfold plugin disable`), or stop the daemon, and try again".into()),
            ),
            E::Limit { .. } => (Exit::Data, Some("take away what the plugin has piled up, or back its directory up by itself".into())),
            E::Store(error) => (Exit::Io, error.hint()),
            E::NotOurs { .. } | E::Damaged { .. } | E::Entry { .. } | E::Differs { .. } | E::Trail(_) => (
                Exit::Data,
                Some("nothing was changed: use another backup, or compare this one with where it was kept".into()),
            ),
            E::NotReadBack { .. } => (
                Exit::Io,
                Some("run it again; if it says so again: pinfold doctor, and look at the disk that it was written to".into()),
            ),
            E::Later { version, .. } => (Exit::Data, Some(format!("nothing was changed: install version {version} first"))),
            E::Configuration { .. } => (
                Exit::Config,
                Some("nothing was changed: with --keep-configuration this installation's files stay as they are".into()),
            ),
            E::OtherPlaces { .. } => (
                Exit::Config,
                Some("nothing was changed: make both the same, or keep this installation's with --keep-configuration".into()),
            ),
            E::Mounted { path } => (
                Exit::CannotCreate,
                Some(format!(
                    "nothing was changed: unmount it (umount {}), restore, and copy what is there then to the file system that was mounted",
                    shell_word(path)
                )),
            ),
            E::Running { .. } => (
                Exit::Temporary,
                Some("nothing was changed: stop it (systemctl stop pinfold.slice), or end `make run`".into()),
            ),
            E::NotAlone { .. } => (
                Exit::NoPermission,
                Some("nothing was changed: make that directory, and every one above it, root's, and nobody else's to write; or run it as the user whose they are".into()),
            ),
            E::Keys { source, .. } => {
                let exit = match &**source {
                    KeyFileError::Read { source, .. } => of_io(Exit::Io, source),
                    _ => Exit::Io,
                };
                let what = match exit {
                    Exit::NoPermission => "run it with sudo",
                    _ => "look at the disk that it was unpacked on, and run it again",
                };
                (exit, Some(format!("nothing was changed: {what}")))
            }
            E::Ids(_) => (Exit::Failed, None),
            E::RolledBack { .. } => (Exit::CannotCreate, Some("look at that directory: is it a mount point, is the disk full?".into())),
            E::Stuck { back, .. } => (
                Exit::Failed,
                Some(format!("mend what keeps {} where it is, and run the same command again", shell_word(back))),
            ),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
