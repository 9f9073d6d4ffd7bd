//! landlock(7), for the probe; the jail's own use of it is the reaper's.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct landlock_ruleset_attr` (linux/landlock.h), as far as ABI 9 has it.
#[repr(C)]
struct Handled {
    files: u64,
    network: u64,
    scopes: u64,
}

const CREATE_RULESET_VERSION: u32 = 1;

/// Which version of the interface the kernel has, 1 or more.
///
/// # Errors
/// `ENOSYS` and `EOPNOTSUPP` where it has none, or where it is switched off.
pub(crate) fn abi() -> io::Result<u32> {
    let none: *const Handled = std::ptr::null();
    // SAFETY: with this flag a null pointer of length zero is what the call wants.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            none,
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// Confines this thread, for good, to nothing of what is handled. no_new_privs must be set.
///
/// # Errors
/// The kernel's; `EINVAL` for a bit that it does not know.
pub(crate) fn forbid(files: u64, network: u64, scopes: u64, size: usize) -> io::Result<()> {
    let handled = Handled {
        files,
        network,
        scopes,
    };
    let size = size.min(size_of::<Handled>());
    // SAFETY: the structure has at least `size` bytes and outlives the call.
    let made = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size,
            0_u32,
        )
    };
    if made == -1 {
        return Err(io::Error::last_os_error());
    }
    let made = i32::try_from(made).map_err(io::Error::other)?;
    // SAFETY: the kernel just opened it for us and nobody else knows the number.
    let ruleset = unsafe { OwnedFd::from_raw_fd(made) };
    // SAFETY: two integers.
    let restricted =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    match restricted {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
