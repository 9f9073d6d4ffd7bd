//! A file system in memory that is mounted nowhere, and its sealing.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::{ENTRIES_LIMIT, PACKAGE_LIMIT_BYTES, attach};

/// The kernel counts pages: each file may waste one.
const PAGE_BYTES: u64 = 4096;

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
