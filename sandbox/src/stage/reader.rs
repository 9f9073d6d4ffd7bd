//! With whose rights plugins' directories are read: the daemon's, so that nobody can make the
//! launcher read what the daemon could not.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid, User, getgrouplist, setfsgid, setfsuid, setgroups};

/// The rights.
#[derive(Clone, Debug)]
pub struct Reader {
    /// None where the launcher is the same user already.
    switch: Option<Switch>,
    uid: u32,
}

#[derive(Clone, Debug)]
struct Switch {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Why the daemon's user cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReaderError {
    /// No such user.
    #[error("daemon-user {user:?} is no user of this machine")]
    Unknown {
        /// The name.
        user: String,
    },
    /// A launcher that is no root can only be the daemon's own.
    #[error("daemon-user {user:?} is uid {uid}, and the launcher runs as uid {own}, not as root")]
    Other {
        /// The name.
        user: String,
        /// Its id.
        uid: u32,
        /// The launcher's.
        own: u32,
    },
    /// The look-up failed.
    #[error("look up daemon-user {user:?}")]
    LookUp {
        /// The name.
        user: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl Reader {
    /// Looks up a user with primary and supplementary groups.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn of(user: &str) -> Result<Self, ReaderError> {
        let failed = |source: io::Error| ReaderError::LookUp {
            user: user.to_owned(),
            source,
        };
        let unknown = || ReaderError::Unknown {
            user: user.to_owned(),
        };
        let found = User::from_name(user).map_err(|errno| failed(errno.into()))?;
        let own = Uid::effective();
        if !own.is_root() {
            // A user that has no name here, as in many containers, is written as its id.
            let uid = found.map_or_else(|| user.parse().ok(), |found| Some(found.uid.as_raw()));
            let (uid, own) = (uid.ok_or_else(unknown)?, own.as_raw());
            if uid != own {
                let user = user.to_owned();
                return Err(ReaderError::Other { user, uid, own });
            }
            return Ok(Self { switch: None, uid });
        }
        let found = found.ok_or_else(unknown)?;
        let uid = found.uid.as_raw();
        let name = CString::new(user).map_err(|_| unknown())?;
        let groups = getgrouplist(&name, found.gid).map_err(|errno| failed(errno.into()))?;
        let switch = (uid != 0).then_some(Switch {
            uid: found.uid,
            gid: found.gid,
            groups,
        });
        Ok(Self { switch, uid })
    }

    /// The daemon's user id, as seen outside any user namespace.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Takes the user's groups, for good: for the copying child alone.
    pub(super) fn take_groups(&self) -> io::Result<()> {
        match &self.switch {
            Some(switch) => Ok(setgroups(&switch.groups)?),
            None => Ok(()),
        }
    }

    /// Runs `open` with the user's rights on files, and none of the launcher's.
    pub(super) fn with_rights<T>(&self, open: impl FnOnce() -> T) -> io::Result<T> {
        let Some(switch) = &self.switch else {
            return Ok(open());
        };
        let (root_uid, root_gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setfsgid(switch.gid);
        // With this the kernel takes away the capabilities that override file permissions.
        setfsuid(switch.uid);
        // These calls report no failure; they return the value before.
        let is_switched = setfsuid(switch.uid) == switch.uid && setfsgid(switch.gid) == switch.gid;
        let opened = is_switched.then(open);
        setfsuid(root_uid);
        setfsgid(root_gid);
        // A change of ids has taken this away.
        crate::sys::child::die_with_parent()?;
        opened.ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))
    }
}
