//! A launcher's name, the lock that says it lives, and the record of its groups.
//!
//! The record is written before the groups are made: whatever a launcher leaves behind, its lock
//! file says where.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::CgroupError;

/// What every launcher's group begins with.
const PREFIX: &str = "pinfold-";
/// How many hexadecimal digits follow.
const DIGITS: usize = 16;
/// The lock file's name is the group's, with this.
const SUFFIX: &str = ".lock";
/// A record has one path for each hierarchy; paths have at most 4 KiB.
const MAX_RECORD_BYTES: u64 = 64 * 1024;
/// A fresh name is only ever taken by a sweep that looks at it in that very moment.
const ATTEMPTS: usize = 8;

/// A held lock. The lock ends with the value, or with the process.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    name: String,
}

impl Lock {
    /// Takes a name that nobody has.
    pub(super) fn create(directory: &Path) -> Result<Self, CgroupError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::attempt(directory) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(source) => last = Some(source),
            }
        }
        let source = last.unwrap_or_else(|| io::ErrorKind::WouldBlock.into());
        Err(CgroupError::Lock {
            path: directory.to_owned(),
            source,
        })
    }

    fn attempt(directory: &Path) -> io::Result<Option<Self>> {
        let name = fresh_name()?;
        let path = directory.join(format!("{name}{SUFFIX}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Self { file, path, name }.hold()
    }

    /// Opens the lock file of a launcher and takes the lock, if nobody holds it.
    pub(super) fn try_take(directory: &Path, name: &str) -> io::Result<Option<Self>> {
        let path = directory.join(format!("{name}{SUFFIX}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)?;
        Self {
            file,
            path,
            name: name.to_owned(),
        }
        .hold()
    }

    fn hold(self) -> io::Result<Option<Self>> {
        match self.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Somebody else may have held it, and removed it, between opening and locking.
        let is_linked = self.file.metadata()?.nlink() > 0;
        Ok(is_linked.then_some(self))
    }

    /// The launcher's name, which its groups have too.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes down which groups are about to be made.
    pub(super) fn record(&mut self, groups: &[PathBuf]) -> Result<(), CgroupError> {
        let text: String = groups
            .iter()
            .map(|path| format!("{}\n", path.display()))
            .collect();
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())?;
            self.file.sync_data()
        };
        write().map_err(|source| CgroupError::Lock {
            path: self.path.clone(),
            source,
        })
    }

    /// The groups that were written down.
    pub(super) fn recorded(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut text = String::new();
        self.file.rewind()?;
        (&self.file)
            .take(MAX_RECORD_BYTES)
            .read_to_string(&mut text)?;
        Ok(text.lines().map(PathBuf::from).collect())
    }

    /// Removes the lock file: there is nothing left to find.
    pub(super) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The names of the launchers that have a lock file in this directory.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
        names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Whether this is the name of a launcher's group.
pub(super) fn is_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn fresh_name() -> io::Result<String> {
    let mut bytes = [0; DIGITS / 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{PREFIX}{:016x}", u64::from_ne_bytes(bytes)))
}
