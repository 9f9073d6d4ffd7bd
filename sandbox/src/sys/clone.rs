//! Starting the reaper: `clone3` in the manner of vfork, then `execveat`.
//!
//! The child shares the launcher's memory until it executes, so nothing is copied and the
//! launcher's size does not matter; the launcher's thread stands still meanwhile. The child runs on
//! a stack of its own and makes system calls only.

use std::ffi::{CStr, c_char, c_int, c_long};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;

/// What is started, and where.
pub(crate) struct Start<'a> {
    /// The program, a descriptor of a regular or memory file.
    pub(crate) program: BorrowedFd<'a>,
    /// Its name, as its first argument.
    pub(crate) name: &'a CStr,
    /// `CLONE_NEW*` flags.
    pub(crate) namespaces: c_int,
    /// The v2 control group in which it is born.
    pub(crate) group: Option<BorrowedFd<'a>>,
    /// What it finds at descriptors 0, 1, 2 and so on. It has no others.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
}

/// A started process.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Which call failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartError {
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

/// Enough for the few calls of the child, with room for a debug build's frames.
const STACK_BYTES: usize = 64 * 1024;

/// What the child works on: in the launcher's memory, prepared before the clone.
#[repr(C)]
struct Orders {
    program: RawFd,
    arguments: [*const c_char; 2],
    variables: [*const c_char; 1],
    /// Descriptors to place, replaced by their copies above the targets' numbers.
    descriptors: *mut RawFd,
    count: c_int,
    /// Index into [`CALLS`] and errno of what failed; both zero until then.
    failed_call: c_int,
    errno: c_int,
}

const CALLS: [&CStr; 4] = [
    c"",
    c"copy a descriptor",
    c"place a descriptor",
    c"execveat",
];

/// Starts a process and returns once it executes its program or has failed to.
pub(crate) fn start(start: &Start<'_>) -> Result<Started, StartError> {
    let mut descriptors: Vec<RawFd> = start.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut orders = Orders {
        program: start.program.as_raw_fd(),
        arguments: [start.name.as_ptr(), ptr::null()],
        variables: [ptr::null()],
        descriptors: descriptors.as_mut_ptr(),
        count: c_int::try_from(descriptors.len()).map_err(|_| StartError {
            call: "count descriptors",
            errno: Errno::TOOBIG,
        })?,
        failed_call: 0,
        errno: 0,
    };
    // Words of 16 bytes: the stack's top must be aligned so.
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: RawFd = -1;
    let group = start.group.map(|group| group.as_raw_fd());
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | start.namespaces;
    let mut wide = u64::from(flags.cast_unsigned()) | CLEAR_SIGNAL_HANDLERS;
    if group.is_some() {
        wide |= INTO_CGROUP;
    }
    let arguments = libc::clone_args {
        flags: wide,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        stack: stack.as_mut_ptr().expose_provenance() as u64,
        stack_size: STACK_BYTES as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: group.map_or(0, |group| u64::from(group.cast_unsigned())),
    };
    // SAFETY: `arguments` is whole, its stack is ours, aligned and unused, `pidfd` can be written,
    // and `orders` with all it points to outlives the child's use of our memory, because with
    // CLONE_VFORK the call returns only after the child executed or ended.
    let pid = unsafe { clone_and_run(&raw const arguments, child, &raw mut orders) };
    drop(stack);
    if pid < 0 {
        let errno = i32::try_from(-pid).map_or(Errno::INVAL, Errno::from_raw_os_error);
        return Err(StartError {
            call: "clone3",
            errno,
        });
    }
    // SAFETY: clone3 succeeded, so it opened this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: `orders` is ours; the child wrote it while we stood still, through the pointer that
    // was passed, so it is read from memory.
    let orders = unsafe { ptr::read_volatile(&raw const orders) };
    let failed = usize::try_from(orders.failed_call)
        .ok()
        .and_then(|at| CALLS.get(at));
    match failed.and_then(|call| call.to_str().ok()) {
        Some("") => {
            let pid = i32::try_from(pid).map_err(|_| StartError {
                call: "clone3",
                errno: Errno::RANGE,
            })?;
            Ok(Started { pid, pidfd })
        }
        call => {
            // It has ended already; its number must not stay taken.
            let ended = rustix::process::WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd));
            let options = rustix::process::WaitIdOptions::EXITED;
            rustix::process::waitid(ended, options).unwrap_or_default();
            let call = call.unwrap_or("clone3");
            Err(StartError {
                call,
                errno: Errno::from_raw_os_error(orders.errno),
            })
        }
    }
}

