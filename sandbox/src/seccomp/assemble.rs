//! The tests of one call's arguments, as instructions.
//!
//! Written from the end to the beginning: whatever a test jumps to is then already in place, and
//! the distance is known.

use super::interpret::{AND, JUMP_EQUAL, LOAD, RETURN};
use super::profile::{Condition, Rule, Width};
use super::{Action, Instruction};

/// `BPF_RET` with this answer.
pub(super) fn answer(action: Action) -> Instruction {
    Instruction {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: action.return_value(),
    }
}

/// Instructions without jumps.
pub(super) fn statement(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// The first rule whose conditions all hold gives the answer, else `otherwise`. `None` where a
/// jump would be longer than 255 instructions.
pub(super) fn rules(rules: &[Rule], otherwise: Action) -> Option<Vec<Instruction>> {
    let mut code = Reversed::default();
    code.push(answer(otherwise));
    for rule in rules.iter().rev() {
        let failed = code.here();
        code.push(answer(rule.action));
        for condition in rule.when.iter().rev() {
            let holds = code.here();
            test(&mut code, condition, holds, failed)?;
        }
    }
    Some(code.finish())
}

/// Offset of the first argument in `struct seccomp_data`.
const ARGS_OFFSET: u32 = 16;

/// Tests one condition; execution goes on at `holds` or at `failed`.
fn test(code: &mut Reversed, condition: &Condition, holds: Label, failed: Label) -> Option<()> {
    let low = ARGS_OFFSET + 8 * u32::from(condition.arg);
    let mask = condition.mask & condition.width.bits();
    match condition.width {
        Width::Low32 => {
            let mut otherwise = failed;
            for value in condition.values.iter().rev() {
                code.jump_equal(lower(*value), holds, otherwise)?;
                otherwise = code.here();
            }
            code.masked_load(low, lower(mask));
        }
        Width::Full64 => {
            let mut otherwise = failed;
            for value in condition.values.iter().rev() {
                code.jump_equal(lower(*value), holds, otherwise)?;
                code.masked_load(low, lower(mask));
                // The upper half lies in the next word on little-endian machines.
                let upper_holds = code.here();
                code.jump_equal(upper(*value), upper_holds, otherwise)?;
                code.masked_load(low + 4, upper(mask));
                otherwise = code.here();
            }
        }
    }
    Some(())
}

/// A place in the program, counted in instructions from its end.
#[derive(Clone, Copy)]
struct Label(usize);

/// Instructions in reverse order.
#[derive(Default)]
struct Reversed {
    instructions: Vec<Instruction>,
}

impl Reversed {
    /// The place of the instruction that was pushed last, so the one that runs next after a push.
    fn here(&self) -> Label {
        Label(self.instructions.len())
    }

    fn push(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    fn jump_equal(&mut self, k: u32, holds: Label, otherwise: Label) -> Option<()> {
        let distance = |label: Label| u8::try_from(self.instructions.len() - label.0).ok();
        let (jt, jf) = (distance(holds)?, distance(otherwise)?);
        self.push(Instruction {
            code: JUMP_EQUAL,
            jt,
            jf,
            k,
        });
        Some(())
    }

    fn masked_load(&mut self, offset: u32, mask: u32) {
        if mask != u32::MAX {
            self.push(statement(AND, mask));
        }
        self.push(statement(LOAD, offset));
    }

    fn finish(mut self) -> Vec<Instruction> {
        self.instructions.reverse();
        self.instructions
    }
}

fn lower(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).expect("32 bits are left")
}

fn upper(value: u64) -> u32 {
    u32::try_from(value >> 32).expect("32 bits are left")
}
