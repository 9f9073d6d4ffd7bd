//! Core scheduling (prctl(2), `PR_SCHED_CORE`): the cookie that tells which processes may be on the
//! threads of one processor core at the same time.

use std::io;

/// Gives this thread a cookie that nobody else has; what it starts inherits it.
///
/// # Errors
/// `EINVAL` from a kernel without core scheduling, `ENODEV` where each core has one thread.
pub(crate) fn own_core() -> io::Result<()> {
    control(libc::PR_SCHED_CORE_CREATE, 0, std::ptr::null_mut())
}

/// The cookie of a process; 0 is none. A `pid` of 0 is this thread.
///
/// # Errors
/// Those of [`own_core`], `ESRCH`, and `EPERM` where it may not be looked at.
pub(crate) fn core_cookie(pid: i32) -> io::Result<u64> {
    let mut cookie = 0;
    control(libc::PR_SCHED_CORE_GET, pid, &raw mut cookie)?;
    Ok(cookie)
}

/// `answer` is null, or leads to what outlives the call.
fn control(what: libc::c_int, pid: i32, answer: *mut u64) -> io::Result<()> {
    // SAFETY: integers, and for the one operation that writes a place that is aligned for the eight
    // bytes it writes and outlives the call.
    let done = unsafe {
        libc::prctl(
            libc::PR_SCHED_CORE,
            libc::c_long::from(what),
            libc::c_long::from(pid),
            libc::c_long::from(libc::PR_SCHED_CORE_SCOPE_THREAD),
            answer,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
