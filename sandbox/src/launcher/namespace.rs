//! The launcher's own namespaces: a mount table of its own, and, where it is no root, a user
//! namespace in which it is.

use std::fs;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A mount table of its own, from which nothing gets out and into which nothing comes.
pub(crate) fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    private()
}

/// A user namespace in which this user is root, with a mount table of its own. Groups cannot be
/// changed in it; of other users' ids nothing is to be seen.
pub(super) fn own_users() -> io::Result<()> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    map(0, uid, 0, gid)?;
    private()
}

/// Maps one user and one group of the outside into the user namespace that this process has just
/// made.
pub(super) fn map(uid: u32, outer_uid: u32, gid: u32, outer_gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {outer_uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {outer_gid} 1"))
}

fn private() -> io::Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    Ok(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?)
}
