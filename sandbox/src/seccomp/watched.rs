//! The filter of a watched run: whatever a profile may decide on stops and is told, so that the one who
//! holds the listener notes it and does what the profile says.
//!
//! What no profile may allow (`hard_deny`) is still refused by the kernel itself and not even told, but for what
//! the profile ends the jail for: whatever else goes wrong with whoever answers, no door opens that a root-owned
//! profile could not open.

use std::collections::BTreeMap;

use super::action::RET_USER_NOTIF;
use super::assemble::{answer, statement};
use super::compile::{CompileError, prologue, ranges, tree};
use super::interpret::{JUMP_EQUAL, LOAD, RETURN};
use super::{Action, Arch, Instruction, Profile, Program, hard_deny, syscalls};

/// Offset of the first argument in `struct seccomp_data` (linux/seccomp.h).
const ARGUMENTS_AT: u32 = 16;

impl Profile {
    /// Compiles the profile for a run in which its calls are told. `hand_over` are the arguments of the
    /// one sendmsg(2) by which the listener itself is handed over: before anybody can answer. They are
    /// told from others by the low halves of the first and the third.
    ///
    /// The answers of the program are not the profile's: `notify` where the profile's own program,
    /// [`Self::compile`], is to be asked. `None` where the profile does not allow the handing over.
    ///
    /// # Errors
    /// [`CompileError`], as of [`Self::compile`].
    pub fn compile_watched(
        &self,
        arch: Arch,
        hand_over: &[u64; 6],
    ) -> Result<Option<Program>, CompileError> {
        let Some(sendmsg) = syscalls::number(arch, "sendmsg") else {
            return Ok(None);
        };
        if self.decide(arch, sendmsg, hand_over) != Action::Allow {
            return Ok(None);
        }
        let told = statement(RETURN, RET_USER_NOTIF);
        let mut leaves: BTreeMap<u32, Vec<Instruction>> = BTreeMap::new();
        for (number, leaf) in self.leaves(arch)? {
            let name = syscalls::syscall_name(arch, number).unwrap_or_default();
            let leaf = match hard_deny::is_listed(name) {
                // Refusals stay the kernel's.
                true => leaf.into_iter().map(tell_what_is_allowed).collect(),
                false => vec![told],
            };
            leaves.insert(number, leaf);
        }
        // The same for those that it does not mention.
        let unmentioned = tell_what_is_allowed(answer(self.default_action()));
        for number in hard_deny::listed().filter_map(|name| syscalls::number(arch, name)) {
            leaves.entry(number).or_insert_with(|| vec![unmentioned]);
        }
        leaves.insert(sendmsg, all_but(hand_over));
        let mut instructions = prologue(arch);
        instructions.extend(tree(&ranges(&leaves, told)));
        Ok(Some(Program::new(arch, instructions)))
    }
}

/// What is allowed is told, and so is what a jail ends for, as always where there is a listener.
fn tell_what_is_allowed(instruction: Instruction) -> Instruction {
    let is_told = [Action::Allow, Action::Kill]
        .into_iter()
        .any(|action| instruction.code == RETURN && instruction.k == action.return_value());
    match is_told {
        true => statement(RETURN, RET_USER_NOTIF),
        false => instruction,
    }
}

