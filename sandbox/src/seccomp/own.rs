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
use super::{Action, Arch, Instruction, Program, syscalls};

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
    let denied = statement(RETURN, RET_TRACE);
    by_name(arch, &DENIED, denied, answer(Action::Allow))
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
    let allowed = answer(Action::Allow);
    by_name(arch, &OF_THE_WATCHER, allowed, answer(Action::Kill))
}

/// One answer for the calls that are listed, another for all others. A call that the architecture does not
/// have is left out.
fn by_name(arch: Arch, names: &[&str], listed: Instruction, others: Instruction) -> Program {
    let leaves: BTreeMap<u32, _> = names
        .iter()
        .filter_map(|name| syscalls::number(arch, name))
        .map(|number| (number, vec![listed]))
        .collect();
    let mut instructions = prologue(arch);
    instructions.extend(tree(&ranges(&leaves, others)));
    Program::new(arch, instructions)
}
