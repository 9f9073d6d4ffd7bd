//! The launcher's own filter and the reaper's against seccompiler, and what the first costs.

use std::collections::BTreeMap;

use pinfold_reaper::own_filter::{OWN_CALLS, own_filter};
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

fn target(arch: Arch) -> TargetArch {
    match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    }
}

/// What seccompiler makes of a filter.
fn instructions_of(filter: Result<SeccompFilter, seccompiler::BackendError>) -> Vec<Instruction> {
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    let instruction = |one: &seccompiler::sock_filter| Instruction {
        code: one.code,
        jt: one.jt,
        jf: one.jf,
        k: one.k,
    };
    program.iter().map(instruction).collect()
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
        let reference = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Trace(0),
            target(arch),
        );
        let reference = instructions_of(reference);
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

#[test]
fn seccompiler_agrees_with_the_reapers_on_every_number() {
    for arch in ARCHES {
        let numbers = OWN_CALLS.map(|(name, here)| {
            let number = syscall_number(arch, name).unwrap();
            assert!(
                Arch::native() != Some(arch) || i64::from(number) == here,
                "{name}"
            );
            number
        });
        let rules: BTreeMap<i64, Vec<_>> = numbers
            .iter()
            .map(|&number| (number.into(), vec![]))
            .collect();
        let reference = instructions_of(SeccompFilter::new(
            rules,
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            target(arch),
        ));
        let own = own_filter(arch.audit_value(), numbers).map(|one| Instruction {
            code: one.code,
            jt: one.jt,
            jf: one.jf,
            k: one.k,
        });
        let mut allowed = 0;
        // With those of x32, and what no table has.
        let beyond = (0x4000_0000..0x4000_0400).chain([u32::MAX]);
        for number in (0..1024).chain(beyond) {
            for audit in [arch.audit_value(), arch.audit_value() ^ 1, 0] {
                let mut data = data(arch, number);
                data.arch = audit;
                let answer = interpret(&own, &data).unwrap();
                assert_eq!(answer, interpret(&reference, &data).unwrap(), "{number}");
                let is_own = audit == arch.audit_value() && numbers.contains(&number);
                assert_eq!(
                    answer == libc::SECCOMP_RET_ALLOW,
                    is_own,
                    "{arch:?} {number}"
                );
                allowed += usize::from(is_own);
            }
        }
        assert_eq!(allowed, OWN_CALLS.len());
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
