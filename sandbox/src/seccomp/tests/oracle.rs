//! seccompiler as the reference: it knows one answer per filter, so each answer of the profile, and
//! each rule of a call, becomes a filter of its own, and our one program must agree with all.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::seccomp::profile::Effective;
use crate::seccomp::{
    Action, Arch, Condition, Instruction, Profile, Program, Rule, SyscallData, Width, interpret,
    syscall_number,
};

/// A filter that answers "allow" where the reference says that something holds.
struct Reference(Vec<Instruction>);

impl Reference {
    fn new(arch: Arch, rules: BTreeMap<i64, Vec<SeccompRule>>) -> Self {
        let target = match arch {
            Arch::X86_64 => TargetArch::x86_64,
            Arch::Aarch64 => TargetArch::aarch64,
        };
        let filter =
            SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, target).unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        let instruction = |i: &seccompiler::sock_filter| Instruction {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        };
        Self(program.iter().map(instruction).collect())
    }

    fn answer(&self, data: &SyscallData) -> u32 {
        interpret(&self.0, data).unwrap()
    }

    fn holds(&self, data: &SyscallData) -> bool {
        match self.answer(data) {
            libc::SECCOMP_RET_ALLOW => true,
            libc::SECCOMP_RET_TRAP => false,
            other => panic!("the reference answers {other:#x}"),
        }
    }
}

/// Calls whose answer depends on arguments.
struct Conditional<'a> {
    name: &'a str,
    rules: &'a [Rule],
    references: Vec<Reference>,
    otherwise: Action,
}

fn rule_reference(arch: Arch, number: u32, rule: &Rule) -> Reference {
    // seccompiler has no "one of": every combination of the values is a rule.
    let mut combinations: Vec<Vec<SeccompCondition>> = vec![vec![]];
    for condition in &rule.when {
        let length = match condition.width {
            Width::Low32 => SeccompCmpArgLen::Dword,
            Width::Full64 => SeccompCmpArgLen::Qword,
        };
        let op = match condition.mask == condition.width.bits() {
            true => SeccompCmpOp::Eq,
            false => SeccompCmpOp::MaskedEq(condition.mask),
        };
        let reference = |value: &u64| {
            SeccompCondition::new(condition.arg, length.clone(), op.clone(), *value).unwrap()
        };
        combinations = combinations
            .iter()
            .flat_map(|before| {
                condition.values.iter().map(|value| {
                    let mut combination = before.clone();
                    combination.push(reference(value));
                    combination
                })
            })
            .collect();
    }
    let rules = combinations
        .into_iter()
        .map(|all| SeccompRule::new(all).unwrap())
        .collect();
    Reference::new(arch, BTreeMap::from([(i64::from(number), rules)]))
}

/// Values at which a comparison could go wrong.
fn corners(conditions: &[&Condition]) -> Vec<u64> {
    let mut values = vec![
        0,
        1,
        1 << 31,
        1 << 32,
        u64::from(u32::MAX),
        u64::MAX,
        1 << 63,
    ];
    for condition in conditions {
        for value in condition.values.iter().chain([&condition.mask]) {
            let near = [value.wrapping_sub(1), value.wrapping_add(1), !value];
            let upper = [value | (1 << 32), value | (1 << 63), value | 0x8_0800];
            values.extend([*value].iter().chain(&near).chain(&upper));
        }
        values.extend(
            (0..64)
                .map(|bit| 1 << bit)
                .filter(|bit| condition.mask & bit != 0),
        );
    }
    values.sort_unstable();
    values.dedup();
    values
}

fn data(arch: Arch, number: u32, args: [u64; 6]) -> SyscallData {
    SyscallData {
        number,
        arch: arch.audit_value(),
        instruction_pointer: 0,
        args,
    }
}

struct Case<'a> {
    arch: Arch,
    program: Program,
    by_action: Vec<(Action, Reference)>,
    conditional: BTreeMap<u32, Conditional<'a>>,
    default: Action,
}

impl<'a> Case<'a> {
    fn new(profile: &'a Profile, arch: Arch) -> Self {
        let mut always: BTreeMap<Action, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
        let mut conditional = BTreeMap::new();
        for group in profile.groups() {
            for call in group.calls() {
                let Some(number) = syscall_number(arch, call.name()) else {
                    continue;
                };
                match group.decision_of(call) {
                    Effective::Always(action) => {
                        always
                            .entry(action)
                            .or_default()
                            .insert(i64::from(number), vec![]);
                    }
                    Effective::Rules(rules, otherwise) => {
                        let reference = |rule| rule_reference(arch, number, rule);
                        let references = rules.iter().map(reference).collect();
                        let entry = Conditional {
                            name: call.name(),
                            rules,
                            references,
                            otherwise,
                        };
                        conditional.insert(number, entry);
                    }
                }
            }
        }
        let by_action = always
            .into_iter()
            .map(|(action, rules)| (action, Reference::new(arch, rules)));
        Self {
            arch,
            program: profile.compile(arch).unwrap(),
            by_action: by_action.collect(),
            conditional,
            default: profile.default_action(),
        }
    }

    /// What the references together say.
    fn expected(&self, data: &SyscallData) -> Action {
        if let Some(call) = self.conditional.get(&data.number) {
            let held = call
                .references
                .iter()
                .position(|reference| reference.holds(data));
            return held.map_or(call.otherwise, |index| call.rules[index].action);
        }
        let held: Vec<_> = self
            .by_action
            .iter()
            .filter(|(_, reference)| reference.holds(data))
            .collect();
        match held.as_slice() {
            [] => self.default,
            [(action, _)] => *action,
            _ => panic!("call {} is in two groups", data.number),
        }
    }