/// `CLONE_CLEAR_SIGHAND` and `CLONE_INTO_CGROUP` of linux/sched.h, which are above 32 bits.
const CLEAR_SIGNAL_HANDLERS: u64 = 0x1_0000_0000;
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// The child: descriptors to their numbers, then the program.
extern "C" fn child(orders: *mut Orders) -> ! {
    // SAFETY: the launcher passed its own structure and stands still until we execute.
    let orders = unsafe { &mut *orders };
    let (call, errno) = match place_and_execute(orders) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    orders.failed_call = call;
    orders.errno = errno;
    loop {
        // SAFETY: one integer; ends this process without touching the shared memory.
        unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    }
}

fn place_and_execute(orders: &Orders) -> Result<std::convert::Infallible, (c_int, c_int)> {
    // First above all targets, so that none is overwritten before it was placed.
    let copy = |descriptor: RawFd| {
        // SAFETY: integers alone.
        let copied = unsafe {
            libc::syscall(
                libc::SYS_fcntl,
                descriptor,
                libc::F_DUPFD_CLOEXEC,
                orders.count,
            )
        };
        c_int::try_from(copied)
            .ok()
            .filter(|copied| *copied >= 0)
            .ok_or((1, errno()))
    };
    let program = copy(orders.program)?;
    for at in 0..orders.count {
        // SAFETY: the list has `count` elements.
        let place = unsafe { orders.descriptors.offset(at as isize) };
        // SAFETY: as above.
        let descriptor = unsafe { *place };
        let copied = copy(descriptor)?;
        // SAFETY: as above, and nobody else uses the list meanwhile.
        unsafe { *place = copied };
    }
    for at in 0..orders.count {
        // SAFETY: the list has `count` elements.
        let place = unsafe { orders.descriptors.offset(at as isize) };
        // SAFETY: as above.
        let descriptor = unsafe { *place };
        // SAFETY: integers alone; the descriptor table is the child's own.
        if unsafe { libc::syscall(libc::SYS_dup3, descriptor, at, 0) } < 0 {
            return Err((2, errno()));
        }
    }
    // SAFETY: both lists end with a null pointer and hold terminated strings; the path is empty.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            orders.arguments.as_ptr(),
            orders.variables.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err((3, errno()))
}

fn errno() -> c_int {
    // SAFETY: no condition. The thread area is the launcher's, which stands still.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it points at an integer that is always there.
    unsafe { *place }
}

/// `clone3`, in whose child `run(orders)` is called and never returns. The answer is the process id
/// or a negative errno.
///
/// # Safety
/// `arguments` names a stack of its own, aligned to 16 bytes, and has CLONE_VM and CLONE_VFORK set.
unsafe fn clone_and_run(
    arguments: *const libc::clone_args,
    run: extern "C" fn(*mut Orders) -> !,
    orders: *mut Orders,
) -> c_long {
    let returned: c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the parent comes out with the registers as declared. The child starts on its own
    // stack with the same registers and leaves through `run`, never through this function.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => returned,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") run,
            in("r9") orders,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x10",
            "blr x9",
            "udf #0",
            "2:",
            inlateout("x0") arguments => returned,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x9") run,
            in("x10") orders,
        );
    }
    returned
}
