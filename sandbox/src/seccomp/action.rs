//! What a filter answers to a system call.

use std::fmt;

/// The answer to a system call. Text forms, as a profile writes them: `allow`, `kill`, and the
/// lower-case names of [`Errno`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The call is made.
    Allow,
    /// The call is not made and fails with this error.
    Errno(Errno),
    /// The call is not made and the whole process is killed by SIGSYS; in a program of
    /// [`super::Program::notifying`] it stops instead and is told.
    Kill,
}

/// The errors that a profile may answer with. Their numbers are the same on every architecture
/// that profiles are compiled for (asm-generic/errno.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Errno {
    /// "The kernel is too old for this call": what a newer libc may probe and has a way around.
    Enosys,
    /// Not permitted: what exists everywhere and a program may try and survive.
    Eperm,
    /// Permission denied.
    Eacces,
    /// Invalid argument.
    Einval,
    /// Not a terminal, or no such ioctl there.
    Enotty,
    /// No such address family.
    Eafnosupport,
    /// No such socket type or protocol.
    Eprotonosupport,
}

/// `SECCOMP_RET_KILL_PROCESS` (linux/seccomp.h).
const RET_KILL_PROCESS: u32 = 0x8000_0000;
/// `SECCOMP_RET_USER_NOTIF`.
pub(super) const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// `SECCOMP_RET_ERRNO`; the low 16 bits are the errno.
const RET_ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_RET_ALLOW`.
const RET_ALLOW: u32 = 0x7fff_0000;

impl Action {
    /// Every action, in the order in which documentation lists them.
    pub const ALL: [Self; 9] = [
        Self::Allow,
        Self::Errno(Errno::Enosys),
        Self::Errno(Errno::Eperm),
        Self::Errno(Errno::Eacces),
        Self::Errno(Errno::Einval),
        Self::Errno(Errno::Enotty),
        Self::Errno(Errno::Eafnosupport),
        Self::Errno(Errno::Eprotonosupport),
        Self::Kill,
    ];

    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Errno(errno) => errno.as_str(),
            Self::Kill => "kill",
        }
    }

    /// The action with this text form.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }

    /// The 32 bits that the filter returns for it: seccomp(2).
    #[must_use]
    pub const fn return_value(self) -> u32 {
        match self {
            Self::Allow => RET_ALLOW,
            Self::Errno(errno) => RET_ERRNO | errno.number(),
            Self::Kill => RET_KILL_PROCESS,
        }
    }

    /// The action behind a filter's return value, if it is one that our programs return.
    #[must_use]
    pub fn from_return_value(value: u32) -> Option<Self> {
        if value == RET_USER_NOTIF {
            return Some(Self::Kill);
        }
        Self::ALL
            .into_iter()
            .find(|action| action.return_value() == value)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Errno {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enosys => "enosys",
            Self::Eperm => "eperm",
            Self::Eacces => "eacces",
            Self::Einval => "einval",
            Self::Enotty => "enotty",
            Self::Eafnosupport => "eafnosupport",
            Self::Eprotonosupport => "eprotonosupport",
        }
    }

    /// The error's number, as errno(3) has it.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Eperm => 1,
            Self::Eacces => 13,
            Self::Einval => 22,
            Self::Enotty => 25,
            Self::Enosys => 38,
            Self::Eprotonosupport => 93,
            Self::Eafnosupport => 97,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_values_are_the_kernels() {
        assert_eq!(Action::Allow.return_value(), libc::SECCOMP_RET_ALLOW);
        assert_eq!(Action::Kill.return_value(), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(RET_USER_NOTIF, libc::SECCOMP_RET_USER_NOTIF);
        for (errno, number) in [
            (Errno::Enosys, libc::ENOSYS),
            (Errno::Eperm, libc::EPERM),
            (Errno::Eacces, libc::EACCES),
            (Errno::Einval, libc::EINVAL),
            (Errno::Enotty, libc::ENOTTY),
            (Errno::Eafnosupport, libc::EAFNOSUPPORT),
            (Errno::Eprotonosupport, libc::EPROTONOSUPPORT),
        ] {
            let number = u32::try_from(number).unwrap();
            assert_eq!(
                Action::Errno(errno).return_value(),
                libc::SECCOMP_RET_ERRNO | number
            );
        }
    }

    #[test]
    fn text_and_return_value_name_the_same_action() {
        for action in Action::ALL {
            assert_eq!(Action::from_text(action.as_str()), Some(action));
            assert_eq!(
                Action::from_return_value(action.return_value()),
                Some(action)
            );
        }
        assert_eq!(Action::from_text("log"), None);
        assert_eq!(Action::from_return_value(libc::SECCOMP_RET_LOG), None);
    }
}