    fn assert_agrees(&self, data: &SyscallData) {
        let ours = self.program.evaluate(data).unwrap();
        assert_eq!(ours, self.expected(data), "{} {data:x?}", self.arch);
    }
}

fn each_case(check: impl Fn(&Case<'_>)) {
    let mut everything_on = Profile::builtin("default").unwrap();
    for group in ["@optional-watch", "@optional-ipc", "@optional-memlock"] {
        everything_on.enable(group).unwrap();
    }
    let mut without_internet = everything_on.clone();
    without_internet.refuse_internet();
    let shipped = Profile::builtin_names().map(|name| Profile::builtin(name).unwrap());
    for profile in shipped.chain([everything_on, without_internet]) {
        for arch in Arch::ALL {
            check(&Case::new(&profile, arch));
        }
    }
}

#[test]
fn both_compilers_agree_on_every_number() {
    each_case(|case| {
        for number in (0..1024).chain([0x3fff_ffff]) {
            for args in [[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]] {
                case.assert_agrees(&data(case.arch, number, args));
            }
        }
    });
}

#[test]
fn both_compilers_agree_on_arguments_at_their_corners() {
    each_case(|case| {
        for (number, call) in &case.conditional {
            let values: Vec<Vec<u64>> = (0..6)
                .map(|arg| {
                    let all = call.rules.iter().flat_map(|rule| &rule.when);
                    let tested: Vec<_> = all.filter(|condition| condition.arg == arg).collect();
                    if tested.is_empty() {
                        vec![7]
                    } else {
                        corners(&tested)
                    }
                })
                .collect();
            assert!(
                values.iter().any(|list| list.len() > 10),
                "{} tests something",
                call.name
            );
            let mut args = [0; 6];
            each_combination(&values, 0, &mut args, &mut |args| {
                case.assert_agrees(&data(case.arch, *number, *args));
            });
        }
    });
}

fn each_combination(
    values: &[Vec<u64>],
    arg: usize,
    args: &mut [u64; 6],
    check: &mut impl FnMut(&[u64; 6]),
) {
    let Some(list) = values.get(arg) else {
        return check(args);
    };
    for value in list {
        args[arg] = *value;
        each_combination(values, arg + 1, args, check);
    }
}

#[test]
fn x32_numbers_are_killed_where_the_reference_only_refuses_to_allow_them() {
    each_case(|case| {
        if case.arch == Arch::X86_64 {
            assert_x32_is_killed(case);
        }
    });
}

fn assert_x32_is_killed(case: &Case<'_>) {
    let (_, allowed) = case
        .by_action
        .iter()
        .find(|(action, _)| *action == Action::Allow)
        .unwrap();
    for number in (0..1024)
        .map(|number| number | 0x4000_0000)
        .chain([0x8000_0000, u32::MAX])
    {
        let data = data(Arch::X86_64, number, [0; 6]);
        assert_eq!(
            case.program.evaluate(&data),
            Ok(Action::Kill),
            "{number:#x}"
        );
        assert!(!allowed.holds(&data), "{number:#x}");
    }
    // Without the bit the same numbers are ordinary calls.
    assert_eq!(
        case.program.evaluate(&data(Arch::X86_64, 0, [0; 6])),
        Ok(Action::Allow)
    );
}

#[test]
fn foreign_architectures_are_killed_by_both() {
    // i386, 32-bit ARM, big-endian 64-bit ARM, nothing.
    let foreign = [0x4000_0003, 0x4000_0028, 0x8000_00b7, 0];
    each_case(|case| {
        let other = Arch::ALL
            .into_iter()
            .find(|arch| *arch != case.arch)
            .unwrap()
            .audit_value();
        for arch in foreign.into_iter().chain([other]) {
            for number in 0..1024 {
                let data = SyscallData {
                    arch,
                    ..data(case.arch, number, [0; 6])
                };
                assert_eq!(
                    case.program.evaluate(&data),
                    Ok(Action::Kill),
                    "{arch:#x} {number}"
                );
                for (_, reference) in &case.by_action {
                    assert_eq!(reference.answer(&data), libc::SECCOMP_RET_KILL_PROCESS);
                }
            }
        }
    });
}

#[test]
fn a_notifying_program_stops_what_the_other_kills_and_nothing_else() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let profile = Profile::builtin("default").unwrap();
        let program = profile.compile(arch).unwrap();
        let notifying = program.notifying();
        let mut stopped = 0;
        for number in (0..1024).chain([0x4000_0000, 0x4000_0000 + 165]) {
            let data = data(arch, number, [0; 6]);
            let (before, after) = (
                interpret(program.instructions(), &data).unwrap(),
                interpret(notifying.instructions(), &data).unwrap(),
            );
            if before == libc::SECCOMP_RET_KILL_PROCESS && number < 0x4000_0000 {
                assert_eq!(after, libc::SECCOMP_RET_USER_NOTIF, "{number}");
                stopped += 1;
            } else {
                assert_eq!(after, before, "{number}");
            }
            assert_eq!(
                notifying.evaluate(&data).unwrap(),
                program.evaluate(&data).unwrap()
            );
        }
        assert!(stopped >= 20, "{stopped}");
        let mut foreign = data(arch, 1, [0; 6]);
        foreign.arch ^= 1;
        assert_eq!(
            interpret(notifying.instructions(), &foreign).unwrap(),
            libc::SECCOMP_RET_KILL_PROCESS
        );
    }
}
