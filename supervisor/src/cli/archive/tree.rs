//! A directory read from within: whatever somebody who may write in it does meanwhile, nothing outside
//! of it is read.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::{ArchiveError, file};
use super::{DEPTH_LIMIT, ENTRY_LIMIT, WRITTEN_PATH_LIMIT_BYTES};

/// What was met.
pub(super) enum Met {
    Directory,
    File(File),
    /// A link, and what it says.
    Link(CString),
    /// A socket, FIFO or device.
    Other,
}

/// Why something that is there is not taken, or not as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    #[error("more than {DEPTH_LIMIT} directories are above it")]
    Deep,
    #[error("its path is longer than {WRITTEN_PATH_LIMIT_BYTES} bytes")]
    Long,
    #[error("more than {limit} entries are in it")]
    Many { limit: usize },
    #[error("it has more than its share of a backup's entries, {limit}: the rest is left out")]
    Share { limit: usize },
    #[error(
        "its names have more than their share of a backup's list, {limit} bytes: the rest is left out"
    )]
    Names { limit: u64 },
    #[error(
        "with it, {limit} bytes that take no place on the disk (holes, compression, further names of files) would take it in the backup"
    )]
    Unbacked { limit: u64 },
    #[error("something else took its place while it was read")]
    Replaced,
    #[error("it became shorter while it was read: zeros stand for the rest")]
    Short,
    #[error("a part of it cannot be read, and zeros stand for it")]
    Damaged(#[source] io::Error),
    #[error("it cannot be read")]
    Unread(#[source] io::Error),
}

/// Whether what is in a directory is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Wanted,
    Passed,
}

/// Who is shown what is there. Paths are those below the directory (empty: itself).
pub(super) trait See {
    /// What is there, with its owner and mode.
    fn met(&mut self, below: &Path, met: Met, stat: &Stat) -> Result<Within, ArchiveError>;

    /// What is there and cannot be taken.
    fn passed(&mut self, below: &Path, why: Why) -> Result<(), ArchiveError>;
}

/// Goes through a directory, each directory before what is in it, names in order. `prefix` is how many bytes the
/// archive has before each path.
pub(super) fn walk(path: &Path, prefix: usize, see: &mut dyn See) -> Result<(), ArchiveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let directory = opened.map_err(|errno| file("open", path)(errno.into()))?;
    let stat =
        rustix::fs::fstat(&directory).map_err(|errno| file("look at", path)(errno.into()))?;
    match see.met(Path::new(""), Met::Directory, &stat)? {
        Within::Wanted => within(prefix, &directory, Path::new(""), 1, see),
        Within::Passed => Ok(()),
    }
}

fn within(
    prefix: usize,
    directory: &OwnedFd,
    below: &Path,
    depth: usize,
    see: &mut dyn See,
) -> Result<(), ArchiveError> {
    if depth > DEPTH_LIMIT {
        return see.passed(below, Why::Deep);
    }
    let names = match names(directory) {
        Ok(names) => names,
        Err(why) => return see.passed(below, why),
    };
    for name in names {
        let path = below.join(OsStr::from_bytes(name.to_bytes()));
        if prefix + path.as_os_str().len() > WRITTEN_PATH_LIMIT_BYTES {
            see.passed(&path, Why::Long)?;
            continue;
        }
        match meet(directory, &name) {
            // Gone meanwhile.
            Ok(None) => {}
            Err(why) => see.passed(&path, why)?,
            Ok(Some(Found::Directory(opened, stat))) => {
                if see.met(&path, Met::Directory, &stat)? == Within::Wanted {
                    within(prefix, &opened, &path, depth + 1, see)?;
                }
            }
            Ok(Some(Found::Other(met, stat))) => {
                see.met(&path, met, &stat)?;
            }
        }
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> Result<Vec<CString>, Why> {
    let unread = |errno: Errno| Why::Unread(errno.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(unread)? {
        let name = entry.map_err(unread)?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
        if names.len() > ENTRY_LIMIT {
            return Err(Why::Many { limit: ENTRY_LIMIT });
        }
    }
    names.sort();
    // While files are renamed, some file systems list a name twice.
    names.dedup();
    Ok(names)
}

/// What a name stands for.
enum Found {
    Directory(OwnedFd, Stat),
    Other(Met, Stat),
}

/// What a name stands for; `None` where it has gone meanwhile.
fn meet(directory: impl AsFd, name: &CString) -> Result<Option<Found>, Why> {
    let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let Some(stat) = there(stat)? else {
        return Ok(None);
    };
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => flags |= OFlags::DIRECTORY,
        // Should it be something else by now, opening it waits for nobody.
        FileType::RegularFile => flags |= OFlags::NONBLOCK,
        FileType::Symlink => {
            let target = there(rustix::fs::readlinkat(&directory, name, Vec::new()))?;
            return Ok(target.map(|target| Found::Other(Met::Link(target), stat)));
        }
        _ => return Ok(Some(Found::Other(Met::Other, stat))),
    }
    let opened = rustix::fs::openat(&directory, name, flags, Mode::empty());
    let Some(opened) = there(opened)? else {
        return Ok(None);
    };
    let stat = rustix::fs::fstat(&opened).map_err(|errno| Why::Unread(errno.into()))?;
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Directory(opened, stat),
        FileType::RegularFile => Found::Other(Met::File(File::from(opened)), stat),
        _ => Found::Other(Met::Other, stat),
    }))
}

/// What was found; `None` where it has gone meanwhile.
fn there<T>(found: Result<T, Errno>) -> Result<Option<T>, Why> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        // A link, a file, a socket, and no link any more.
        Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::INVAL) => Err(Why::Replaced),
        Err(errno) => Err(Why::Unread(errno.into())),
    }
}
