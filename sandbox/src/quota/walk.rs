//! Every file of a directory, without following what its owner may have put there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::{DEPTH_LIMIT, FILES_LIMIT, QuotaError, refused_project};
use crate::sys::quota::{self as sys, Project};

/// Whether a directory has nothing in it.
pub(super) fn is_empty(directory: &OwnedFd) -> Result<bool, QuotaError> {
    for entry in Dir::read_from(directory).map_err(failed)? {
        if !is_itself(entry.map_err(failed)?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Brings a directory and all that is in it into a project.
pub(super) fn bring_in(directory: &OwnedFd, project: u32) -> Result<(), QuotaError> {
    let mut left = FILES_LIMIT;
    directory_in(directory, project, DEPTH_LIMIT, &mut left)
}

/// The directory first: what comes into it from then on inherits, and what was there before is listed
/// after.
fn directory_in(
    directory: &OwnedFd,
    project: u32,
    depth: usize,
    left: &mut u64,
) -> Result<(), QuotaError> {
    let depth = depth.checked_sub(1).ok_or(QuotaError::TooMany)?;
    let wanted = Project {
        id: project,
        is_inherited: true,
    };
    set(directory, wanted)?;
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if is_itself(name) {
            continue;
        }
        *left = left.checked_sub(1).ok_or(QuotaError::TooMany)?;
        let Some(opened) = open(directory, name)? else {
            continue;
        };
        match kind(&opened)? {
            FileType::Directory => directory_in(&opened, project, depth, left)?,
            FileType::RegularFile => set(
                &opened,
                Project {
                    id: project,
                    is_inherited: false,
                },
            )?,
            _ => {}
        }
    }
    Ok(())
}

/// A file or directory; none where it is gone meanwhile, or is neither: links, sockets and pipes take
/// no room, and cannot be asked for their project.
fn open(directory: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, QuotaError> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let refused = |errno: Errno| QuotaError::Open {
        what: format!("{:?} in the directory", CString::from(name)),
        source: errno.into(),
    };
    let at = |flags| openat2(directory, name, flags, Mode::empty(), resolve);
    // Looked at before it is opened: to open a device can do something.
    let seen = match at(OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
        Ok(seen) => seen,
        Err(Errno::NOENT | Errno::LOOP | Errno::XDEV) => return Ok(None),
        Err(errno) => return Err(refused(errno)),
    };
    if !matches!(kind(&seen)?, FileType::RegularFile | FileType::Directory) {
        return Ok(None);
    }
    // What the name is now may be another: it is looked at again, and not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match at(flags | OFlags::CLOEXEC) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT | Errno::LOOP | Errno::XDEV | Errno::NXIO) => Ok(None),
        Err(errno) => Err(refused(errno)),
    }
}

fn kind(file: &OwnedFd) -> Result<FileType, QuotaError> {
    let stat = fstat(file).map_err(failed)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn set(file: impl AsFd, wanted: Project) -> Result<(), QuotaError> {
    match sys::project(&file) {
        Ok(found) if found == wanted => Ok(()),
        _ => sys::set_project(&file, wanted).map_err(refused_project),
    }
}

fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn failed(errno: Errno) -> QuotaError {
    QuotaError::Step {
        step: "look at its files",
        source: errno.into(),
    }
}
