//! What keeps a store from being read or written and an operator can take away.

/// Such a thing, told from SQLite's result code (<https://sqlite.org/rescode.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    Full,
    Locked,
    ReadOnly,
    Denied,
    Broken,
}

/// `SQLITE_IOERR_SHMSIZE`.
const IOERR_SHMSIZE: u32 = 4874;

impl Obstacle {
    pub(crate) fn of(error: &sqlx::Error) -> Option<Self> {
        let code = error.as_database_error()?.code()?;
        let code: u32 = code.parse().ok()?;
        // The index of the log, beside the database, cannot be made as large as it has to be.
        if code == IOERR_SHMSIZE {
            return Some(Self::Full);
        }
        // An extended code has the primary one in its lowest byte.
        match code & 0xff {
            5 | 6 => Some(Self::Locked),
            8 => Some(Self::ReadOnly),
            13 => Some(Self::Full),
            14 => Some(Self::Denied),
            10 | 11 | 26 => Some(Self::Broken),
            _ => None,
        }
    }

    /// What it is.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Full => "the disk that holds the daemon's state is full",
            Self::Locked => "another process holds pinfold.db locked",
            Self::ReadOnly => "pinfold.db cannot be written",
            Self::Denied => "pinfold.db or a file beside it cannot be opened",
            Self::Broken => "pinfold.db cannot be read or written as it should be",
        }
    }

    /// What to do about it.
    pub(crate) const fn hint(self) -> &'static str {
        match self {
            Self::Full => "free space on it; nothing was changed, and what is recorded waits",
            Self::Locked => "end that process (fuser names it); nothing was changed",
            Self::ReadOnly => "make the state directory and the files in it the daemon's user's",
            Self::Denied => {
                "look at the state directory's owner and mode, and at the limit on open files"
            }
            Self::Broken => "look at the kernel's log and the disk; restore the file from a backup",
        }
    }
}
