//! A file system in memory that is mounted nowhere, and its sealing.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstatvfs, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::{ENTRIES_LIMIT, PACKAGE_LIMIT_BYTES, attach};

/// The kernel counts pages: each file may waste one.
const PAGE_BYTES: u64 = 4096;

/// About what the kernel has of each file and directory besides its content: inode, name and what
/// leads to its pages.
const ENTRY_BYTES: u64 = 1024;

/// An empty one, writable, with room for the largest package.
pub(super) fn create() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let entries = ENTRIES_LIMIT as u64;
    let size = PACKAGE_LIMIT_BYTES + (entries + 1) * PAGE_BYTES;
    fsconfig_set_string(&context, "source", "pinfold-stage")?;
    fsconfig_set_string(&context, "size", size.to_string())?;
    // One more for the root directory.
    fsconfig_set_string(&context, "nr_inodes", (entries + 1).to_string())?;
    fsconfig_set_string(&context, "mode", "0555")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// The memory that it takes, which is what a stage counts for in `stages-memory`: the pages that its
/// files lie in, each file's length rounded up to whole ones, and [`ENTRY_BYTES`] for each file and
/// each directory, its root among them. As the kernel counts them, so that nothing in it is free.
pub(super) fn taken_bytes(mount: BorrowedFd<'_>) -> io::Result<u64> {
    let found = fstatvfs(mount)?;
    let pages = found.f_blocks.saturating_sub(found.f_bfree);
    let entries = found.f_files.saturating_sub(found.f_ffree);
    Ok(pages
        .saturating_mul(found.f_frsize)
        .saturating_add(entries.saturating_mul(ENTRY_BYTES)))
}

/// Makes the file system itself read-only: through whatever mount, for whomever. The kernel
/// refuses (EBUSY) while anything in it is open or mapped for writing.
pub(super) fn seal(mount: BorrowedFd<'_>) -> io::Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = fspick(mount, "", flags)?;
    fsconfig_set_flag(&context, "ro")?;
    Ok(fsconfig_reconfigure(&context)?)
}

/// Writes a program into it, before it is sealed.
pub(super) fn write(mount: BorrowedFd<'_>, name: &str, program: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(mount, name, flags, Mode::from_raw_mode(0o555))?;
    // Whatever the mask is.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o555))?;
    File::from(file).write_all(program)
}

/// Its root directory for reading.
pub(super) fn open_root(mount: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(mount, ".", flags, Mode::empty())?)
}

/// Whether stages can be made here: makes one, seals it, and sees writing refused and a clone
/// made. The error names the step.
pub(crate) fn probe(attach_dir: &Path) -> Result<(), (&'static str, io::Error)> {
    let mount = create().map_err(|error| ("make a file system in memory", error))?;
    let write = |name| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&mount, name, flags, Mode::from_raw_mode(0o444))
    };
    let before = write("before").map_err(|errno| ("write into it", errno.into()))?;
    match seal(mount.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(error) => return Err(("see sealing refused", error)),
        Ok(()) => {
            let error = io::Error::other("it was sealed under a writer");
            return Err(("see sealing refused", error));
        }
    }
    drop(before);
    seal(mount.as_fd()).map_err(|error| ("seal it", error))?;
    match write("after") {
        Err(Errno::ROFS) => {}
        Err(errno) => return Err(("see writing refused", errno.into())),
        Ok(_) => {
            let error = io::Error::other("writing succeeded");
            return Err(("see writing refused", error));
        }
    }
    let attached = attach::if_needed(&mount, attach_dir).map_err(|error| ("attach it", error))?;
    let cloned = attach::clone(mount.as_fd());
    drop(attached);
    cloned.map(drop).map_err(|errno| ("clone it", errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_are_counted_and_each_entry() {
        if !rustix::process::geteuid().is_root() {
            let test = "whole_pages_are_counted_and_each_entry";
            crate::skip::skip(test, "root", "needs root");
            return;
        }
        let mount = create().unwrap();
        assert_eq!(taken_bytes(mount.as_fd()).unwrap(), 1024);
        let page = fstatvfs(&mount).unwrap().f_bsize;
        let length = usize::try_from(page).unwrap();
        for (name, length) in [("a", 0), ("b", 1), ("c", length), ("d", length + 1)] {
            write(mount.as_fd(), name, &vec![1; length]).unwrap();
        }
        let expected = (1 + 1 + 2) * page + 5 * 1024;
        assert_eq!(taken_bytes(mount.as_fd()).unwrap(), expected);
        seal(mount.as_fd()).unwrap();
        assert_eq!(taken_bytes(mount.as_fd()).unwrap(), expected);
    }
}
