//! A directory read from within: whatever somebody who may write in it does meanwhile, nothing outside
//! of it is read.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::error::{ArchiveError, file};
use super::{DEPTH_LIMIT, PATH_LIMIT_BYTES};

/// What was met.
pub(super) enum Met {
    Directory,
    File(File),
    /// A link, and what it says.
    Link(CString),
    /// A socket, FIFO or device.
    Other,
}

/// Goes through a directory, each directory before what is in it, names in order. `see` gets the path
/// below it (empty: itself), what is there, and its owner and mode.
pub(super) fn walk(
    path: &Path,
    see: &mut dyn FnMut(&Path, Met, &Stat) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let directory = opened.map_err(|errno| file("open", path)(errno.into()))?;
    let stat =
        rustix::fs::fstat(&directory).map_err(|errno| file("look at", path)(errno.into()))?;
    see(Path::new(""), Met::Directory, &stat)?;
    within(path, directory, PathBuf::new(), 1, see)
}

fn within(
    top: &Path,
    directory: OwnedFd,
    below: PathBuf,
    depth: usize,
    see: &mut dyn FnMut(&Path, Met, &Stat) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let full = top.join(&below);
    let failed = |action| {
        let full = full.clone();
        move |errno: rustix::io::Errno| file(action, &full)(errno.into())
    };
    let over = |limit, what| ArchiveError::Limit {
        path: full.clone(),
        limit,
        what,
    };
    if depth > DEPTH_LIMIT {
        return Err(over(DEPTH_LIMIT, "directories above it"));
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory).map_err(failed("list"))? {
        let name = entry.map_err(failed("list"))?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
        if names.len() > super::ENTRY_LIMIT {
            return Err(over(super::ENTRY_LIMIT, "entries"));
        }
    }
    names.sort();
    for name in names {
        let path = below.join(OsStr::from_bytes(name.to_bytes()));
        if path.as_os_str().len() > PATH_LIMIT_BYTES {
            return Err(over(PATH_LIMIT_BYTES, "bytes in a path below it"));
        }
        let met = meet(directory.as_fd(), &name);
        let Some((met, stat)) = met.map_err(|error| file("read", &top.join(&path))(error))? else {
            continue;
        };
        if matches!(met, Met::Directory) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&directory, &name, flags, Mode::empty());
            let opened = opened.map_err(failed("open a directory in"))?;
            see(&path, met, &stat)?;
            within(top, opened, path, depth + 1, see)?;
        } else {
            see(&path, met, &stat)?;
        }
    }
    Ok(())
}

/// What a name stands for; `None` where it has gone meanwhile.
fn meet(directory: impl AsFd, name: &CString) -> io::Result<Option<(Met, Stat)>> {
    let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    let met = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Met::Directory,
        FileType::Symlink => Met::Link(rustix::fs::readlinkat(&directory, name, Vec::new())?),
        FileType::RegularFile => {
            // Should it be something else by now, opening it waits for nobody.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                opened => opened?,
            };
            let stat = rustix::fs::fstat(&opened)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(Some((Met::Other, stat)));
            }
            return Ok(Some((Met::File(File::from(opened)), stat)));
        }
        _ => Met::Other,
    };
    Ok(Some((met, stat)))
}
