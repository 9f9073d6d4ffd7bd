//! What the launcher does to itself: its descriptors, its environment, its keyring.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// First descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// Takes over a descriptor that this process was started with, by its number: a close-on-exec copy
/// above the standard streams. The number itself is closed, or, where it is a standard stream,
/// replaced by `/dev/null`.
///
/// # Errors
/// `EBADF` where nothing is open under the number.
pub(crate) fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: asks about a number; nothing is assumed of it.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, and it was given to this process at its start for this one use,
    // so nothing else here owns it.
    let original = unsafe { OwnedFd::from_raw_fd(number) };
    let taken = fcntl_dupfd_cloexec(&original, FIRST)?;
    if number < FIRST {
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let mut original = std::mem::ManuallyDrop::new(original);
        rustix::io::dup2(&null, &mut original)?;
        fcntl_setfd(&*original, FdFlags::empty())?;
    }
    Ok(taken)
}

/// Closes every descriptor above the standard streams but those of `keep`, which is sorted.
///
/// To be called where nothing else is open that anybody will use or close: at the start of the
/// program, and in a child that ends without destructors.
///
/// # Errors
/// That of close_range(2).
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut first = FIRST;
    for kept in keep.iter().copied().filter(|kept| *kept >= FIRST) {
        if kept > first {
            close_range(first, kept - 1)?;
        }
        first = kept.saturating_add(1);
    }
    close_range(first, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: three integers; the caller says that nobody uses the descriptors between them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Empties the environment, of which the caller has taken what it wants.
pub(crate) fn clear_environment() {
    // SAFETY: the program has one thread and holds no pointer into its environment.
    unsafe { libc::clearenv() };
}

/// Joins a new anonymous session keyring, so that nothing of the caller's is in reach.
///
/// # Errors
/// That of keyctl(2); `ENOSYS` where the kernel has no keyrings.
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: an operation number and a null name, which asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            anonymous,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
