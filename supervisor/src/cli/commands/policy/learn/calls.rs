//! From the records of a run to the system calls that it made, and those that it was refused.

use std::collections::{BTreeMap, BTreeSet};

use pinfold_policy::{WatchRecord, WatchedCall};
use pinfold_sandbox::seccomp::{Arch, GroupAction, Profile, syscall_name};
use serde::Serialize;

/// What the instances of a run asked of the kernel, together.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Names of the calls that were allowed and made, with how often.
    pub(super) made: BTreeMap<String, u64>,
    /// Those that were not.
    pub(super) refused: Vec<RefusedCall>,
    /// Whether all was written down.
    pub(super) is_whole: bool,
}

/// A call that the profile of the run refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RefusedCall {
    pub(super) call: String,
    pub(super) number: u32,
    /// The error with which it failed; absent where the jail was ended for it.
    pub(super) errno: Option<u32>,
    /// The arguments of the first, as registers.
    pub(super) arguments: [String; 6],
    pub(super) count: u64,
    /// What a profile would have to say to allow it.
    pub(super) would_need: String,
}

impl Calls {
    pub(super) fn of(records: &[WatchRecord], arch: Arch) -> Self {
        let mut counts: BTreeMap<WatchedCall, (u64, [u64; 6])> = BTreeMap::new();
        for record in records {
            for (call, arguments) in &record.calls {
                // At least once, where its count was not written any more.
                let count = record.counts.get(call).copied().unwrap_or(1);
                let entry = counts
                    .entry(*call)
                    .or_insert((0, arguments.unwrap_or_default()));
                entry.0 = entry.0.saturating_add(count);
            }
        }
        let mut calls = Self {
            is_whole: records.iter().all(|record| record.is_whole),
            ..Self::default()
        };
        let default = Profile::builtin("default").ok();
        for (call, (count, arguments)) in counts {
            let number = call.number();
            let name = syscall_name(arch, number);
            let errno = match call {
                WatchedCall::Allowed { .. } => {
                    calls.made.insert(named(name, number), count);
                    continue;
                }
                WatchedCall::Refused { errno, .. } => Some(errno),
                WatchedCall::Killed { .. } => None,
            };
            calls.refused.push(RefusedCall {
                call: named(name, number),
                number,
                errno,
                arguments: arguments.map(|argument| format!("{argument:#x}")),
                count,
                would_need: would_need(default.as_ref(), name),
            });
        }
        calls
    }

    /// The names of the calls that were made.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.made.keys().cloned().collect()
    }
}

fn named(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| format!("number {number}"), str::to_owned)
}

/// What it would take, by the default profile's word on the call.
fn would_need(default: Option<&Profile>, name: Option<&str>) -> String {
    let found = name.and_then(|name| default?.find(name));
    match found.map(|(group, _)| (group.name(), group.action())) {
        None => "a group of the profile's own: no shipped profile mentions it".into(),
        Some((group, GroupAction::Optional { .. })) => {
            format!("syscall-groups = [{group:?}] in the policy: it is off unless asked for")
        }
        Some((group, GroupAction::Fixed(action))) => match action.as_str() {
            "allow" => format!(
                "keep in {group}, of the default profile; where the profile keeps it, other arguments"
            ),
            "kill" => "nothing does: no profile may allow it".into(),
            _ => format!(
                "a group of the profile's own, with i-accept-the-risk: the default has it in {group}"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_a_run_are_counted_together_and_what_was_refused_is_told_apart() {
        let record = |more: &str| {
            let text = format!(
                "pinfold-watch 1\nplugin hello\nrun r1\ngeneration 3\nprofile go\narch x86_64\n\
                 allowed 257\nrefused 38 79 0x1 0x0 0x0 0x0 0x0 0x0\n{more}"
            );
            WatchRecord::parse(&text).unwrap()
        };
        let whole = record("killed 321 0x0 0x0 0x0 0x0 0x0 0x0\ncount 5 allowed 257\nend\n");
        let calls = Calls::of(&[whole.clone(), record("")], Arch::X86_64);
        assert!(!calls.is_whole);
        assert_eq!(calls.made, [("openat".to_owned(), 6)].into());
        let refused: Vec<_> = calls
            .refused
            .iter()
            .map(|one| (one.call.as_str(), one.errno, one.count))
            .collect();
        assert_eq!(refused, [("getcwd", Some(38), 2), ("bpf", None, 1)]);
        assert!(calls.refused[0].would_need.contains("@file"));
        assert!(calls.refused[1].would_need.contains("no profile"));
        assert!(Calls::of(&[whole], Arch::X86_64).is_whole);
    }
}
