//! Write-xor-execute memory, for the probe; the jail's own use of it is the reaper's.

use std::io;

/// From now on no memory of this process can be both writable and executable (`PR_SET_MDWE`,
/// Linux 6.3), for good.
///
/// # Errors
/// `EINVAL` from kernels before that.
pub(crate) fn forbid_making_code() -> io::Result<()> {
    // SAFETY: integers alone; the kernel insists on the zeros in their whole width.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_MDWE,
            libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN),
            0_u64,
            0_u64,
            0_u64,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a page that is writable and executable, and gives it back.
///
/// # Errors
/// The kernel's: `EACCES` where that is forbidden.
pub(crate) fn make_code() -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a null address lets the kernel choose a place where nothing is.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE_BYTES, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page was just made, and nobody has its address.
    match unsafe { libc::munmap(page, PAGE_BYTES) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The smallest page there is.
const PAGE_BYTES: usize = 4096;
