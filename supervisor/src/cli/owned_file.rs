//! Files of the policies' owner that the launcher trusts, replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::Gid;

use super::exit::{Exit, Failure, of_io};

/// Such a file is not written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}")]
pub(super) struct OwnedFileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl From<OwnedFileError> for Failure {
    fn from(error: OwnedFileError) -> Self {
        let exit = of_io(Exit::CannotCreate, &error.source);
        let failure = Self::new(exit, error);
        match exit {
            Exit::NoPermission => failure.hint("run it with sudo"),
            _ => failure,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OwnedFileError {
    let path = path.to_owned();
    move |source| OwnedFileError {
        action,
        path,
        source,
    }
}

/// Writes `directory/name`: whoever reads it meanwhile reads the old one or the new one, whole, and
/// after a loss of power one of the two is there. `group` may read it; without, it is its owner's alone.
pub(super) fn replace(
    directory: &Path,
    name: &str,
    bytes: &[u8],
    group: Option<Gid>,
) -> Result<(), OwnedFileError> {
    let path = directory.join(name);
    // Nothing that counts has such a name.
    let new = directory.join(format!(".{name}.new"));
    remove(&new)?;
    put(&new, bytes, group).map_err(failed("write", &new))?;
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
pub(super) fn remove(path: &Path) -> Result<bool, OwnedFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true).map_err(failed("remove", path)),
    }
}
