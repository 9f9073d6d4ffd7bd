//! Where a backup is made: a directory beside it, one process's at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::{ArchiveError, file};
use super::write::parent;

/// Its name: always the same, so that what one that was killed has left (copies of databases) is found,
/// and removed, by the next.
pub(super) const NAME: &str = ".pinfold-backup";
/// The file in it that is locked.
const LOCK: &str = "lock";
/// How often it may go away while it is being taken: each time another process has just ended.
const TRIES: usize = 16;

/// The directory, with nothing of another's in it. Gone with this value.
#[derive(Debug)]
pub(super) struct Work {
    path: PathBuf,
    /// Held as long as the directory is used.
    _lock: File,
}

impl Work {
    /// Takes the directory beside `to`.
    pub(super) fn beside(to: &Path) -> Result<Self, ArchiveError> {
        let path = parent(to).join(NAME);
        for _ in 0..TRIES {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(file("make", &path))?,
            }
            if let Some(lock) = take(&path)? {
                sweep(&path).map_err(file("remove what is in", &path))?;
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(ArchiveError::Busy { path })
    }

    /// Where the copy of a database lies, by its place among the areas.
    pub(super) fn copy(&self, at: usize) -> PathBuf {
        self.path.join(format!("{at}.db"))
    }

    /// Where the backup lies until it is whole.
    pub(super) fn new_file(&self) -> PathBuf {
        self.path.join("new.tar")
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays is removed by the next one.
        sweep(&self.path).unwrap_or_default();
        fs::remove_file(self.path.join(LOCK)).unwrap_or_default();
        fs::remove_dir(&self.path).unwrap_or_default();
    }
}

/// Locks the directory; `None` where it went away meanwhile.
fn take(path: &Path) -> Result<Option<File>, ArchiveError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(file("look at", path))?,
    };
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        let why = "it is there, and no directory of this user's";
        return Err(file("use", path)(io::Error::other(why)));
    }
    let name = path.join(LOCK);
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&name);
    let lock = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(file("open", &name))?,
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(ArchiveError::Busy { path: path.into() }),
        Err(TryLockError::Error(error)) => return Err(file("lock", &name)(error)),
    }
    // Who had it may have removed it between the two.
    let mine = lock.metadata().map_err(file("look at", &name))?;
    let is_it = fs::symlink_metadata(&name)
        .is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino()));
    Ok(is_it.then_some(lock))
}

/// Removes everything in it but the lock.
fn sweep(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
