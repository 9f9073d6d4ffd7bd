//! What a policy wants of each control against what this machine gives.

use std::collections::BTreeMap;

use pinfold_policy::{Control, PolicyFile, ProcView, Wanted};

use super::failure;
use crate::cgroup::{Applied, State as GroupState};
use crate::jail::Step;
use crate::posture::{ControlState, Mode, State};
use crate::protocol::{ControlChange, Failure, FailureKind};

/// What was found of one control when it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) state: State,
    pub(super) how: String,
    pub(super) reason: String,
}

/// What was found, by control.
pub(super) type Findings = BTreeMap<Control, Tried>;

impl Tried {
    pub(super) fn enforced(how: impl Into<String>) -> Self {
        Self {
            state: State::Enforced,
            how: how.into(),
            reason: String::new(),
        }
    }

    pub(super) fn partial(how: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            state: State::Partial,
            how: how.into(),
            reason: reason.into(),
        }
    }

    pub(super) fn missing(reason: impl Into<String>) -> Self {
        Self {
            state: State::Missing,
            how: String::new(),
            reason: reason.into(),
        }
    }

    /// What came of a control of the group. Without groups a user's jails have the limit on processes
    /// of their own user namespace, where RLIMIT_NPROC counts for each jail alone. Devices are out of
    /// reach in every jail; a group that refuses them is there on version 1 alone.
    pub(super) fn group(applied: &Applied, mode: Mode) -> Option<Self> {
        Some(match &applied.state {
            GroupState::Missing { .. }
                if mode == Mode::User && applied.control == Control::Processes =>
            {
                Self::enforced("RLIMIT_NPROC of the jail's user namespace")
            }
            GroupState::Missing { reason } if applied.control == Control::Devices => {
                Self::partial("no-device mounts, no capability", reason.to_string())
            }
            GroupState::Enforced { how } => Self::enforced(how.to_string()),
            GroupState::Partial { how, reason } => {
                Self::partial(how.to_string(), reason.to_string())
            }
            GroupState::Missing { reason } => Self::missing(reason.to_string()),
            GroupState::Off => return None,
        })
    }
}

/// The control that still holds where this one does not.
fn backed_by(control: Control) -> Option<Control> {
    Some(match control {
        Control::PidNamespace | Control::Proc => Control::Uid,
        Control::NetworkNamespace | Control::MemfdNoexec | Control::UserNamespace => {
            Control::Seccomp
        }
        Control::IpcNamespace | Control::PassRights => Control::Seccomp,
        Control::UtsNamespace | Control::CgroupNamespace => Control::Capabilities,
        Control::MountNamespace => Control::Capabilities,
        Control::Root | Control::Stage | Control::Uid => Control::MountNamespace,
        Control::Capabilities => Control::Seccomp,
        Control::NoNewPrivileges => Control::Capabilities,
        Control::MemoryGroupKill => Control::Memory,
        Control::GroupKill | Control::GroupFreeze => Control::PidNamespace,
        Control::Devices => Control::Capabilities,
        Control::Landlock => Control::Root,
        Control::TimeNamespace => Control::Proc,
        Control::WriteXorExecute => Control::Stage,
        _ => return None,
    })
}

/// What is in force otherwise than before; what was in force before and is no more becomes
/// [`State::Failed`], and stays that until it is again.
pub(super) fn changes(before: &Findings, now: &mut Findings) -> Vec<ControlChange> {
    let mut changes = Vec::new();
    for (control, tried) in now {
        let Some(before) = before.get(control) else {
            continue;
        };
        let (was, is) = (before.state.satisfies(), tried.state.satisfies());
        if !is && (was || before.state == State::Failed) {
            tried.state = State::Failed;
        }
        if was != is {
            changes.push(ControlChange {
                control: *control,
                is_in_force: is,
                reason: tried.reason.clone(),
            });
        }
    }
    changes
}

/// What a policy's `proc = "full"` leaves of that control.
const WHOLE_PROC: &str = "by the policy's proc = \"full\" processors, memory, load and version of the \
                          machine are seen, and the rest of the kernel's is masked";

