//! Neither daemon nor launcher runs, nor comes to run, while an installation is replaced.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use super::error::{ArchiveError, file};

/// The locks that both hold while they run.
#[derive(Debug)]
pub(in crate::cli) struct Locks {
    _daemon: Option<File>,
    _launcher: Option<File>,
}

impl Locks {
    /// Takes the daemon's lock in `state` and the launcher's in `launcher_state`.
    pub(in crate::cli) fn take(state: &Path, launcher_state: &Path) -> Result<Self, ArchiveError> {
        Ok(Self {
            _daemon: take("pinfoldd", state)?,
            _launcher: take("pinfold-launcher", launcher_state)?,
        })
    }
}

/// One of them; `None` where the directory is not there, and so nobody runs on it.
fn take(who: &'static str, directory: &Path) -> Result<Option<File>, ArchiveError> {
    let path = directory.join("lock");
    let Ok(owner) = std::fs::metadata(directory) else {
        return Ok(None);
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW);
    let lock = match options.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = options.create_new(true).open(&path);
            let made = made.map_err(file("make", &path))?;
            // Who runs on it opens it later.
            fchown(&made, Some(owner.uid()), Some(owner.gid()))
                .map_err(file("give away", &path))?;
            made
        }
        opened => opened.map_err(file("open", &path))?,
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(ArchiveError::Running {
            who,
            path: directory.into(),
        }),
        Err(TryLockError::Error(error)) => Err(file("lock", &path)(error)),
    }
}
