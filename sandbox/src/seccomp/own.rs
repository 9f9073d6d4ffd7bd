//! The launcher's own filters. The first: what no step of a launch makes and no profile may allow.
//!
//! Every jail inherits it, so it is a list of what is denied, in the shape of the profiles' filters:
//! a handful of instructions on the way of any other call. Its answer is `SECCOMP_RET_TRACE`, which
//! without a tracer is ENOSYS, and which is weaker than every answer that a profile gives: inside a
//! jail the profile's own answer stands, so that a refused call is still told by name. There can be
//! no tracer inside, since ptrace(2) is denied with the others.

use std::collections::BTreeMap;

use super::assemble::{answer, statement};
use super::compile::{prologue, ranges, tree};
use super::interpret::RETURN;
use super::{Action, Arch, Program, syscalls};

/// All of it is on the hard-deny list of profiles. What is missing here of that list is what the
/// steps of a launch do: they mount, make and enter namespaces, and join a keyring.
pub(super) const DENIED: [&str; 23] = [
    "add_key",
    "bpf",
    "chroot",
    "delete_module",
    "finit_module",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "modify_ldt",
    "open_by_handle_at",
    "open_tree_attr",
    "perf_event_open",
    "ptrace",
    "reboot",
    "request_key",
    "swapoff",
    "swapon",
    "userfaultfd",
];

/// `SECCOMP_RET_TRACE`.
const RET_TRACE: u32 = 0x7ff0_0000;

/// The launcher's own filter for an architecture.
#[must_use]
pub fn launcher_filter(arch: Arch) -> Program {
    let denied = vec![statement(RETURN, RET_TRACE)];
    let leaves: BTreeMap<u32, _> = DENIED
        .iter()
        .filter_map(|name| syscalls::number(arch, name))
        .map(|number| (number, denied.clone()))
        .collect();
    let mut instructions = prologue(arch);
    instructions.extend(tree(&ranges(&leaves, answer(Action::Allow))));
    Program::new(arch, instructions)
}

/// All that the process makes which answers for a watched plugin: it waits, hears, answers and writes, in
/// memory of its own.
const OF_THE_WATCHER: [&str; 15] = [
    "brk",
    "clock_gettime",
    "close",
    "exit",
    "exit_group",
    "futex",
    "ioctl",
    "madvise",
    "mmap",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "rt_sigreturn",
    "write",
];

/// The filter of the launcher's child that answers for a watched plugin: anything else kills it, and with
/// it, by the launcher, the jail.
#[must_use]
pub fn watcher_filter(arch: Arch) -> Program {
    let allowed = vec![answer(Action::Allow)];
    let leaves: BTreeMap<u32, _> = OF_THE_WATCHER
        .iter()
        .filter_map(|name| syscalls::number(arch, name))
        .map(|number| (number, allowed.clone()))
        .collect();
    let mut instructions = prologue(arch);
    instructions.extend(tree(&ranges(&leaves, answer(Action::Kill))));
    Program::new(arch, instructions)
}
