//! Signals.

use core::mem::size_of;

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;

use super::{Result, check};

/// Number of signals of the kernel, real-time ones included.
const SIGNALS: i32 = 64;

/// Every signal to its default disposition, ignored ones too (they survive exec), and none
/// blocked. The C library's own calls leave out the signals that it keeps for itself.
pub(crate) fn clear_signals() -> Result<()> {
    // The kernel's `struct sigaction` has at most four words: all zero is the default, on every
    // architecture.
    let default = [0_u64; 4];
    let old: *mut u64 = core::ptr::null_mut();
    for signal in 1..=SIGNALS {
        // SAFETY: `default` is at least as large as the kernel's structure; a null old action is
        // not written.
        let set = check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                old,
                size_of::<u64>(),
            )
        });
        match set {
            Ok(_) => {}
            // SIGKILL and SIGSTOP, which have no other disposition.
            Err(Errno::INVAL) if signal == libc::SIGKILL || signal == libc::SIGSTOP => {}
            Err(errno) => return Err(errno),
        }
    }
    set_mask(0)
}

/// No signal blocked.
pub(crate) fn unblock_signals() -> Result<()> {
    set_mask(0)
}

/// Blocks SIGCHLD and opens a descriptor that is readable when one came.
pub(crate) fn child_signals() -> Result<OwnedFd> {
    let mask: u64 = 1 << (libc::SIGCHLD - 1);
    set_mask(mask)?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask is one word, as its size says, and outlives the call.
    let number = check(unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            -1,
            &raw const mask,
            size_of::<u64>(),
            flags,
        )
    })?;
    let number = i32::try_from(number).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn set_mask(mask: u64) -> Result<()> {
    let old: *mut u64 = core::ptr::null_mut();
    // SAFETY: the mask is one word, as its size says, and outlives the call; a null old mask is
    // not written.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            old,
            size_of::<u64>(),
        )
    })
    .map(drop)
}
