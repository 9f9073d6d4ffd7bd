//! The filter under which the reaper puts itself, apart from the kernel call that installs it: so that
//! it can be compared, for every architecture, with one that another compiler made.

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, sock_filter};

/// What the reaper still needs once the plugin runs, by name and by its number on this architecture.
pub const OWN_CALLS: [(&str, c_long); 7] = [
    ("read", libc::SYS_read),
    ("write", libc::SYS_write),
    ("ppoll", libc::SYS_ppoll),
    ("waitid", libc::SYS_waitid),
    ("close", libc::SYS_close),
    ("exit_group", libc::SYS_exit_group),
    ("rt_sigreturn", libc::SYS_rt_sigreturn),
];

/// How many they are, in the width of a jump.
const OWN_CALLS_COUNT: u8 = 7;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// The filter for an architecture, given its `AUDIT_ARCH_…` value (linux/audit.h) and the numbers that
/// the [`OWN_CALLS`] have there: those calls are allowed, and anything else kills the process.
#[must_use]
pub fn own_filter(architecture: u32, numbers: [u32; OWN_CALLS.len()]) -> [sock_filter; 12] {
    let kill = statement(BPF_RET | BPF_K, libc::SECCOMP_RET_KILL_PROCESS);
    let mut program = [kill; 5 + OWN_CALLS.len()];
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
    *foreign = jump(architecture, 0, OWN_CALLS_COUNT + 1);
    *load_number = statement(BPF_LD | BPF_W | BPF_ABS, NUMBER_AT);
    let to_allow = (1..=OWN_CALLS_COUNT).rev();
    for ((instruction, number), distance) in matches.iter_mut().zip(numbers).zip(to_allow) {
        *instruction = jump(number, distance, 0);
    }
    *allow = statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW);
    program
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
