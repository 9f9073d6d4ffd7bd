//! The three calls of landlock(7).

use core::mem::size_of;

use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

use super::{Result, check};

/// `struct landlock_ruleset_attr` (linux/landlock.h), as far as ABI 9 has it. Kernels that know less
/// of it are told so by the size.
#[repr(C)]
pub(crate) struct Handled {
    pub(crate) files: u64,
    pub(crate) network: u64,
    pub(crate) scopes: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    rights: u64,
    parent: i32,
}

const RULE_PATH_BENEATH: u32 = 1;

/// A ruleset that handles this. `size` is that of the structure as the kernel has it.
pub(crate) fn landlock_ruleset(handled: &Handled, size: u32) -> Result<OwnedFd> {
    let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
    if size > size_of::<Handled>() {
        return Err(Errno::TOOBIG);
    }
    // SAFETY: the structure has at least `size` bytes and outlives the call.
    let made = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            core::ptr::from_ref(handled),
            size,
            0,
        )
    })?;
    let made = i32::try_from(made).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel just opened it for us and nobody else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Grants rights beneath a place.
pub(crate) fn landlock_allow(ruleset: &OwnedFd, place: &OwnedFd, rights: u64) -> Result<()> {
    let beneath = Beneath {
        rights,
        parent: place.as_raw_fd(),
    };
    // SAFETY: a rule of this type is described by the structure, which outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const beneath,
            0,
        )
    })
    .map(drop)
}

/// Confines this thread, which is the only one, for good.
pub(crate) fn landlock_restrict(ruleset: &OwnedFd, flags: u32) -> Result<()> {
    // SAFETY: two integers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) })
        .map(drop)
}