/// The controls of a posture: what is wanted beside what was found. Of the filter, which is another for
/// each profile, `filter` has what it is, or why there is none.
pub(super) fn states(
    findings: &Findings,
    policy: Option<&PolicyFile>,
    filter: Result<&str, &str>,
) -> Vec<ControlState> {
    Control::ALL
        .iter()
        .map(|control| {
            let mut tried = findings.get(control).cloned().unwrap_or_else(not_tried);
            if *control == Control::NetworkNamespace
                && policy.is_some_and(|policy| !policy.loopback)
                && tried.state.satisfies()
            {
                "nothing, loopback is down".clone_into(&mut tried.how);
            }
            if *control == Control::Proc
                && policy.is_some_and(|policy| policy.proc == ProcView::Full)
                && tried.state.satisfies()
            {
                tried = Tried::partial("hidepid, masks", WHOLE_PROC);
            }
            if *control == Control::Seccomp && tried.state.satisfies() {
                match filter {
                    Ok(about) => about.clone_into(&mut tried.how),
                    Err(reason) => tried = Tried::missing(reason),
                }
            }
            let backed_by = match tried.state {
                State::Enforced => None,
                _ => backed_by(*control),
            };
            ControlState {
                id: *control,
                wanted: wanted(policy, *control),
                state: tried.state,
                how: tried.how,
                reason: tried.reason,
                backed_by: backed_by.map_or_else(String::new, |control| control.id().to_owned()),
            }
        })
        .collect()
}

/// The preferred controls that are not in force for a launch, or the refusal that names the
/// required one. What the group itself answered, and what else `this` launch found, counts before what
/// was found at the probe.
pub(super) fn missing(
    findings: &Findings,
    applied: &[Applied],
    this: &Findings,
    mode: Mode,
    policy: &PolicyFile,
) -> Result<Vec<Control>, Failure> {
    let mut missing = Vec::new();
    for control in Control::ALL {
        let wanted = policy.wanted(*control);
        if wanted == Wanted::Off {
            continue;
        }
        let of_group = applied
            .iter()
            .find(|applied| applied.control == *control)
            .and_then(|applied| Tried::group(applied, mode));
        let tried = of_group
            .or_else(|| this.get(control).cloned())
            .or_else(|| findings.get(control).cloned())
            .unwrap_or_else(not_tried);
        match wanted {
            _ if tried.state.satisfies() => {}
            Wanted::Required => return Err(refused(*control, &tried)),
            Wanted::Preferred | Wanted::Off => missing.push(*control),
        }
    }
    Ok(missing)
}

/// The refusal for want of one control.
pub(super) fn refused(control: Control, tried: &Tried) -> Failure {
    let state = tried.state.as_str();
    let message = match tried.reason.as_str() {
        "" => format!("control {control} is required and {state}"),
        reason => format!("control {control} is required and {state}: {reason}"),
    };
    let failure = failure::new(FailureKind::Control, message);
    match control.may_be_lowered() {
        true => failure::with_hint(
            failure,
            format!(
                "to run without it: [controls] {control} = \
                 {{ wanted = \"preferred\", i-accept-the-risk = \"why\" }}"
            ),
        ),
        false => failure,
    }
}

/// The control that a step of the jail puts into force.
pub(super) fn control_of(step: Step) -> Option<Control> {
    Some(match step {
        Step::R8 => Control::MemfdNoexec,
        Step::R9 => Control::Proc,
        Step::R10 => Control::Root,
        Step::R11 => Control::NetworkNamespace,
        Step::R12 => Control::UtsNamespace,
        Step::R14a => Control::CoreScheduling,
        Step::C3 | Step::C6 => Control::Capabilities,
        Step::C4 => Control::Uid,
        Step::C5 => Control::UserNamespace,
        Step::C5a => Control::TimeNamespace,
        Step::C7 => Control::NoNewPrivileges,
        Step::C8 => Control::Landlock,
        Step::C9 => Control::WriteXorExecute,
        Step::C11 => Control::Seccomp,
        _ => return None,
    })
}

fn wanted(policy: Option<&PolicyFile>, control: Control) -> Wanted {
    policy.map_or(control.default_wanted(), |policy| policy.wanted(control))
}

