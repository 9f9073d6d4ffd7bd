//! System calls: decided by running the filter that the plugin would run under.

use pinfold_policy::Places;
use pinfold_sandbox::launcher::review::{FilesError, ProfileUse, ReviewedProfile};
use pinfold_sandbox::seccomp::{
    Action, Arch, Condition, Decision as Rules, Group, GroupAction, Profile, SyscallData, Width,
    syscall_number,
};

use super::{Decided, Decision};
use crate::cli::commands::policy::origin::Origin;
use crate::cli::exit::{Exit, Failure};
use crate::cli::review::{Policy, Review};

/// Why a system call cannot be decided on.
#[derive(Debug, thiserror::Error)]
enum SyscallError {
    #[error("no system call of {arch} is named {name:?}{}", .near.map_or(String::new(), |near| format!(", did you mean {near:?}?")))]
    Unknown {
        name: String,
        arch: Arch,
        near: Option<&'static str>,
    },
    #[error("the syscall profile of the policy cannot be used")]
    Profile(#[source] FilesError),
    #[error("there are no syscall filters for this machine's architecture")]
    Architecture,
    #[error("run the filter")]
    Evaluate(#[source] pinfold_sandbox::seccomp::EvaluateError),
}

impl From<SyscallError> for Failure {
    fn from(error: SyscallError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

pub(super) fn decide(
    review: &Review,
    policy: &Policy,
    name: &str,
    arguments: Option<&[u64; 6]>,
) -> Result<Decided, Failure> {
    let arch = Arch::native().ok_or(SyscallError::Architecture)?;
    let number = syscall_number(arch, name).ok_or_else(|| SyscallError::Unknown {
        name: name.to_owned(),
        arch,
        near: pinfold_sandbox::seccomp::nearest_syscall(name),
    })?;
    let reviewed = review
        .files
        .profile(ProfileUse::of(&policy.file))
        .map_err(SyscallError::Profile)?;
    let answer = |args: [u64; 6]| {
        let data = SyscallData {
            number,
            arch: arch.audit_value(),
            instruction_pointer: 0,
            args,
        };
        reviewed
            .program
            .evaluate(&data)
            .map_err(SyscallError::Evaluate)
    };
    let found = reviewed.profile.find(name);
    let mut by = vec![of_policy(policy)];
    by.push(of_profile(&reviewed, name));
    let rules = match found.map(|(group, call)| (is_in_force(group), call.decision())) {
        Some((true, Rules::Rules { rules, .. })) if arguments.is_none() => rules.as_slice(),
        _ => &[],
    };
    let mut notes = Vec::new();
    if let Some((group, call)) = found {
        notes.push(format!("{}: {}", group.name(), group.why()));
        notes.extend(call.why().map(str::to_owned));
        if let GroupAction::Optional { enabled: false, .. } = group.action() {
            notes.push(format!("{} is optional, and not switched on", group.name()));
        }
        if let GroupAction::Optional { enabled: true, .. } = group.action() {
            notes.push(format!("{} is optional, and switched on", group.name()));
        }
    }
    if name == "socket" && !policy.file.loopback {
        notes.push("loopback = false: sockets for IPv4 and IPv6 are refused".into());
    }
    if rules.is_empty() {
        let action = answer(arguments.copied().unwrap_or_default())?;
        let (decision, why) = words(action, &reviewed.profile, found.map(|(group, _)| group));
        let mut decided = Decided::new(decision, why, by);
        decided.notes = notes;
        return Ok(decided);
    }
    // Each rule is asked of the filter itself, with arguments that meet its conditions.
    let mut is_allowed = false;
    for rule in rules {
        let action = answer(meeting(&rule.when))?;
        is_allowed |= action == Action::Allow;
        let when: Vec<String> = rule.when.iter().map(condition).collect();
        notes.push(format!("{action} where {}", when.join(" and ")));
    }
    if let Some((_, call)) = found
        && let Rules::Rules { otherwise, .. } = call.decision()
    {
        notes.push(format!("{otherwise} otherwise"));
    }
    let decision = if is_allowed {
        Decision::Allowed
    } else {
        Decision::Refused
    };
    let why = "it depends on the arguments: name them to have one call decided, NAME(ARGUMENT, …)";
    let mut decided = Decided::new(decision, why, by);
    decided.notes = notes;
    Ok(decided)
}

/// Arguments that meet conditions; those of which they say nothing are 0.
fn meeting(conditions: &[Condition]) -> [u64; 6] {
    let mut args = [0; 6];
    for condition in conditions {
        let value = condition.values.first().copied().unwrap_or_default();
        if let Some(arg) = args.get_mut(usize::from(condition.arg)) {
            *arg |= value;
        }
    }
    args
}

fn condition(condition: &Condition) -> String {
    let Condition {
        arg,
        width,
        mask,
        values,
    } = condition;
    let masked = if *mask == width.bits() {
        String::new()
    } else {
        format!(" & {mask:#x}")
    };
    let bits = match width {
        Width::Low32 => 32,
        Width::Full64 => 64,
    };
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!(
        "argument {arg} ({bits} bits){masked} is {}",
        values.join(" or ")
    )
}

fn is_in_force(group: &Group) -> bool {
    !matches!(group.action(), GroupAction::Optional { enabled: false, .. })
}

fn words(action: Action, profile: &Profile, group: Option<&Group>) -> (Decision, String) {
    let profile = profile.name();
    let by = match group {
        Some(group) => format!("group {} of syscall profile {profile:?}", group.name()),
        None => format!("no group of syscall profile {profile:?} mentions it: its default"),
    };
    match action {
        Action::Allow => (Decision::Allowed, format!("{by} allows it")),
        Action::Errno(errno) => {
            let errno = errno.as_str().to_ascii_uppercase();
            (Decision::Refused, format!("{by} answers {errno}"))
        }
        Action::Kill => (Decision::Refused, format!("{by} ends the plugin for it")),
    }
}

fn of_policy(policy: &Policy) -> Origin {
    match policy.places.value("profile") {
        None => Origin::default(),
        place => Origin::of("policy", Some(&policy.path), &policy.places, place),
    }
}

/// The line of the profile that mentions the call, or else its default.
fn of_profile(reviewed: &ReviewedProfile, name: &str) -> Origin {
    let places = Places::of(&reviewed.text);
    let quoted = format!("\"{name}\"");
    let is = |path: &str| places.raw(path) == Some(quoted.as_str());
    let mut path = "default".to_owned();
    let mut look = |prefix: &str, suffix: &str| {
        for at in 0.. {
            let here = format!("{prefix}[{at}]{suffix}");
            if places.value(&here).is_none() {
                break;
            }
            if is(&here) {
                path = here;
            }
        }
    };
    for group in 0.. {
        if places.value(&format!("group[{group}].name")).is_none() {
            break;
        }
        look(&format!("group[{group}].calls"), "");
        look(&format!("group[{group}].call"), ".name");
    }
    // What is kept of the base's groups.
    for narrow in 0.. {
        if places.value(&format!("narrow[{narrow}].group")).is_none() {
            break;
        }
        look(&format!("narrow[{narrow}].keep"), "");
        for also in 0.. {
            let list = format!("narrow[{narrow}].also[{also}]");
            if places.value(&format!("{list}.needed-by")).is_none() {
                break;
            }
            look(&format!("{list}.calls"), "");
        }
    }
    Origin::of(
        "profile",
        reviewed.path.as_deref(),
        &places,
        places.value(&path),
    )
}
