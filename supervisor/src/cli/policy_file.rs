//! Policy files as their owner reads, writes and removes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::Gid;
use pinfold_policy::{PluginId, PolicyError, PolicyFile};

use super::exit::{Exit, Failure, of_io};
use super::installation::Installation;
use super::toml_comments;

/// A policy as it lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Existing {
    pub(super) policy: PolicyFile,
    /// Whether it has comments, which writing it anew loses.
    pub(super) has_comments: bool,
}

/// Why a policy file is not read, written or removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PolicyFileError {
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}: {source}")]
    Policy { path: PathBuf, source: PolicyError },
    #[error("the policy that its manifest comes to is refused")]
    Proposed(#[source] PolicyError),
}

impl From<PolicyFileError> for Failure {
    fn from(error: PolicyFileError) -> Self {
        match &error {
            PolicyFileError::File { action, source, .. } => {
                let otherwise = match *action {
                    "read" => Exit::Io,
                    _ => Exit::CannotCreate,
                };
                let exit = of_io(otherwise, source);
                let failure = Self::new(exit, error);
                match exit {
                    Exit::NoPermission => failure.hint("run it with sudo"),
                    _ => failure,
                }
            }
            PolicyFileError::Policy { .. } => Self::new(Exit::Config, error)
                .hint("mend the file, or move it away to have a new one written"),
            PolicyFileError::Proposed(_) => Self::new(Exit::Data, error),
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PolicyFileError {
    let path = path.to_owned();
    move |source| PolicyFileError::File {
        action,
        path,
        source,
    }
}

/// The policy of a plugin; `None` where it has none.
pub(super) fn read(path: &Path) -> Result<Option<Existing>, PolicyFileError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed("read", path))?,
    };
    let policy = PolicyFile::parse(&bytes).map_err(|source| PolicyFileError::Policy {
        path: path.to_owned(),
        source,
    })?;
    let has_comments = std::str::from_utf8(&bytes).is_ok_and(toml_comments::has_comments);
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
    let text = policy.to_toml();
    // What the launcher would refuse is not written.
    PolicyFile::parse(text.as_bytes()).map_err(PolicyFileError::Proposed)?;
    let directory = installation.policy_dir();
    let path = installation.policy(plugin);
    // No policy has such a name.
    let new = directory.join(format!(".{plugin}.toml.new"));
    remove_if_there(&new)?;
    put(&new, text.as_bytes(), installation.policy_group()).map_err(failed("write", &new))?;
    fs::rename(&new, &path).map_err(failed("replace", &path))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("write", directory))
}

fn put(path: &Path, bytes: &[u8], group: Option<Gid>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Some(group) = group {
        fchown(&file, None, Some(group.as_raw()))?;
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a file; `false` where there is none.
pub(super) fn remove_if_there(path: &Path) -> Result<bool, PolicyFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true).map_err(failed("remove", path)),
    }
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
        let mode = if nix::unistd::geteuid().is_root() {
            0o640
        } else {
            0o600
        };
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(remove_if_there(&path).unwrap());
        assert!(!remove_if_there(&path).unwrap());
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
