//! The kernel calls for which rustix has no safe form. All `unsafe` of the reaper is here.

use core::ffi::{CStr, c_char};
use core::mem::size_of;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

use crate::message::Ended;

pub(crate) mod acts;
mod filter;
mod landlock;
mod signals;

pub(crate) use filter::{install_filter, install_filter_with_listener, install_own_filter};
pub(crate) use landlock::{Handled, landlock_allow, landlock_restrict, landlock_ruleset};
pub(crate) use signals::{child_signals, clear_signals, unblock_signals};

type Result<T> = core::result::Result<T, Errno>;

/// A descriptor that the launcher put at a fixed number.
pub(crate) fn fixed(number: i32) -> BorrowedFd<'static> {
    // SAFETY: numbers from `plan::descriptor` are open from the first instruction on, and only
    // `reap` replaces or closes some of them, when nothing borrows them any more.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Maps the whole of a memory file for reading, for the life of the process.
pub(crate) fn map(file: BorrowedFd<'_>) -> Result<&'static [u8]> {
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).map_err(|_| Errno::FBIG)?;
    let (protection, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::PRIVATE);
    // SAFETY: a null address lets the kernel choose a place where nothing is.
    let start =
        unsafe { rustix::mm::mmap(core::ptr::null_mut(), size, protection, flags, file, 0) }?;
    // SAFETY: the mapping holds `size` readable bytes, is never unmapped, and the file behind it
    // is sealed against change.
    Ok(unsafe { core::slice::from_raw_parts(start.cast::<u8>(), size) })
}

/// Closes, or with `CLOSE_RANGE_CLOEXEC` marks, all descriptors from `first` on.
pub(crate) fn close_from(first: i32, flags: u32) -> Result<()> {
    // SAFETY: three integers; the callers name numbers behind every descriptor that is still used.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

/// Closes one descriptor that has a fixed number.
pub(crate) fn close_fixed(number: i32) {
    // SAFETY: the caller gives up a number that nothing uses any more.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
}

/// Copies `from` over the descriptor with this number, closed at exec or not.
pub(crate) fn place(from: BorrowedFd<'_>, number: i32, flags: i32) -> Result<()> {
    // SAFETY: three integers; the number is one of `plan::descriptor` or of the standard streams.
    check(unsafe { libc::syscall(libc::SYS_dup3, from.as_raw_fd(), number, flags) }).map(drop)
}

/// Back to the ordinary execution domain.
pub(crate) fn clear_personality() -> Result<()> {
    // SAFETY: one integer.
    check(unsafe { libc::syscall(libc::SYS_personality, 0) }).map(drop)
}

/// Makes a mount read-only.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a terminated string and `attributes` a whole structure of the size that
    // is given; both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Leaves for a new namespace of this kind.
pub(crate) fn unshare(kind: rustix::thread::UnshareFlags) -> Result<()> {
    // SAFETY: only `CLONE_FILES` has a condition, and no caller passes it.
    unsafe { rustix::thread::unshare_unsafe(kind) }
}

/// Brings the interface `lo` up, through any socket of the network namespace.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(c"lo".to_bytes()) {
        *to = c_char::from_ne_bytes([*from]);
    }
    let up = i16::try_from(libc::IFF_UP).map_err(|_| Errno::RANGE)?;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: up },
    };
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &raw const request,
        )
    })
    .map(drop)
}

/// Joins a new session keyring without a name.
pub(crate) fn join_session_keyring() -> Result<()> {
    let name: *const c_char = core::ptr::null();
    // SAFETY: for this operation a null name means a new keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) })
        .map(drop)
}

/// Sets hard and soft limit, but never above the present hard one.
pub(crate) fn set_limit(resource: u32, value: u64) -> Result<()> {
    let mut now = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let none: *const libc::rlimit64 = core::ptr::null();
    // SAFETY: a null new limit only reads into `now`, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut now) })?;
    let value = value.min(now.rlim_max);
    let new = libc::rlimit64 {
        rlim_cur: value,
        rlim_max: value,
    };
    let none: *mut libc::rlimit64 = core::ptr::null_mut();
    // SAFETY: `new` outlives the call, and a null old limit is not written.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const new, none) })
        .map(drop)
}

/// The nice value of an ordinary process where this one's is less, and no I/O class: what is more
/// than that is not handed on. To ask for more than it has would need a right that it may lack.
pub(crate) fn clear_priority() -> Result<()> {
    // SAFETY: two integers; the call itself answers 20 less the nice value, so never below 1.
    let returned = check(unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) })?;
    if returned > 20 {
        // SAFETY: three integers.
        check(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 0) })?;
    }
    // SAFETY: three integers: this process, no class, so that of the nice value.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) }).map(drop)
}

/// Of linux/ioprio.h.
const IOPRIO_WHO_PROCESS: u32 = 1;

/// From now on no memory can be both writable and executable, or become executable after it was
/// made without that right; for good and for what is executed.
pub(crate) fn forbid_making_code() -> Result<()> {
    // SAFETY: integers alone.
    check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_MDWE,
            u64::from(libc::PR_MDWE_REFUSE_EXEC_GAIN),
            // The kernel insists on these, in their whole width.
            0_u64,
            0_u64,
            0_u64,
        )
    })
    .map(drop)
}

