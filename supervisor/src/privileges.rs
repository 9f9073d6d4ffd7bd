//! Giving up root for good, before the first thread.

use std::ffi::CString;

use nix::unistd::{self, ResGid, ResUid, User};

/// Why root cannot be given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DropError {
    /// The user does not exist.
    #[error("there is no user {name:?} (daemon-user of launcher.toml)")]
    NoUser {
        /// Its name.
        name: String,
    },
    /// The user is root.
    #[error("daemon-user is root: name an unprivileged user")]
    Root,
    /// A system call failed.
    #[error("{step}")]
    System {
        /// What was attempted.
        step: &'static str,
        /// Its errno.
        #[source]
        source: nix::Error,
    },
    /// Root could be had back.
    #[error("root is still to be had after it was given up")]
    NotGone,
}

fn failed(step: &'static str) -> impl FnOnce(nix::Error) -> DropError {
    move |source| DropError::System { step, source }
}

/// Becomes `name` with its groups, and can never be anybody else again. The process must have one
/// thread.
///
/// # Errors
/// [`DropError`]; the process must then end.
pub(crate) fn become_user(name: &str) -> Result<(), DropError> {
    let user = User::from_name(name).map_err(failed("look up the daemon's user"))?;
    let user = user.ok_or_else(|| DropError::NoUser { name: name.into() })?;
    if user.uid.is_root() {
        return Err(DropError::Root);
    }
    let c_name = CString::new(name).map_err(|_| DropError::NoUser { name: name.into() })?;
    unistd::initgroups(&c_name, user.gid).map_err(failed("take the daemon's groups"))?;
    unistd::setresgid(user.gid, user.gid, user.gid).map_err(failed("take the daemon's group"))?;
    unistd::setresuid(user.uid, user.uid, user.uid).map_err(failed("take the daemon's user"))?;
    nix::sys::prctl::set_no_new_privs().map_err(failed("forbid new privileges"))?;
    let uids = unistd::getresuid().map_err(failed("read back the user"))?;
    let gids = unistd::getresgid().map_err(failed("read back the group"))?;
    let (uid, gid) = (user.uid, user.gid);
    let taken =
        uids == ResUid {
            real: uid,
            effective: uid,
            saved: uid,
        } && gids
            == ResGid {
                real: gid,
                effective: gid,
                saved: gid,
            };
    if !taken || unistd::setuid(unistd::ROOT).is_ok() {
        return Err(DropError::NotGone);
    }
    Ok(())
}
