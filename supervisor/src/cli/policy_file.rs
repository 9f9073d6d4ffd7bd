//! Policy files as their owner reads and writes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pinfold_policy::{POLICY_SCHEMA_LINE, PluginId, PolicyError, PolicyFile};

use super::exit::{Exit, Failure, of_io};
use super::installation::Installation;
use super::owned_file::{self, OwnedFileError};
use super::toml_comments;

/// A policy as it lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Existing {
    pub(super) policy: PolicyFile,
    /// Whether it has comments, which writing it anew loses.
    pub(super) has_comments: bool,
}

/// Why a policy file is not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum PolicyFileError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Write(#[from] OwnedFileError),
    #[error("{path}")]
    Policy { path: PathBuf, source: PolicyError },
    #[error("the policy that its manifest comes to is refused")]
    Proposed(#[source] PolicyError),
}

impl From<PolicyFileError> for Failure {
    fn from(error: PolicyFileError) -> Self {
        match error {
            PolicyFileError::Read { ref source, .. } => {
                let exit = of_io(Exit::Io, source);
                let failure = Self::new(exit, error);
                match exit {
                    Exit::NoPermission => failure.hint("run it with sudo"),
                    _ => failure,
                }
            }
            PolicyFileError::Write(error) => error.into(),
            PolicyFileError::Policy { .. } => Self::new(Exit::Config, error)
                .hint("mend the file, or move it away to have a new one written"),
            PolicyFileError::Proposed(_) => Self::new(Exit::Data, error),
        }
    }
}

/// The policy of a plugin; `None` where it has none.
pub(super) fn read(path: &Path) -> Result<Option<Existing>, PolicyFileError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| PolicyFileError::Read {
            path: path.to_owned(),
            source,
        })?,
    };
    let policy = PolicyFile::parse(&bytes).map_err(|source| PolicyFileError::Policy {
        path: path.to_owned(),
        source,
    })?;
    let has_comments = std::str::from_utf8(&bytes).is_ok_and(|text| {
        // What is written anew is not lost.
        let rest = text.strip_prefix(POLICY_SCHEMA_LINE).unwrap_or(text);
        toml_comments::has_comments(rest)
    });
    Ok(Some(Existing {
        policy,
        has_comments,
    }))
}

/// Writes the policy of a plugin: whoever reads it meanwhile reads the old one or the new one,
/// whole. What root writes the daemon's group may read; what a user writes is that user's alone.
pub(super) fn write(
    installation: &Installation,
    plugin: &PluginId,
    policy: &PolicyFile,
) -> Result<(), PolicyFileError> {
    let text = format!("{POLICY_SCHEMA_LINE}\n{}", policy.to_toml());
    // What the launcher would refuse is not written.
    PolicyFile::parse(text.as_bytes()).map_err(PolicyFileError::Proposed)?;
    let name = format!("{plugin}.toml");
    let group = installation.daemon_group();
    owned_file::replace(installation.policy_dir(), &name, text.as_bytes(), group)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::place::Place;

    const POLICY: &str = "schema = 1\ndialect = 'goatflow'\nentry = 'hello'\n\
                          [trust]\nunsigned = true\n";

    #[test]
    fn a_policy_is_replaced_whole_with_the_mode_that_its_reader_needs() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::development(base.path());
        fs::create_dir(base.path().join("etc")).unwrap();
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap();
        let mut text = format!("daemon-user = {:?}\n", user.name);
        for key in ["plugin-dir", "policy-dir", "keys-dir", "state-dir"] {
            let path = base.path().join(key);
            fs::create_dir(&path).unwrap();
            text += &format!("{key} = {path:?}\n");
        }
        fs::write(&place.launcher_config, text).unwrap();
        let installation = Installation::open(&place).unwrap();
        let plugin: PluginId = "hello".parse().unwrap();
        let path = installation.policy(&plugin);
        assert_eq!(read(&path).unwrap(), None);
        fs::write(&path, format!("# a reviewer's\n{POLICY}")).unwrap();
        let existing = read(&path).unwrap().unwrap();
        assert!(existing.has_comments);
        write(&installation, &plugin, &existing.policy).unwrap();
        let written = read(&path).unwrap().unwrap();
        assert_eq!(
            (written.policy, written.has_comments),
            (existing.policy, false)
        );
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().next(), Some(POLICY_SCHEMA_LINE));
        let mode = if nix::unistd::geteuid().is_root() {
            0o640
        } else {
            0o600
        };
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(owned_file::remove(&path).unwrap());
        assert!(!owned_file::remove(&path).unwrap());
    }

    #[test]
    fn a_refused_policy_is_named_with_its_line() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("hello.toml");
        fs::write(&path, POLICY.replace("entry", "entri")).unwrap();
        let failure = Failure::from(read(&path).unwrap_err());
        let text = failure.to_string();
        assert!(
            text.contains("hello.toml: line 3: unknown key \"entri\""),
            "{text}"
        );
        assert_eq!(failure.exit(), Exit::Config);
    }
}
