//! Before Linux 6.15 a mount that is attached nowhere cannot be cloned. There each stage is attached
//! in the launcher's own mount namespace, beneath a directory of the launcher's alone; no other
//! process has that mount table.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

/// A place where a stage is attached. Dropping it detaches it.
#[derive(Debug)]
pub(super) struct Attached {
    place: PathBuf,
}

/// Makes the directory in which stages are attached, and clears what a launcher before left there:
/// its mounts have gone with its namespace, the empty directories have not.
pub(crate) fn prepare(directory: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    for entry in std::fs::read_dir(directory)? {
        std::fs::remove_dir(entry?.path())?;
    }
    Ok(())
}

/// Attaches a stage where this kernel could not clone it otherwise.
pub(super) fn if_needed(mount: &OwnedFd, directory: &Path) -> io::Result<Option<Attached>> {
    match clone(mount.as_fd()) {
        Ok(_) => Ok(None),
        Err(Errno::INVAL) => attach(mount, directory).map(Some),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn attach(mount: &OwnedFd, directory: &Path) -> io::Result<Attached> {
    // The descriptor's number is in use as long as the stage is.
    let name = format!("{}-{}", std::process::id(), mount.as_raw_fd());
    let place = directory.join(name);
    match std::fs::DirBuilder::new().mode(0o700).create(&place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    move_mount(
        mount,
        "",
        CWD,
        &place,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(Attached { place })
}

impl Drop for Attached {
    fn drop(&mut self) {
        // What cannot be cleared now goes with the namespace, and with the next start.
        let _detached = unmount(&self.place, UnmountFlags::DETACH);
        let _removed = std::fs::remove_dir(&self.place);
    }
}

/// What a jail does with a stage.
pub(super) fn clone(mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(mount, "", flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::memory;

    #[test]
    fn an_attached_stage_can_be_cloned_and_leaves_nothing_behind() {
        if !rustix::process::geteuid().is_root() {
            let test = "an_attached_stage_can_be_cloned_and_leaves_nothing_behind";
            crate::skip::skip(test, "root", "needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("attached");
        std::fs::create_dir_all(place.join("7")).unwrap();
        prepare(&place).unwrap();
        // A thread of its own has a mount namespace of its own.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                crate::launcher::own_mounts().unwrap();
                let mount = memory::create().unwrap();
                let attached = attach(&mount, &place).unwrap();
                memory::seal(mount.as_fd()).unwrap();
                let jails = clone(mount.as_fd()).unwrap();
                drop(attached);
                assert!(memory::open_root(&jails).is_ok());
                assert!(memory::open_root(&mount).is_ok());
            });
        });
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    }
}