/// Makes a core scheduling cookie of its own (prctl(2), `PR_SCHED_CORE`), which what it forks inherits.
pub(crate) fn own_core() -> Result<()> {
    // SAFETY: integers alone: this thread, which is the only one, and no place for an answer.
    check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SCHED_CORE,
            u64::from(libc::PR_SCHED_CORE_CREATE.unsigned_abs()),
            0_u64,
            u64::from(libc::PR_SCHED_CORE_SCOPE_THREAD.unsigned_abs()),
            0_u64,
        )
    })
    .map(drop)
}

/// Whole seconds of a clock of clock_gettime(2).
pub(crate) fn seconds_of(clock: libc::clockid_t) -> Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` outlives the call.
    check(unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut now) })?;
    u64::try_from(now.tv_sec).map_err(|_| Errno::RANGE)
}

/// Drops one capability from the bounding set; EINVAL past the kernel's last.
pub(crate) fn drop_bounding(capability: u32) -> Result<()> {
    // SAFETY: integers alone.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })
        .map(drop)
}

/// Real, effective and saved user id, then the same of the group.
pub(crate) fn ids() -> Result<[u32; 6]> {
    let mut ids = [u32::MAX; 6];
    let [ruid, euid, suid, rgid, egid, sgid] = &mut ids;
    let (ruid, euid, suid): (*mut u32, *mut u32, *mut u32) = (ruid, euid, suid);
    // SAFETY: three distinct integers that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_getresuid, ruid, euid, suid) })?;
    let (rgid, egid, sgid): (*mut u32, *mut u32, *mut u32) = (rgid, egid, sgid);
    // SAFETY: three distinct integers that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_getresgid, rgid, egid, sgid) })?;
    Ok(ids)
}

/// Which side of a fork this is.
pub(crate) enum Side {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Forks.
pub(crate) fn fork() -> Result<Side> {
    let mut pidfd: i32 = -1;
    let arguments = libc::clone_args {
        flags: u64::try_from(libc::CLONE_PIDFD).map_err(|_| Errno::RANGE)?,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::try_from(libc::SIGCHLD).map_err(|_| Errno::RANGE)?,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without CLONE_VM the child has a copy of everything; the process has one thread, so
    // no lock is held by another. The kernel writes `pidfd`, which outlives the call.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    let pid = i32::try_from(pid).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel just opened it for us and nobody else knows the number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Side::Parent { pid, pidfd })
}

/// A process that ended, if there is one.
pub(crate) fn reap_one() -> Result<Option<(i32, Ended)>> {
    // SAFETY: all zero bytes are a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let usage: *mut libc::rusage = core::ptr::null_mut();
    // SAFETY: `info` outlives the call; a null usage is not written.
    let waited = check(unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_ALL,
            0,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG,
            usage,
        )
    });
    match waited {
        Err(Errno::CHILD) => return Ok(None),
        other => other?,
    };
    // SAFETY: after waitid the structure holds either zeros or a child's state.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Code(status),
        _ => Ended::Signal(status),
    };
    Ok((pid != 0).then_some((pid, ended)))
}

/// Waits until one of `descriptors` is readable or at its end. The answer says which; with
/// `at_once` it does not wait.
pub(crate) fn wait_readable<const N: usize>(
    descriptors: [i32; N],
    at_once: bool,
) -> Result<[bool; N]> {
    let mut polled = descriptors.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let zero = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let limit = if at_once {
        &raw const zero
    } else {
        core::ptr::null()
    };
    let mask: *const libc::sigset_t = core::ptr::null();
    // SAFETY: `polled` has N elements and, like `zero`, outlives the call; a null mask changes
    // nothing. The kernel writes the remaining time only into a time-out that is not null, and
    // `zero` is not read again.
    let waited = check(unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            polled.as_mut_ptr(),
            N,
            limit,
            mask,
            size_of::<u64>(),
        )
    });
    match waited {
        Err(Errno::INTR) => Ok([false; N]),
        other => other.map(|_| polled.map(|entry| entry.revents != 0)),
    }
}

/// Executes a program. Returns only when that failed. Both lists end with a null pointer.
pub(crate) fn execute(
    path: &CStr,
    arguments: &[*const c_char],
    variables: &[*const c_char],
) -> Errno {
    // SAFETY: the path is terminated; both lists end with a null pointer and hold pointers into
    // the plan, which is mapped for the life of the process.
    let done = check(unsafe {
        libc::syscall(
            libc::SYS_execve,
            path.as_ptr(),
            arguments.as_ptr(),
            variables.as_ptr(),
        )
    });
    done.err().unwrap_or(Errno::INVAL)
}

/// Ends the process.
pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: one integer.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

fn check(returned: libc::c_long) -> Result<libc::c_long> {
    if returned != -1 {
        return Ok(returned);
    }
    // SAFETY: no condition.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's own errno, which is always there.
    Err(Errno::from_raw_os_error(unsafe { *place }))
}

/// Ends the process by SIGILL, without a system call that a filter could refuse.
pub fn abort() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction has no operand and control does not come back.
    unsafe {
        core::arch::asm!("ud2", options(noreturn, nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction has no operand and control does not come back.
    unsafe {
        core::arch::asm!("udf #0", options(noreturn, nostack));
    }
}