fn not_tried() -> Tried {
    Tried::missing("it was not tried")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(controls: &str) -> PolicyFile {
        let text = format!(
            "schema = 1\ndialect = 'goatflow'\nentry = 'x'\n[trust]\nunsigned = true\n\
             [controls]\n{controls}"
        );
        PolicyFile::parse(text.as_bytes()).unwrap()
    }

    fn all_enforced() -> Findings {
        Control::ALL
            .iter()
            .map(|control| (*control, Tried::enforced("test")))
            .collect()
    }

    #[test]
    fn what_is_not_built_is_listed_and_refuses_where_it_is_required() {
        let mut findings = all_enforced();
        let not_built = Tried {
            state: State::NotBuilt,
            ..Tried::missing("there is nothing of it")
        };
        findings.insert(Control::StateQuota, not_built);
        let missing = |policy| missing(&findings, &[], &Findings::new(), Mode::Root, &policy);
        let listed = missing(policy("")).unwrap();
        assert!(listed.contains(&Control::StateQuota));
        let refused = missing(policy("state-quota = 'required'")).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Control);
        assert!(
            refused
                .message
                .starts_with("control state-quota is required and not built: "),
            "{}",
            refused.message
        );
        let off = missing(policy("state-quota = 'off'")).unwrap();
        assert!(!off.contains(&Control::StateQuota));
    }

    #[test]
    fn what_a_launch_finds_counts_before_what_the_probe_found() {
        let findings = all_enforced();
        let this: Findings = [(Control::StateQuota, Tried::missing("not counted yet"))].into();
        let listed = missing(&findings, &[], &this, Mode::Root, &policy("")).unwrap();
        assert_eq!(listed, [Control::StateQuota]);
        let required = policy("state-quota = 'required'");
        let refused = missing(&findings, &[], &this, Mode::Root, &required).unwrap_err();
        assert!(
            refused.message.ends_with("missing: not counted yet"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_required_control_that_is_missing_refuses_by_name_and_reason() {
        let mut findings = all_enforced();
        let reason = "unshare: operation not permitted (os error 1)";
        findings.insert(Control::NetworkNamespace, Tried::missing(reason));
        let refused =
            missing(&findings, &[], &Findings::new(), Mode::Root, &policy("")).unwrap_err();
        assert_eq!(
            refused.message,
            format!("control network-namespace is required and missing: {reason}")
        );
        assert_eq!(refused.hint, None);
        findings = all_enforced();
        findings.insert(Control::Memory, Tried::missing("no controller"));
        assert!(
            missing(&findings, &[], &Findings::new(), Mode::Root, &policy(""))
                .unwrap_err()
                .hint
                .is_some()
        );
        let lowered = "memory = { wanted = 'preferred', i-accept-the-risk = 'no delegation' }";
        let listed = missing(
            &findings,
            &[],
            &Findings::new(),
            Mode::Root,
            &policy(lowered),
        )
        .unwrap();
        assert!(listed.contains(&Control::Memory));
    }

    #[test]
    fn what_was_in_force_and_is_no_more_has_failed_until_it_is_again() {
        let of = |tried: Tried| Findings::from([(Control::Landlock, tried)]);
        let steps = [
            (Tried::enforced("ABI 7"), State::Enforced, None),
            (Tried::missing("gone"), State::Failed, Some(false)),
            (Tried::missing("still gone"), State::Failed, None),
            (Tried::partial("ABI 3", "less"), State::Partial, Some(true)),
            (Tried::enforced("ABI 7"), State::Enforced, None),
        ];
        let mut before = of(Tried::missing("never was"));
        let mut now = of(Tried::missing("is not"));
        assert_eq!(changes(&before, &mut now), []);
        assert_eq!(now[&Control::Landlock].state, State::Missing);
        before = of(Tried::enforced("ABI 7"));
        for (tried, state, changed) in steps {
            let reason = tried.reason.clone();
            let mut now = of(tried);
            let found = changes(&before, &mut now);
            assert_eq!(now[&Control::Landlock].state, state, "{reason}");
            let expected = changed.map(|is_in_force| ControlChange {
                control: Control::Landlock,
                is_in_force,
                reason,
            });
            assert_eq!(found, Vec::from_iter(expected));
            before = now;
        }
        let refused = refused(
            Control::Seccomp,
            &Tried {
                state: State::Failed,
                ..Tried::missing("x")
            },
        );
        assert_eq!(refused.message, "control seccomp is required and failed: x");
    }

    #[test]
    fn a_posture_has_every_control_once() {
        let states = states(&all_enforced(), None, Ok("profile x"));
        let ids: Vec<Control> = states.iter().map(|state| state.id).collect();
        assert_eq!(ids, Control::ALL);
    }

    #[test]
    fn a_posture_says_which_filter_or_why_there_is_none() {
        let seccomp = |filter| {
            let states = states(&all_enforced(), None, filter);
            let mut states = states.into_iter();
            states.find(|state| state.id == Control::Seccomp).unwrap()
        };
        assert_eq!(seccomp(Ok("profile x")).how, "profile x");
        let missing = seccomp(Err("there is no profile x"));
        assert_eq!(missing.state, State::Missing);
        assert_eq!(missing.reason, "there is no profile x");
    }
}
