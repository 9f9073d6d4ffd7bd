//! Socket options that have no safe form.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `SO_PEERPIDFD` (asm-generic/socket.h), Linux 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// `SO_PASSRIGHTS` (asm-generic/socket.h), Linux 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;

/// A handle of the process at the other end of a connected Unix socket: the one that called
/// connect(2), or listen(2).
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.5; `ESRCH` where the process is gone.
pub(crate) fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut descriptor: libc::c_int = -1;
    let mut length = LENGTH;
    // SAFETY: the socket is open, and the two pointers are to an int and to its length, which is
    // as long as the option's value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened the descriptor for the caller of a successful getsockopt.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Refuses descriptors that the other side would pass over this socket: its sendmsg(2) is EPERM.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.16.
pub(crate) fn refuse_rights(socket: impl AsFd) -> io::Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the socket is open, and the pointer is to an int of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            LENGTH,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Length of an int option.
const LENGTH: libc::socklen_t = 4;

const _: () = assert!(size_of::<libc::c_int>() == 4, "an option's value is an int");
