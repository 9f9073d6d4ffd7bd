//! What of the host a plugin is shown: directories and files that the policy names.

use std::os::fd::{AsFd, OwnedFd};

use pinfold_reaper::step::Step;
use rustix::mount::MountAttrFlags;

use super::error::{During, JailError};
use super::mounts::{INERT_WITHOUT_LINKS, READ_ONLY, clone_of};

/// A directory or file of the host, opened and checked, and where it is in the jail.
#[derive(Debug)]
pub struct HostMount {
    /// Absolute path in the host: for errors alone.
    pub source: String,
    /// Absolute path in the jail. No path of the same jail is it, lies in it or around it.
    pub target: String,
    /// A descriptor of it in the launcher's mount namespace.
    pub opened: OwnedFd,
    /// Whether it is a directory, and not a file.
    pub is_directory: bool,
    /// Whether the plugin may write there.
    pub is_writable: bool,
}

impl HostMount {
    /// A mount of it that is attached nowhere. What is mounted beneath it is not in it.
    pub(super) fn handle(&self) -> Result<OwnedFd, JailError> {
        let read_only = match self.is_writable {
            true => MountAttrFlags::empty(),
            false => READ_ONLY,
        };
        clone_of(self.opened.as_fd(), INERT_WITHOUT_LINKS | read_only)
            .during(Step::P6, format!("clone {}", self.source))
    }
}
