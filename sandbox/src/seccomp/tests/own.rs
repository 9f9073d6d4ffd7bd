//! The launcher's own filter against seccompiler, and what it costs.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::seccomp::own::DENIED;
use crate::seccomp::{
    Arch, Instruction, SyscallData, hard_deny, interpret, launcher_filter, syscall_number,
};

const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

/// Most instructions on the way of one call. seccompiler's chain, which is the same list, has 50.
const PATH_LIMIT: usize = 11;

fn data(arch: Arch, number: u32) -> SyscallData {
    SyscallData {
        number,
        arch: arch.audit_value(),
        instruction_pointer: 0,
        args: [0; 6],
    }
}

#[test]
fn what_it_denies_no_profile_may_allow() {
    for name in DENIED {
        let is_denied = hard_deny::CALLS
            .iter()
            .any(|(names, _)| names.contains(&name));
        assert!(is_denied, "{name}");
    }
}

#[test]
fn seccompiler_agrees_on_every_number() {
    for arch in ARCHES {
        let rules: BTreeMap<i64, Vec<_>> = DENIED
            .iter()
            .filter_map(|name| syscall_number(arch, name))
            .map(|number| (number.into(), vec![]))
            .collect();
        let target = match arch {
            Arch::X86_64 => TargetArch::x86_64,
            Arch::Aarch64 => TargetArch::aarch64,
        };
        let reference =
            SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), target);
        let reference: BpfProgram = reference.unwrap().try_into().unwrap();
        let reference: Vec<Instruction> = reference
            .iter()
            .map(|one| Instruction {
                code: one.code,
                jt: one.jt,
                jf: one.jf,
                k: one.k,
            })
            .collect();
        let own = launcher_filter(arch);
        let mut denied = 0;
        for number in 0..1024 {
            let data = data(arch, number);
            let answer = interpret(own.instructions(), &data).unwrap();
            assert_eq!(answer, interpret(&reference, &data).unwrap(), "{number}");
            denied += usize::from(answer == libc::SECCOMP_RET_TRACE);
        }
        assert!(denied >= 18, "{denied}");
        let mut foreign = data(arch, 0);
        foreign.arch ^= 1;
        for data in [foreign, data(Arch::X86_64, 0x4000_0000)] {
            let answer = interpret(launcher_filter(Arch::X86_64).instructions(), &data).unwrap();
            assert_eq!(answer, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}

/// Instructions that a call meets: every one is a load, a comparison, a jump or the answer.
fn path(program: &[Instruction], data: &SyscallData) -> usize {
    let mut executed = 0;
    let mut loaded = 0;
    let mut at = 0;
    loop {
        executed += 1;
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let skip = |holds| usize::from(if holds { jt } else { jf });
        match code {
            0x20 if k == 0 => loaded = data.number,
            0x20 => loaded = data.arch,
            0x15 => at += skip(loaded == k),
            0x35 => at += skip(loaded >= k),
            0x05 => at += usize::try_from(k).unwrap(),
            0x06 => return executed,
            other => panic!("{other:#x}"),
        }
    }
}

#[test]
fn a_call_meets_a_handful_of_instructions() {
    for arch in ARCHES {
        let own = launcher_filter(arch);
        let longest = (0..1024).map(|number| path(own.instructions(), &data(arch, number)));
        let longest = longest.max().unwrap();
        assert!(longest <= PATH_LIMIT, "{longest}");
    }
}
