//! What can go wrong with control groups as a whole.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A step on control groups that failed. What concerns one control only is no error but a
/// [`super::Reason`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A file of `/proc` or of a group cannot be read, or is longer than such a file can be.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file of a group cannot be written.
    #[error("write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file or directory of a group cannot be opened.
    #[error("open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The lock file cannot be made, or a fresh one is held by somebody else again and again.
    #[error("lock {}", .path.display())]
    Lock {
        /// The lock file, or its directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A name that cannot be a leaf's.
    #[error("{name:?} is no name for a group: 1 to 128 of letters, digits, `_` and `-`")]
    LeafName {
        /// The name.
        name: String,
    },
    /// A leaf of this name exists.
    #[error("group {} exists already", .path.display())]
    LeafExists {
        /// Its directory.
        path: PathBuf,
    },
    /// A group cannot be removed, for another reason than being busy.
    #[error("remove group {}", .path.display())]
    Remove {
        /// Its directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A task of a group cannot be killed.
    #[error("kill task {pid} of group {}", .path.display())]
    Kill {
        /// Its number.
        pid: i32,
        /// The group's directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}