/// Tells every call but the one with these arguments.
fn all_but(arguments: &[u64; 6]) -> Vec<Instruction> {
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default();
    let [first, _, third, ..] = *arguments;
    let equals = |k, jf| Instruction {
        code: JUMP_EQUAL,
        jt: 0,
        jf,
        k,
    };
    vec![
        statement(LOAD, ARGUMENTS_AT),
        equals(low(first), 3),
        statement(LOAD, ARGUMENTS_AT + 2 * 8),
        equals(low(third), 1),
        statement(RETURN, Action::Allow.return_value()),
        statement(RETURN, RET_USER_NOTIF),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::interpret;
    use super::*;
    use crate::seccomp::{Errno, SyscallData};

    const HAND_OVER: [u64; 6] = [4, 0x1000, 0x4000, 0, 0, 0];

    fn data(arch: Arch, number: u32, args: [u64; 6]) -> SyscallData {
        SyscallData {
            number,
            arch: arch.audit_value(),
            instruction_pointer: 0,
            args,
        }
    }

    /// One that mentions next to nothing, with this answer to all the rest.
    fn terse(default: &str) -> Profile {
        let text = format!(
            "schema = 1\nname = \"terse\"\narch = [\"x86_64\", \"aarch64\"]\n\
             default = \"{default}\"\n[[group]]\nname = \"@mine\"\nwhy = \"A test.\"\n\
             action = \"allow\"\ncalls = [\"read\", \"write\", \"sendmsg\"]\n\
             [use]\ninclude = [\"@mine\"]\n"
        );
        Profile::parse(&text, "terse").unwrap()
    }

    #[test]
    fn what_no_profile_may_allow_is_not_told_either_where_a_profile_does_not_mention_it() {
        for arch in Arch::ALL {
            let answers = |default: &str, name: &str| {
                let watched = terse(default).compile_watched(arch, &HAND_OVER);
                let number = syscalls::number(arch, name)?;
                let instructions = watched.unwrap().unwrap();
                interpret(instructions.instructions(), &data(arch, number, [0; 6])).ok()
            };
            let mut tried = 0;
            for name in hard_deny::listed() {
                if syscalls::number(arch, name).is_none() {
                    continue;
                }
                for (default, action) in [("enosys", Errno::Enosys), ("eperm", Errno::Eperm)] {
                    let refused = Some(Action::Errno(action).return_value());
                    assert_eq!(answers(default, name), refused, "{arch} {name}");
                }
                assert_eq!(answers("kill", name), Some(RET_USER_NOTIF), "{arch} {name}");
                tried += 1;
            }
            assert!(tried > 30, "{arch} {tried}");
            assert_eq!(answers("enosys", "openat"), Some(RET_USER_NOTIF));
        }
    }

    #[test]
    fn whatever_a_profile_allows_is_told_and_nothing_is_allowed_that_is_not() {
        let builtin = |name| Profile::builtin(name).unwrap();
        let mut profiles: Vec<Profile> = Profile::builtin_names().map(builtin).collect();
        profiles.push(terse("enosys"));
        for arch in Arch::ALL {
            for profile in &profiles {
                let name = profile.name();
                let plain = profile.compile(arch).unwrap();
                let watched = profile.compile_watched(arch, &HAND_OVER).unwrap().unwrap();
                for number in 0..1100 {
                    for args in [[0; 6], [1, 1, 6, 0, 0, 0], [u64::MAX; 6]] {
                        let data = data(arch, number, args);
                        let own = plain.evaluate(&data).unwrap();
                        let told = interpret(watched.instructions(), &data).unwrap();
                        let call = syscalls::syscall_name(arch, number);
                        if told == RET_USER_NOTIF {
                            continue;
                        }
                        // What is not told is refused, and as the profile says.
                        assert_eq!(told, own.return_value(), "{name} {call:?} {args:?}");
                        assert!(matches!(own, Action::Errno(_)), "{name} {call:?}");
                        assert!(hard_deny::is_listed(call.unwrap()), "{name} {call:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_profile_may_allow_is_never_told_but_where_the_jail_ends_for_it() {
        for arch in Arch::ALL {
            let profile = Profile::builtin("default").unwrap();
            let watched = profile.compile_watched(arch, &HAND_OVER).unwrap().unwrap();
            for name in ["ptrace", "unshare", "setns", "io_uring_setup", "keyctl"] {
                let number = syscalls::number(arch, name).unwrap();
                let answer = watched.evaluate(&data(arch, number, [0; 6])).unwrap();
                assert!(matches!(answer, Action::Errno(_)), "{name} {answer}");
            }
            // The same for what depends on arguments: a new namespace, a raw socket.
            for (name, args) in [
                ("clone", [0x1000_0000, 0, 0, 0, 0, 0]),
                ("socket", [16, 3, 0, 0, 0, 0]),
            ] {
                let number = syscalls::number(arch, name).unwrap();
                let answer = watched.evaluate(&data(arch, number, args)).unwrap();
                assert!(matches!(answer, Action::Errno(_)), "{name} {answer}");
            }
            let number = syscalls::number(arch, "bpf").unwrap();
            let answer = interpret(watched.instructions(), &data(arch, number, [0; 6]));
            assert_eq!(answer, Ok(RET_USER_NOTIF));
        }
    }

    #[test]
    fn foreign_architectures_kill_and_the_handing_over_alone_is_not_told() {
        for (arch, other) in [(Arch::X86_64, Arch::Aarch64), (Arch::Aarch64, Arch::X86_64)] {
            let profile = Profile::builtin("go").unwrap();
            let watched = profile.compile_watched(arch, &HAND_OVER).unwrap().unwrap();
            let foreign = data(other, 0, [0; 6]);
            assert_eq!(
                interpret(watched.instructions(), &foreign),
                Ok(Action::Kill.return_value())
            );
            let sendmsg = syscalls::number(arch, "sendmsg").unwrap();
            let answer = |args| interpret(watched.instructions(), &data(arch, sendmsg, args));
            assert_eq!(answer(HAND_OVER), Ok(Action::Allow.return_value()));
            for args in [[5, 0, 0x4000, 0, 0, 0], [4, 0, 0, 0, 0, 0]] {
                assert_eq!(answer(args), Ok(RET_USER_NOTIF));
            }
        }
    }
}
