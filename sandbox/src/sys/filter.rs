//! Installing a syscall filter in this program, for the launcher itself and for the probe.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Installs a compiled filter for this process, for good. no_new_privs must be set.
///
/// # Errors
/// That of seccomp(2), and `EINVAL` for bytes that are no program.
pub(crate) fn install(program: &[u8]) -> io::Result<()> {
    install_with(program, 0).map(drop)
}

/// The same for a program that stops some calls: gives the descriptor on which they are told.
///
/// # Errors
/// Those of [`install`]; `EBUSY` where a filter around this process has a listener already.
pub(crate) fn install_with_listener(program: &[u8]) -> io::Result<OwnedFd> {
    let listener = install_with(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    let listener = i32::try_from(listener).map_err(io::Error::other)?;
    // SAFETY: with that flag the kernel answers a descriptor that it just opened for us, and nobody
    // else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn install_with(program: &[u8], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION_BYTES)
        .map(instruction)
        .collect();
    let length = libc::c_ushort::try_from(instructions.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let whole = libc::sock_fprog {
        len: length,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the pointer is to a program whose `len` instructions are in `instructions`, which
    // lives until after the call; the kernel copies and checks them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const whole,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Size of `struct sock_filter` (linux/filter.h).
const INSTRUCTION_BYTES: usize = 8;

const _: () = assert!(size_of::<libc::sock_filter>() == INSTRUCTION_BYTES);

/// One instruction from its bytes in the machine's own order.
fn instruction(bytes: &[u8]) -> libc::sock_filter {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    libc::sock_filter {
        code: u16::from_ne_bytes([byte(0), byte(1)]),
        jt: byte(2),
        jf: byte(3),
        k: u32::from_ne_bytes([byte(4), byte(5), byte(6), byte(7)]),
    }
}
