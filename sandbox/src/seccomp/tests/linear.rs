//! Random profiles: the program answers what a plain walk through the groups answers.

use proptest::prelude::*;

use crate::seccomp::{
    Action, Arch, Call, CompileError, Condition, Decision, Group, GroupAction, MAX_INSTRUCTIONS,
    Profile, Rule, SyscallData, Width, syscalls,
};

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(Action::ALL.to_vec())
}

/// Few distinct values, so that random arguments meet them.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        prop::sample::select(vec![
            0x8000_0000,
            0xffff_ffff,
            1 << 32,
            (1 << 32) | 1,
            (1 << 63) | 2,
            u64::MAX
        ]),
        any::<u64>(),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let mask = prop_oneof![Just(u64::MAX), value(), Just(3)];
    (
        0..6_u8,
        any::<bool>(),
        mask,
        prop::collection::vec(value(), 1..4),
    )
        .prop_map(|(arg, is_low, mask, values)| {
            let width = if is_low { Width::Low32 } else { Width::Full64 };
            let mask = mask & width.bits();
            let values = values.into_iter().map(|value| value & mask).collect();
            Condition {
                arg,
                width,
                mask,
                values,
            }
        })
}

fn decision() -> impl Strategy<Value = Decision> {
    let rule = (prop::collection::vec(condition(), 1..4), action())
        .prop_map(|(when, action)| Rule { when, action });
    prop_oneof![
        6 => Just(Decision::Group),
        1 => action().prop_map(Decision::Fixed),
        1 => (prop::collection::vec(rule, 1..4), action())
            .prop_map(|(rules, otherwise)| Decision::Rules { rules, otherwise }),
    ]
}

fn group_action() -> impl Strategy<Value = GroupAction> {
    prop_oneof![
        3 => action().prop_map(GroupAction::Fixed),
        1 => (action(), action(), any::<bool>())
            .prop_map(|(off, on, enabled)| GroupAction::Optional { off, on, enabled }),
    ]
}

/// Each known call is in one of a few groups, or in none.
fn profile() -> impl Strategy<Value = Profile> {
    let names: Vec<&str> = syscalls::names().collect();
    let calls = prop::collection::vec((0..6_usize, decision()), names.len());
    (action(), prop::collection::vec(group_action(), 5), calls).prop_map(
        move |(default, actions, calls)| {
            let mut groups: Vec<Group> = actions
                .into_iter()
                .enumerate()
                .map(|(index, action)| Group {
                    name: format!("@group-{index}"),
                    why: "random".to_owned(),
                    action,
                    risk: None,
                    calls: vec![],
                })
                .collect();
            for (name, (group, decision)) in names.iter().zip(calls) {
                if let Some(group) = groups.get_mut(group) {
                    group.calls.push(Call {
                        name: (*name).to_owned(),
                        why: None,
                        decision,
                    });
                }
            }
            Profile {
                name: "random".to_owned(),
                arches: Arch::ALL.to_vec(),
                default,
                groups,
                narrowed: vec![],
                source_digest: [0; 32],
                has_internet: true,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_tree_answers_as_the_list_does(
        profile in profile(),
        arch in prop::sample::select(Arch::ALL.to_vec()),
        args in prop::collection::vec(prop::array::uniform6(value()), 16),
    ) {
        // Jumps over more than 255 instructions are in nearly every one of these.
        let program = match profile.compile(arch) {
            Err(CompileError::TooLong { instructions, .. }) if instructions > MAX_INSTRUCTIONS => {
                return Err(TestCaseError::reject("more instructions than the kernel takes"));
            }
            program => program.unwrap(),
        };
        for number in 0..512 {
            for args in &args {
                let data = SyscallData {
                    number,
                    arch: arch.audit_value(),
                    instruction_pointer: 0,
                    args: *args,
                };
                prop_assert_eq!(program.evaluate(&data), Ok(profile.decide(arch, number, args)));
            }
        }
    }
}
