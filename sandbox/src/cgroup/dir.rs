//! A group's directory: opened once, its files reached relative to the descriptor.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::CgroupError;

/// Longest file of a group that is read: `cgroup.procs` with 100,000 numbers stays below it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A group's directory and its path, which serves messages alone.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory, which must not be a link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens a directory in this one.
    pub(super) fn open_child(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Self {
            fd,
            path: self.path.join(name),
        })
    }

    /// Makes a directory in this one and opens it. One that exists is an error.
    pub(super) fn make_child(&self, name: &str) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))?;
        self.open_child(name)
    }

    /// Removes an empty child. One that is not there counts as removed.
    pub(super) fn remove_child(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Names of the directories in this one, at most `limit`.
    pub(super) fn children(&self, limit: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let is_dir = entry.file_type() == rustix::fs::FileType::Directory;
            if is_dir && name != "." && name != ".." {
                names.push(name.to_owned());
                if names.len() >= limit {
                    break;
                }
            }
        }
        Ok(names)
    }

    /// Opens a file of the group.
    pub(super) fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(
            &self.fd,
            name,
            flags,
            Mode::empty(),
        )?))
    }

    /// Reads a file of the group whole.
    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        self.open_file(name, OFlags::RDONLY)?
            .take(MAX_FILE_BYTES + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(text)
    }

    /// Writes to a file of the group, in one write as the kernel wants it.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        self.open_file(name, OFlags::WRONLY)?
            .write_all(text.as_bytes())
    }

    /// Whether the group has such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// A file that holds one number; `None` where it is missing, or says `max`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.read(name).ok()?.trim().parse().ok()
    }

    /// The value behind a key in a file of `key value` lines.
    pub(super) fn keyed(&self, name: &str, key: &str) -> Option<u64> {
        keyed(&self.read(name).ok()?, key)
    }

    /// The processes in the group itself. Those of other PID namespaces, listed as 0, are left out.
    pub(super) fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let text = self
            .read("cgroup.procs")
            .map_err(|source| CgroupError::Read {
                path: self.path.join("cgroup.procs"),
                source,
            })?;
        Ok(text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid > 0)
            .collect())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The value behind a key in `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        if found == key {
            value.trim().parse().ok()
        } else {
            None
        }
    })
}
