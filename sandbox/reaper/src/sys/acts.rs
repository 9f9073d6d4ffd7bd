//! What a trial does by calls for which rustix has no safe form, or asks for more than it does.

use rustix::io::Result;

use super::check;

/// 0 without a filter, 2 with one (prctl(2), `PR_GET_SECCOMP`).
pub(crate) fn filter_mode() -> Result<libc::c_long> {
    // SAFETY: integers alone.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0) })
}

/// Whether this capability is in the bounding set; past the kernel's last none is.
pub(crate) fn is_bounding(capability: u32) -> bool {
    // SAFETY: integers alone.
    let read =
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
    read == 1
}

/// Whether a descriptor of this number is open.
pub(crate) fn is_open(number: i32) -> bool {
    // SAFETY: asks about a number; nothing is assumed of it.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_GETFD) };
    flags != -1
}

/// Whether this process may be signalled; no signal is sent.
pub(crate) fn may_signal(pid: i32) -> Result<()> {
    // SAFETY: two integers.
    check(unsafe { libc::syscall(libc::SYS_kill, pid, 0) }).map(drop)
}

/// Maps a page that is writable and executable, and leaves it: the program ends soon.
pub(crate) fn map_code() -> Result<()> {
    let anywhere: *mut libc::c_void = core::ptr::null_mut();
    // SAFETY: a new anonymous mapping, where the kernel likes; nothing that exists is touched.
    check(unsafe {
        libc::syscall(
            libc::SYS_mmap,
            anywhere,
            4096_usize,
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0_usize,
        )
    })
    .map(drop)
}

/// Sets up an io_uring of one entry (io_uring_setup(2)).
pub(crate) fn io_uring() -> Result<()> {
    // `struct io_uring_params` has 120 bytes, which the kernel reads and writes.
    let mut parameters = [0_u64; 15];
    // SAFETY: `parameters` is of that size, aligned, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) }).map(drop)
}

/// A child that ends at once; nobody waits for it.
pub(crate) fn fork_and_end() -> Result<()> {
    let flags = libc::c_long::from(libc::SIGCHLD);
    let none: *mut libc::c_void = core::ptr::null_mut();
    // SAFETY: without CLONE_VM, and with no stack given, the child has a copy of everything and goes on
    // here; the process has one thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })?;
    if pid == 0 {
        super::exit(0);
    }
    Ok(())
}

/// Mounts a file system in memory at `/tmp`.
pub(crate) fn mount() -> Result<()> {
    let (kind, place) = (c"tmpfs".as_ptr(), c"/tmp".as_ptr());
    let none: *const libc::c_void = core::ptr::null();
    // SAFETY: terminated texts and a null pointer, which is no data.
    check(unsafe { libc::syscall(libc::SYS_mount, kind, place, kind, 0_usize, none) }).map(drop)
}

/// A quarter of a millisecond.
pub(crate) fn pause() {
    let quarter = libc::timespec {
        tv_sec: 0,
        tv_nsec: 250_000,
    };
    let none: *mut libc::timespec = core::ptr::null_mut();
    // SAFETY: `quarter` outlives the call; a null rest is not written. Woken early it waits again.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const quarter, none) };
}
