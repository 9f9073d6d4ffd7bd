//! Mount handles: mounts that are attached nowhere yet, with their final attributes. There is no
//! moment in which one of them has weaker ones.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::sys;

/// Neither setuid bits nor device nodes count.
pub(super) const PLAIN: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
/// Nothing in it can be executed either.
pub(super) const INERT: MountAttrFlags = PLAIN.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
/// Symbolic links in it are not followed either.
pub(super) const INERT_WITHOUT_LINKS: MountAttrFlags =
    INERT.union(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW);
/// Nothing in it can be changed.
pub(super) const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// Device nodes of a jail, with major and minor number.
pub(super) const DEVICES: [(&str, u32, u32); 5] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
];

/// A file system in memory.
pub(super) struct Memory {
    pub(super) size_bytes: u64,
    pub(super) inodes: u32,
    /// Permissions and owner of its root.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Memory {
    /// Makes it. The mount is attached later by whoever has a copy of the descriptor; the
    /// descriptor reaches into it before and after that.
    pub(super) fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in [
            ("size", self.size_bytes.to_string()),
            ("nr_inodes", self.inodes.to_string()),
            ("mode", format!("{:o}", self.mode)),
            ("uid", self.uid.to_string()),
            ("gid", self.gid.to_string()),
        ] {
            rustix::mount::fsconfig_set_string(&context, key, value)?;
        }
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }
}

/// A second mount of the same tree, without what is mounted below it.
///
/// Where `source` is itself attached nowhere this needs Linux 6.15 and is `EINVAL` before.
pub(super) fn clone_of(
    source: BorrowedFd<'_>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = rustix::mount::open_tree(source, "", flags)?;
    sys::mount::set_attributes(mount.as_fd(), attributes)?;
    Ok(mount)
}

/// A device node of the host, checked to be that device.
pub(super) fn device(name: &str, major: u32, minor: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty())?;
    let found = rustix::fs::fstat(&node)?;
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(major, minor);
    if !is_device {
        return Err(Errno::NODEV);
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    clone_of(node.as_fd(), attributes)
}
