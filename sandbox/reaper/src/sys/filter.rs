//! System call filters: the plugin's from the plan, the reaper's own from here.

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;

use super::{Result, check};

/// Bytes of one instruction: code (`u16`), two jumps (`u8`), operand (`u32`).
const INSTRUCTION_BYTES: usize = 8;

/// What the reaper still needs once the plugin runs.
const OWN_CALLS: [libc::c_long; 7] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_ppoll,
    libc::SYS_waitid,
    libc::SYS_close,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (linux/seccomp.h), since Linux 5.19.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

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
    let calls = OWN_CALLS.len();
    let mut program = [statement(BPF_RET | BPF_K, libc::SECCOMP_RET_KILL_PROCESS); 5 + 7];
    let [
        load_architecture,
        foreign,
        load_number,
        matches @ ..,
        _kill,
        allow,
    ] = &mut program;
    *load_architecture = statement(BPF_LD | BPF_W | BPF_ABS, ARCHITECTURE_AT);
    // Over the rest but for the instruction that kills.
    *foreign = jump(ARCHITECTURE, 0, short(calls + 1)?);
    *load_number = statement(BPF_LD | BPF_W | BPF_ABS, NUMBER_AT);
    for (at, (instruction, call)) in matches.iter_mut().zip(OWN_CALLS).enumerate() {
        let number = u32::try_from(call).map_err(|_| Errno::RANGE)?;
        *instruction = jump(number, short(calls - at)?, 0);
    }
    *allow = statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW);
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

fn short(count: usize) -> Result<u8> {
    u8::try_from(count).map_err(|_| Errno::RANGE)
}

#[expect(clippy::cast_possible_truncation, reason = "BPF opcodes are below 256")]
const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "BPF opcodes are below 256")]
const fn jump(k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: (BPF_JMP | BPF_JEQ | BPF_K) as u16,
        jt,
        jf,
        k,
    }
}
