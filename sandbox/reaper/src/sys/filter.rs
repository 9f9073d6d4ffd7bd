//! System call filters: the plugin's from the plan, the reaper's own from here.

use libc::sock_filter;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;

use super::{Result, check};
use crate::own_filter::{OWN_CALLS, own_filter};

/// Bytes of one instruction: code (`u16`), two jumps (`u8`), operand (`u32`).
const INSTRUCTION_BYTES: usize = 8;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (linux/seccomp.h), since Linux 5.19.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// Installs the program that the plan holds. Bytes are in the host's order; no-new-privileges is
/// already set.
pub(crate) fn install_filter(program: &[u8]) -> Result<()> {
    install(program.as_ptr().cast(), program.len() / INSTRUCTION_BYTES)
}

/// The same for a program that stops some calls: gives the descriptor on which they are told
/// (seccomp_unotify(2)), which closes at exec.
pub(crate) fn install_filter_with_listener(program: &[u8]) -> Result<OwnedFd> {
    let instructions = program.len() / INSTRUCTION_BYTES;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let install = |flags| install_with(program.as_ptr().cast(), instructions, flags);
    // A call that has been heard of is not taken back by a signal to its thread.
    let listener = match install(flags | WAIT_KILLABLE_RECV) {
        Err(Errno::INVAL) => install(flags)?,
        installed => installed?,
    };
    let listener = i32::try_from(listener).map_err(|_| Errno::RANGE)?;
    // SAFETY: with that flag the kernel answers a descriptor that it just opened for us, and nobody
    // else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// Confines the reaper to what it still does; anything else kills it, and with it the jail.
pub(crate) fn install_own_filter() -> Result<()> {
    let mut numbers = [0; OWN_CALLS.len()];
    for (number, (_, call)) in numbers.iter_mut().zip(OWN_CALLS) {
        *number = u32::try_from(call).map_err(|_| Errno::RANGE)?;
    }
    let program = own_filter(ARCHITECTURE, numbers);
    install(program.as_ptr(), program.len())
}

fn install(program: *const sock_filter, instructions: usize) -> Result<()> {
    install_with(program, instructions, 0).map(drop)
}

fn install_with(
    program: *const sock_filter,
    instructions: usize,
    flags: libc::c_ulong,
) -> Result<libc::c_long> {
    let program = libc::sock_fprog {
        len: u16::try_from(instructions).map_err(|_| Errno::TOOBIG)?,
        filter: program.cast_mut(),
    };
    // SAFETY: the structure names readable instructions, as many as it says; all callers keep
    // them alive over the call, and the kernel copies them bytewise, so alignment does not matter.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })
}
