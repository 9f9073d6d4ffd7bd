//! Files with private keys: nobody but their owner reads them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pinfold_policy::{PrivateKey, PrivateKeyError};
use zeroize::Zeroizing;

use super::exit::{Exit, Failure, of_io};
use crate::shell::shell_word;

/// Largest such file: 128 digits and a newline. One byte more is read, to see that it is there.
const LIMIT_BYTES: usize = 129;

/// Why there is no private key.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivateFileError {
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} can be read by others (mode {mode:04o}): the key may be known to them")]
    Readable { path: PathBuf, mode: u32 },
    #[error("{path} is no private key")]
    Key {
        path: PathBuf,
        #[source]
        source: PrivateKeyError,
    },
}

impl From<PrivateFileError> for Failure {
    fn from(error: PrivateFileError) -> Self {
        match &error {
            PrivateFileError::File { action, source, .. } => {
                let exit = match source.kind() {
                    io::ErrorKind::NotFound => Exit::NoInput,
                    _ if *action == "read" => of_io(Exit::Io, source),
                    _ => of_io(Exit::CannotCreate, source),
                };
                let exists = source.kind() == io::ErrorKind::AlreadyExists;
                let failure = Self::new(exit, error);
                match exists {
                    true => failure.hint("a key is never overwritten: choose another name"),
                    false => failure,
                }
            }
            PrivateFileError::Readable { path, .. } => {
                let hint = format!(
                    "if nobody else has read it: chmod 600 {}; else make a new key",
                    shell_word(path)
                );
                Self::new(Exit::NoPermission, error).hint(hint)
            }
            PrivateFileError::Key { .. } => {
                Self::new(Exit::Data, error).hint("`pinfold keys generate NAME` makes one")
            }
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    let path = path.to_owned();
    move |source| PrivateFileError::File {
        action,
        path,
        source,
    }
}

/// Reads a private key from a file that only its owner may read.
pub(super) fn read(path: &Path) -> Result<PrivateKey, PrivateFileError> {
    let mut file = File::open(path).map_err(failed("read", path))?;
    let mode = file.metadata().map_err(failed("read", path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Readable {
            path: path.to_owned(),
            mode,
        });
    }
    // A buffer that is never moved while it grows: no copy is left behind.
    let mut bytes = Zeroizing::new([0; LIMIT_BYTES + 1]);
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", path)(error)),
        }
    }
    let content = bytes.get(..length).unwrap_or_default();
    PrivateKey::parse(content).map_err(|source| PrivateFileError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Writes a private key into a new file, its owner's alone.
pub(super) fn write_new(path: &Path, key: &PrivateKey) -> Result<(), PrivateFileError> {
    put(path, key.to_hex().as_bytes(), 0o600).map_err(failed("write", path))
}

/// Writes a new file that everybody may read.
pub(super) fn write_new_public(path: &Path, text: &str) -> Result<(), PrivateFileError> {
    put(path, text.as_bytes(), 0o644).map_err(failed("write", path))
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_key_is_its_owners_alone_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("release.key");
        let key = PrivateKey::parse("ab".repeat(32).as_bytes()).unwrap();
        write_new(&path, &key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), key.to_hex().as_bytes());
        assert_eq!(read(&path).unwrap().public_key(), key.public_key());
        let failure = Failure::from(write_new(&path, &key).unwrap_err());
        assert_eq!(failure.exit(), Exit::CannotCreate);
        assert!(failure.hint_text().unwrap().contains("another name"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = Failure::from(read(&path).unwrap_err());
        assert_eq!(failure.exit(), Exit::NoPermission);
        assert!(failure.to_string().contains("(mode 0640)"), "{failure}");
        assert!(failure.hint_text().unwrap().contains("chmod 600"));
    }

    #[test]
    fn what_is_no_key_is_named_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("release.key");
        put(&path, "secret".repeat(100).as_bytes(), 0o600).unwrap();
        let failure = Failure::from(read(&path).unwrap_err());
        assert_eq!(failure.exit(), Exit::Data);
        let text = failure.to_string();
        assert!(
            text.contains("it has 130 bytes") && !text.contains("secret"),
            "{text}"
        );
    }
}
