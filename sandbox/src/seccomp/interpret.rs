//! An interpreter of the classic BPF that seccomp filters are made of.

use thiserror::Error;

use super::Instruction;

/// What a filter sees of a call: `struct seccomp_data` (linux/seccomp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallData {
    /// The call's number.
    pub number: u32,
    /// The `AUDIT_ARCH_*` value of the entry that it came in by.
    pub arch: u32,
    /// The address of the calling instruction.
    pub instruction_pointer: u64,
    /// The six arguments, as registers.
    pub args: [u64; 6],
}

/// Why a program has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// Execution ran past the last instruction.
    #[error("instruction {at} is beyond the program's end")]
    Fell {
        /// The place.
        at: usize,
    },
    /// An instruction that filters of ours and of seccompiler do not use.
    #[error("instruction {at} has the unknown code {code:#06x}")]
    Code {
        /// The place.
        at: usize,
        /// The code.
        code: u16,
    },
    /// A load from outside the call's data.
    #[error("instruction {at} loads from offset {offset}")]
    Load {
        /// The place.
        at: usize,
        /// The offset.
        offset: u32,
    },
    /// An answer that no profile gives.
    #[error("the program answers {value:#010x}")]
    ReturnValue {
        /// The answer.
        value: u32,
    },
}

/// `BPF_LD | BPF_W | BPF_ABS`: load 32 bits of the call's data.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
pub(super) const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const JUMP_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
const JUMP_GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(super) const JUMP_AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

/// Runs a filter and gives its 32-bit return value. Always ends: classic BPF jumps forward only.
///
/// # Errors
///
/// [`EvaluateError`] for programs that the kernel would not take, or that use instructions outside
/// the handful that filters need.
pub fn interpret(program: &[Instruction], data: &SyscallData) -> Result<u32, EvaluateError> {
    let mut accumulator = 0;
    let mut at = 0_usize;
    loop {
        let instruction = program.get(at).ok_or(EvaluateError::Fell { at })?;
        let k = instruction.k;
        let mut skip = 0_usize;
        let branch = |holds: bool| {
            usize::from(if holds {
                instruction.jt
            } else {
                instruction.jf
            })
        };
        match instruction.code {
            LOAD => accumulator = data.word(k).ok_or(EvaluateError::Load { at, offset: k })?,
            AND => accumulator &= k,
            JUMP => skip = usize::try_from(k).unwrap_or(usize::MAX),
            JUMP_EQUAL => skip = branch(accumulator == k),
            JUMP_GREATER => skip = branch(accumulator > k),
            JUMP_AT_LEAST => skip = branch(accumulator >= k),
            RETURN => return Ok(k),
            code => return Err(EvaluateError::Code { at, code }),
        }
        at = at.saturating_add(1).saturating_add(skip);
    }
}

impl SyscallData {
    /// The 32 bits at this offset, little-endian as on every architecture that we compile for.
    fn word(&self, offset: u32) -> Option<u32> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        let half = |value: u64, upper: bool| {
            let value = if upper {
                value >> 32
            } else {
                value & 0xffff_ffff
            };
            u32::try_from(value).ok()
        };
        match offset {
            0 => Some(self.number),
            4 => Some(self.arch),
            8 | 12 => half(self.instruction_pointer, offset == 12),
            16.. => {
                let index = usize::try_from((offset - 16) / 8).ok()?;
                half(*self.args.get(index)?, offset % 8 == 4)
            }
            _ => None,
        }
    }
}
