//! Syscall profiles: what a plugin may ask of the kernel, as data that a reviewer can read aloud,
//! and the compiler that turns such a profile into a seccomp filter.
//!
//! A [`Profile`] is read from TOML ([`Profile::parse`], or [`Profile::builtin`] for the shipped
//! ones), names system calls and never numbers, and gives a reason with each group. It is refused
//! as a whole where it names an unknown call, mentions one twice, has a group that nothing uses,
//! or allows anything of the hard-deny list, which no profile may allow.
//!
//! [`Profile::compile`] makes a [`Program`]: architecture check, x32 check, then a balanced
//! comparison tree over the call numbers. The shape matters: the kernel evaluates a filter once
//! for each call number when it is installed, and a linear chain costs six times as much there.
//!
//! `kill` is `SECCOMP_RET_KILL_PROCESS`, after which a plugin shows a bare SIGSYS;
//! [`Program::notifying`] makes of it a call that stops and is told by number. Not here: installing
//! the filter, which the plugin stage of the jail does, last.

mod action;
mod arch;
mod assemble;
mod compile;
mod constants;
mod document;
mod error;
mod hard_deny;
mod interpret;
mod learnt;
mod narrowed;
mod no_internet;
mod own;
mod profile;
mod program;
mod syscalls;
mod watched;

#[cfg(test)]
mod tests;

pub use action::{Action, Errno};
pub use arch::Arch;
pub use compile::CompileError;
pub use constants::value as constant;
pub use error::{ConditionFault, ProfileError};
pub use interpret::{EvaluateError, SyscallData, interpret};
pub use learnt::{Floor, Learnt, Lesson, floor};
pub use narrowed::{Also, Narrowed};
pub use own::{launcher_filter, watcher_filter};
pub use profile::{Call, Condition, Decision, Group, GroupAction, Profile, Rule, Width};
pub use program::{Instruction, MAX_INSTRUCTIONS, Program};
pub use syscalls::{nearest_syscall, number as syscall_number, syscall_name};
