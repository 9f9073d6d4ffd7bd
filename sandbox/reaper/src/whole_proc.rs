//! The whole of `/proc`, for a plugin whose policy asks for it: what it may know of the machine is shown,
//! and over everything else of the kernel's lies an empty file or directory that nobody can change.
//!
//! What is shown is listed and not what is masked: an entry that only another kernel has is masked too.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::failure::{During, Failure};
use crate::procfs::PROC_FLAGS;
use crate::root::{attach, file, tmpfs};
use crate::setup::PRIVATE;
use crate::step::Step;
use crate::sys;

/// What of the kernel's is shown, beside the directories of the plugin's own processes.
pub const SHOWN: [&CStr; 11] = [
    c"cpuinfo",
    c"filesystems",
    c"loadavg",
    c"meminfo",
    // Links to the process's own.
    c"mounts",
    c"net",
    c"self",
    c"stat",
    c"thread-self",
    c"uptime",
    c"version",
];

/// Where the masks are made, in the new root, until all of them are taken.
const PLACE: &CStr = c".masks";
/// What in it lies over files, and over directories.
const FILE: &CStr = c"file";
const DIRECTORY: &CStr = c"directory";

const STEP: Step = Step::R9;

/// Whether the entry of this name is shown as it is.
#[must_use]
pub fn is_shown(name: &CStr) -> bool {
    let is_process = name.to_bytes().iter().all(u8::is_ascii_digit);
    is_process || SHOWN.contains(&name)
}

/// Mounts it at `proc` of the root and masks it. The inner failure is that there is none, not even a part
/// of it; the outer one that something of it may be left.
pub(crate) fn mount(root: BorrowedFd<'_>) -> Result<Result<(), Failure>, Failure> {
    let proc = match whole().during(STEP, "mount proc") {
        Ok(proc) => proc,
        Err(failure) => return Ok(Err(failure)),
    };
    // Unmounting is by path.
    rustix::process::fchdir(root).during(STEP, "enter the new root")?;
    rustix::process::umask(Mode::empty());
    let place = rustix::fs::mkdirat(root, PLACE, Mode::empty());
    if let Err(failure) = place.during(STEP, "make a place for the masks") {
        // What is there is not ours to take away.
        rustix::process::umask(PRIVATE);
        return Ok(Err(failure));
    }
    let masks = masks(root).during(STEP, "make masks for proc");
    rustix::process::umask(PRIVATE);
    let masked = match masks {
        Ok(masks) => mask_all(proc.as_fd(), masks.as_fd(), root)?,
        Err(failure) => Err(failure),
    };
    take_away_place(root).during(STEP, "take away the place of the masks")?;
    Ok(masked)
}

fn whole() -> Result<OwnedFd, Errno> {
    let proc = rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&proc, c"hidepid", c"invisible")?;
    rustix::mount::fsconfig_create(&proc)?;
    rustix::mount::fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, PROC_FLAGS)
}

/// A read-only file system with one empty file and one empty directory, attached at [`PLACE`]: before
/// Linux 6.15 only what is attached can be cloned.
fn masks(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let masks = tmpfs(c"4k", c"4", c"555")?;
    attach(masks.as_fd(), root, PLACE)?;
    rustix::fs::mkdirat(&masks, DIRECTORY, Mode::from_raw_mode(0o555))?;
    file(masks.as_fd(), FILE, 0o444, b"")?;
    sys::make_read_only(masks.as_fd())?;
    Ok(masks)
}

fn mask_all(
    proc: BorrowedFd<'_>,
    masks: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> Result<Result<(), Failure>, Failure> {
    if let Err(failure) = attach(proc, root, c"proc").during(STEP, "mount proc") {
        return Ok(Err(failure));
    }
    let masked = mask_each(proc, masks).during(STEP, "mask proc");
    if masked.is_err() {
        unmount(c"proc").during(STEP, "unmount proc")?;
    }
    Ok(masked)
}

fn mask_each(proc: BorrowedFd<'_>, masks: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(proc, c".", flags, Mode::empty())?;
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(listed, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || is_shown(name) {
            continue;
        }
        match mask(proc, masks, name) {
            // Gone since it was listed: nothing is left to be masked.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Wherever making the masks has ended.
fn take_away_place(root: BorrowedFd<'_>) -> Result<(), Errno> {
    match unmount(PLACE) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    match rustix::fs::unlinkat(root, PLACE, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn mask(proc: BorrowedFd<'_>, masks: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    // What is opened of a link is the link itself, which is masked as a file is; none is followed.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat2(proc, name, flags, Mode::empty(), resolve)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&entry)?.st_mode);
    let mask = match kind {
        FileType::Directory => DIRECTORY,
        _ => FILE,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mask = rustix::mount::open_tree(masks, mask, flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&mask, c"", &entry, c"", flags)
}

fn unmount(path: &CStr) -> Result<(), Errno> {
    rustix::mount::unmount(path, UnmountFlags::DETACH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_what_is_listed_are_shown_and_nothing_else() {
        for name in [c"1", c"4194304", c"self", c"cpuinfo", c"net"] {
            assert!(is_shown(name), "{name:?}");
        }
        for name in [c"kcore", c"sys", c"1x", c"cpuinfo2", c"network"] {
            assert!(!is_shown(name), "{name:?}");
        }
    }
}
