//! Interfaces of a network namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an interface's flags. The C libraries differ in the type of an ioctl's number.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    reason = "one C library has an unsigned long, another an int; the number has 16 bits"
)]
const SET_FLAGS: libc::Ioctl = libc::SIOCSIFFLAGS as libc::Ioctl;

/// Brings the interface `lo` up, through any IP socket of the network namespace.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN there.
pub(crate) fn loopback_up(socket: impl AsFd) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: UP },
    };
    // SAFETY: the socket is open, and SIOCSIFFLAGS reads one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SET_FLAGS, &raw const request) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// `IFF_UP` (linux/if.h), in the width of the structure's field.
const UP: libc::c_short = 1;

const _: () = assert!(libc::IFF_UP == 1, "UP is IFF_UP");
