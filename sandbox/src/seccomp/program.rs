//! A compiled filter.

use sha2::{Digest as _, Sha256};

use super::action::RET_USER_NOTIF;
use super::compile::prologue;
use super::interpret::{EvaluateError, RETURN, SyscallData, interpret};
use super::{Action, Arch};

/// The most instructions that the kernel takes: `BPF_MAXINSNS` (linux/bpf_common.h).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// One classic BPF instruction: `struct sock_filter` (linux/filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jt: u8,
    /// How many to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A filter for one architecture, at most [`MAX_INSTRUCTIONS`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    arch: Arch,
    instructions: Vec<Instruction>,
}

impl Program {
    /// Bytes of one instruction in [`Self::to_bytes`].
    pub const INSTRUCTION_BYTES: usize = 8;

    pub(super) fn new(arch: Arch, instructions: Vec<Instruction>) -> Self {
        Self { arch, instructions }
    }

    /// The architecture that it was compiled for.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The instructions.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The program as an array of `struct sock_filter`: 8 bytes for each instruction, native
    /// endian, as `struct sock_fprog` points at it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.instructions.len() * Self::INSTRUCTION_BYTES);
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    /// The same program, in which a call that the profile kills for stops instead and is told to
    /// whoever holds the filter's listener (seccomp_unotify(2)): it is never made unless that one
    /// answers. Foreign architectures and x32 numbers still kill.
    #[must_use]
    pub fn notifying(&self) -> Self {
        let mut instructions = self.instructions.clone();
        let kills = |one: &Instruction| one.code == RETURN && one.k == Action::Kill.return_value();
        let of_profile = instructions.iter_mut().skip(prologue(self.arch).len());
        for instruction in of_profile.filter(|one| kills(one)) {
            instruction.k = RET_USER_NOTIF;
        }
        Self::new(self.arch, instructions)
    }

    /// SHA-256 of [`Self::to_bytes`].
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// What the program answers to a call, by running it.
    ///
    /// # Errors
    ///
    /// [`EvaluateError`] is impossible for a program of [`super::Profile::compile`]; it is there
    /// because a filter must never be believed to have answered when it has not.
    pub fn evaluate(&self, data: &SyscallData) -> Result<Action, EvaluateError> {
        let value = interpret(&self.instructions, data)?;
        Action::from_return_value(value).ok_or(EvaluateError::ReturnValue { value })
    }
}
