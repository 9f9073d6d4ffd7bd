//! Neither daemon nor launcher runs, nor comes to run, while an installation is replaced.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use super::error::{ArchiveError, file};

/// The locks that both hold while they run.
#[derive(Debug)]
pub(in crate::cli) struct Locks {
    _daemon: Option<Held>,
    _launcher: Option<Held>,
}

/// A directory, and the file in it that says the same.
#[derive(Debug)]
struct Held {
    /// Nobody can put another in its place who may not write above it. The launcher, whose directory is
    /// root's, does without.
    _directory: File,
    /// What earlier versions hold alone.
    _file: File,
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
fn take(who: &'static str, directory: &Path) -> Result<Option<Held>, ArchiveError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY)
        .open(directory);
    let opened = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(file("open", directory))?,
    };
    let owner = opened.metadata().map_err(file("look at", directory))?;
    hold(who, directory, directory, &opened)?;
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    // Should it be something else than a file, opening it waits for nobody.
    options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let lock = match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = options.create_new(true).open(&path);
            let made = made.map_err(file("make", &path))?;
            // Who runs on it opens it later.
            fchown(&made, Some(owner.uid()), Some(owner.gid()))
                .map_err(file("give away", &path))?;
            made
        }
        opened => opened.map_err(file("open", &path))?,
    };
    hold(who, directory, &path, &lock)?;
    Ok(Some(Held {
        _directory: opened,
        _file: lock,
    }))
}

fn hold(who: &'static str, directory: &Path, path: &Path, lock: &File) -> Result<(), ArchiveError> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ArchiveError::Running {
            who,
            path: directory.into(),
        }),
        // As the daemon has it: a network's file system may lock no directory that is open to be read.
        Err(TryLockError::Error(error))
            if path == directory && error.raw_os_error() == Some(nix::libc::EBADF) =>
        {
            Ok(())
        }
        Err(TryLockError::Error(error)) => Err(file("lock", path)(error)),
    }
}
