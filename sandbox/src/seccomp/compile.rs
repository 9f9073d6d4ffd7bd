//! From a profile to a filter: ranges of equal answers, and a balanced tree of comparisons.

use std::collections::BTreeMap;

use thiserror::Error;

use super::arch::X32_BIT;
use super::assemble::{answer, rules, statement};
use super::interpret::{JUMP, JUMP_AT_LEAST, JUMP_EQUAL, LOAD};
use super::profile::{Effective, Profile};
use super::{Action, Arch, Instruction, MAX_INSTRUCTIONS, Program, syscalls};

/// Why a profile has no filter.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The profile does not list the architecture.
    #[error("profile `{profile}` is not for {arch}")]
    Arch {
        /// The profile.
        profile: String,
        /// The architecture asked for.
        arch: Arch,
    },
    /// The argument tests of one call need a jump over more than 255 instructions.
    #[error("profile `{profile}`: too many argument tests on `{call}`")]
    TooManyTests {
        /// The profile.
        profile: String,
        /// The call.
        call: String,
    },
    /// The filter is longer than the kernel takes.
    #[error("profile `{profile}`: {instructions} instructions, more than {MAX_INSTRUCTIONS}")]
    TooLong {
        /// The profile.
        profile: String,
        /// Its length.
        instructions: usize,
    },
}

impl Profile {
    /// Compiles the profile for an architecture.
    ///
    /// # Errors
    ///
    /// [`CompileError`]: the architecture is not the profile's, or the filter would be longer than
    /// the kernel takes.
    pub fn compile(&self, arch: Arch) -> Result<Program, CompileError> {
        if !self.arches().contains(&arch) {
            return Err(CompileError::Arch {
                profile: self.name().to_owned(),
                arch,
            });
        }
        let leaves = self.leaves(arch)?;
        let ranges = ranges(&leaves, answer(self.default_action()));
        let mut instructions = prologue(arch);
        instructions.extend(tree(&ranges));
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(CompileError::TooLong {
                profile: self.name().to_owned(),
                instructions: instructions.len(),
            });
        }
        Ok(Program::new(arch, instructions))
    }

    /// What decides on each call that the profile mentions, by number.
    pub(super) fn leaves(
        &self,
        arch: Arch,
    ) -> Result<BTreeMap<u32, Vec<Instruction>>, CompileError> {
        let mut leaves = BTreeMap::new();
        for group in self.groups() {
            for call in group.calls() {
                let Some(number) = syscalls::number(arch, call.name()) else {
                    continue;
                };
                let leaf = match group.decision_of(call) {
                    Effective::Always(action) => vec![answer(action)],
                    Effective::Rules(list, otherwise) => {
                        rules(list, otherwise).ok_or_else(|| CompileError::TooManyTests {
                            profile: self.name().to_owned(),
                            call: call.name().to_owned(),
                        })?
                    }
                };
                leaves.insert(number, leaf);
            }
        }
        Ok(leaves)
    }
}

/// Offset of the call's number in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
/// Offset of the architecture.
const ARCH_OFFSET: u32 = 4;

/// Kills foreign architectures and x32 numbers; leaves the call's number in the accumulator.
pub(super) fn prologue(arch: Arch) -> Vec<Instruction> {
    let mut code = vec![
        statement(LOAD, ARCH_OFFSET),
        Instruction {
            code: JUMP_EQUAL,
            jt: 1,
            jf: 0,
            k: arch.audit_value(),
        },
        answer(Action::Kill),
        statement(LOAD, NUMBER_OFFSET),
    ];
    if arch == Arch::X86_64 {
        code.push(Instruction {
            code: JUMP_AT_LEAST,
            jt: 0,
            jf: 1,
            k: X32_BIT,
        });
        code.push(answer(Action::Kill));
    }
    code
}

/// Call numbers from `first` up to the next range, all decided by the same instructions.
#[derive(Debug)]
pub(super) struct Range {
    first: u32,
    leaf: Vec<Instruction>,
}

/// Covers all numbers: neighbours with equal instructions are one range, gaps have the default.
pub(super) fn ranges(leaves: &BTreeMap<u32, Vec<Instruction>>, default: Instruction) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |first: u32, leaf: &[Instruction]| {
        if ranges.last().is_none_or(|last| last.leaf != leaf) {
            ranges.push(Range {
                first,
                leaf: leaf.to_vec(),
            });
        }
    };
    let mut next = 0;
    for (number, leaf) in leaves {
        if *number > next {
            push(next, &[default]);
        }
        push(*number, leaf);
        next = number + 1;
    }
    push(next, &[default]);
    ranges
}

/// A balanced tree: each comparison halves the ranges, so a call number meets as many of them as
/// the logarithm of their count.
pub(super) fn tree(ranges: &[Range]) -> Vec<Instruction> {
    let (below, above) = match ranges {
        [] => return Vec::new(),
        [range] => return range.leaf.clone(),
        _ => ranges.split_at(ranges.len() / 2),
    };
    let first = above
        .first()
        .expect("half of two or more is not empty")
        .first;
    let (below, above) = (tree(below), tree(above));
    let mut code = Vec::with_capacity(below.len() + above.len() + 2);
    match u8::try_from(below.len()) {
        Ok(skip) => {
            code.push(Instruction {
                code: JUMP_AT_LEAST,
                jt: skip,
                jf: 0,
                k: first,
            });
        }
        // A comparison reaches 255 instructions; an unconditional jump reaches all.
        Err(_) => {
            let skip = u32::try_from(below.len()).unwrap_or(u32::MAX);
            code.push(Instruction {
                code: JUMP_AT_LEAST,
                jt: 0,
                jf: 1,
                k: first,
            });
            code.push(statement(JUMP, skip));
        }
    }
    code.extend(below);
    code.extend(above);
    code
}
