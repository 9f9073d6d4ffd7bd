//! The size limit of a plugin's lasting directory: a project of its own, by the file system's quotas.
//!
//! Every file of the directory belongs to the project whose number is the plugin's user id, which no
//! other plugin of the machine has; what is made there later inherits it. The limit is set last: a
//! project that has one has all files of the directory in it. See ext4(5), xfs(5), quotactl(2).

mod walk;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

use crate::sys::quota::{self as sys, Project};

/// Most files and directories of one plugin's directory that are brought into its project; some ten
/// seconds of work.
const FILES_LIMIT: u64 = 1_000_000;

/// Deepest directory.
const DEPTH_LIMIT: usize = 64;

/// What a directory may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Bytes on the disk; the kernel counts in units of 1 KiB.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// Why a directory has no size limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The directory, or one in it.
    #[error("open {what}")]
    Open {
        /// Which.
        what: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The file system has no projects.
    #[error(
        "the file system of state-dir has no project ids (ext4: made with -O project,quota, or tune2fs -O project -Q prjquota; mounted with prjquota)"
    )]
    NoProjects {
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// It does not hold projects to limits.
    #[error("the file system of state-dir does not limit projects: mount it with prjquota")]
    NotEnforced {
        /// The kernel's reason, where it gave one.
        #[source]
        source: Option<io::Error>,
    },
    /// A step that the kernel refused.
    #[error("{step}")]
    Step {
        /// Which.
        step: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// What was set is not what is there.
    #[error("the file system has other limits than were set: {found}")]
    Differs {
        /// What it has.
        found: String,
    },
    /// Files from before the file system had quotas, that are not in the project yet.
    #[error("files of its directory are not counted yet: stage the plugin again")]
    NotCounted,
    /// More of them than are looked at.
    #[error(
        "its directory has more than {FILES_LIMIT} files, or is deeper than {DEPTH_LIMIT} directories"
    )]
    TooMany,
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> QuotaError {
    move |source| QuotaError::Step { step, source }
}

/// A directory as ioctls need it, from any descriptor of it.
fn readable(directory: impl AsFd) -> Result<OwnedFd, QuotaError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, ".", flags, Mode::empty()).map_err(|errno| QuotaError::Open {
        what: "the directory".to_owned(),
        source: errno.into(),
    })
}

/// Whether the file system of this directory holds projects to limits.
///
/// # Errors
/// [`QuotaError::NoProjects`], [`QuotaError::NotEnforced`].
pub fn is_possible(directory: impl AsFd) -> Result<(), QuotaError> {
    let directory = readable(directory)?;
    sys::project(&directory).map_err(|source| QuotaError::NoProjects { source })?;
    match sys::is_enforced(&directory) {
        Ok(true) => Ok(()),
        Ok(false) => Err(QuotaError::NotEnforced { source: None }),
        Err(error) => Err(QuotaError::NotEnforced {
            source: Some(error),
        }),
    }
}

/// Whether every file of a directory is in the project, so that [`limit`] can be called. One that is
/// empty is brought into it by this.
///
/// # Errors
/// [`QuotaError`].
pub fn is_counted(directory: impl AsFd, project: u32) -> Result<bool, QuotaError> {
    let directory = readable(directory)?;
    let wanted = Project {
        id: project,
        is_inherited: true,
    };
    let found = sys::project(&directory).map_err(|source| QuotaError::NoProjects { source })?;
    if found == wanted {
        match sys::limits(&directory, project) {
            Ok(limits) if limits.kibibytes != 0 => return Ok(true),
            Ok(_) => {}
            // What xfs says of a project that it knows nothing of.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(step("read the limits")(error)),
        }
    }
    if !walk::is_empty(&directory)? {
        return Ok(false);
    }
    sys::set_project(&directory, wanted).map_err(refused_project)?;
    Ok(true)
}

/// Brings every file and directory of a directory into the project, and then sets its limits. Takes as
/// long as that takes. Links are not followed, and file systems mounted within are left alone.
///
/// # Errors
/// [`QuotaError`].
pub fn count(directory: impl AsFd, project: u32, limits: QuotaLimits) -> Result<(), QuotaError> {
    let directory = readable(directory)?;
    walk::bring_in(&directory, project)?;
    set(&directory, project, limits)
}

/// Sets the limits of a directory whose files are counted, and sees that they are there.
///
/// # Errors
/// [`QuotaError::NotCounted`], where [`count`] has to come first; else [`QuotaError`].
pub fn limit(directory: impl AsFd, project: u32, limits: QuotaLimits) -> Result<(), QuotaError> {
    let directory = readable(directory)?;
    if !is_counted(&directory, project)? {
        return Err(QuotaError::NotCounted);
    }
    set(&directory, project, limits)
}

fn set(directory: &OwnedFd, project: u32, limits: QuotaLimits) -> Result<(), QuotaError> {
    let wanted = sys::Limits {
        // 0 would be no limit.
        kibibytes: (limits.bytes / 1024).max(1),
        inodes: limits.files.max(1),
    };
    sys::set_limits(directory, project, wanted).map_err(step("set the limits"))?;
    let found = sys::limits(directory, project).map_err(step("read the limits"))?;
    match found == wanted {
        true => Ok(()),
        false => Err(QuotaError::Differs {
            found: format!("{found:?}"),
        }),
    }
}

/// Takes a project's limits away.
///
/// # Errors
/// [`QuotaError::Step`].
pub fn lift(directory: impl AsFd, project: u32) -> Result<(), QuotaError> {
    let directory = readable(directory)?;
    let none = sys::Limits {
        kibibytes: 0,
        inodes: 0,
    };
    sys::set_limits(&directory, project, none).map_err(step("take the limits away"))
}

fn refused_project(source: io::Error) -> QuotaError {
    QuotaError::NoProjects { source }
}
