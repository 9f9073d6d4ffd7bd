//! Project ids of files, and the quotas of projects: ioctl_xfs_fsgetxattr(2), quotactl(2).

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};

/// `struct fsxattr` (linux/fs.h).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    pad: [u8; 8],
}

const _: () = assert!(size_of::<Attributes>() == 28);

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`: `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, …)`.
const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;

/// `FS_XFLAG_PROJINHERIT`.
const INHERIT: u32 = 0x200;

/// The project of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// Its number; 0 is everybody's.
    pub(crate) id: u32,
    /// Of a directory: whether what is made in it gets the same.
    pub(crate) is_inherited: bool,
}

/// Reads the project of an open file or directory.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system has none.
pub(crate) fn project(file: impl AsFd) -> io::Result<Project> {
    let attributes = attributes(&file)?;
    Ok(Project {
        id: attributes.project,
        is_inherited: attributes.flags & INHERIT != 0,
    })
}

/// Changes it; the file's other attributes stay.
///
/// # Errors
/// The file system's; `EOPNOTSUPP` from ext4 that was made without projects.
pub(crate) fn set_project(file: impl AsFd, project: Project) -> io::Result<()> {
    let mut attributes = attributes(&file)?;
    attributes.project = project.id;
    attributes.flags &= !INHERIT;
    if project.is_inherited {
        attributes.flags |= INHERIT;
    }
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and the request reads one structure of this type, which outlives
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            descriptor,
            SET_ATTRIBUTES,
            &raw const attributes,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn attributes(file: &impl AsFd) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and the request writes one structure of this type, which outlives
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            descriptor,
            GET_ATTRIBUTES,
            &raw mut attributes,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(attributes),
    }
}

/// The limits of a project. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In units of 1 KiB, as the kernel counts.
    pub(crate) kibibytes: u64,
    /// Files, directories, links and whatever else has an inode.
    pub(crate) inodes: u64,
}

/// `PRJQUOTA` (linux/quota.h).
const OF_PROJECTS: u32 = 2;
/// `Q_GETQUOTA` and `Q_SETQUOTA`.
const GET: u32 = 0x80_0007;
const SET: u32 = 0x80_0008;
/// `Q_XGETQSTATV` (linux/dqblk_xfs.h), which every file system with quotas answers.
const STATE: u32 = 0x5808;

/// Sets the hard limits of a project on the file system of an open file.
///
/// # Errors
/// `ENOSYS` without quotas, `ESRCH` where none are on for projects, `EPERM` without CAP_SYS_ADMIN.
pub(crate) fn set_limits(file: impl AsFd, project: u32, limits: Limits) -> io::Result<()> {
    let mut block = empty();
    block.dqb_bhardlimit = limits.kibibytes;
    block.dqb_ihardlimit = limits.inodes;
    block.dqb_valid = libc::QIF_BLIMITS | libc::QIF_ILIMITS;
    // SAFETY: SET reads one `dqblk`, which outlives the call.
    unsafe { quotactl(&file, SET, project, &raw mut block) }
}

/// Reads them.
///
/// # Errors
/// As [`set_limits`].
pub(crate) fn limits(file: impl AsFd, project: u32) -> io::Result<Limits> {
    let mut block = empty();
    // SAFETY: GET writes one `dqblk`, which outlives the call.
    unsafe { quotactl(&file, GET, project, &raw mut block) }?;
    Ok(Limits {
        kibibytes: block.dqb_bhardlimit,
        inodes: block.dqb_ihardlimit,
    })
}

const fn empty() -> libc::dqblk {
    libc::dqblk {
        dqb_bhardlimit: 0,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: 0,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: 0,
    }
}

/// `struct fs_quota_statv` (linux/dqblk_xfs.h), of which one field is looked at.
#[repr(C)]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u32; 39],
}

const _: () = assert!(size_of::<State>() == 160 && offset_of!(State, flags) == 2);

/// `FS_QSTATV_VERSION1`.
const VERSION: i8 = 1;
/// `FS_QUOTA_PDQ_ENFD`.
const PROJECTS_ENFORCED: u16 = 1 << 5;

/// Whether the file system of an open file holds projects to their limits, and does not only count.
///
/// # Errors
/// `ENOSYS` where it has no quotas, or none is on.
pub(crate) fn is_enforced(file: impl AsFd) -> io::Result<bool> {
    let mut state = State {
        version: VERSION,
        pad: 0,
        flags: 0,
        rest: [0; 39],
    };
    // SAFETY: STATE reads the version and writes one `fs_quota_statv` of it, which outlives the call.
    unsafe { quotactl(&file, STATE, 0, &raw mut state) }?;
    Ok(state.flags & PROJECTS_ENFORCED != 0)
}

/// # Safety
/// `argument` leads to the structure of `command`, for reading and writing.
unsafe fn quotactl<T>(
    file: &impl AsFd,
    command: u32,
    project: u32,
    argument: *mut T,
) -> io::Result<()> {
    let descriptor = file.as_fd().as_raw_fd();
    let command = (command << 8) | OF_PROJECTS;
    // SAFETY: the descriptor is open, and the caller says what the argument is.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            descriptor,
            command,
            project,
            argument,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
