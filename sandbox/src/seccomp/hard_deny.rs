//! What no profile may allow, whatever it says.
//!
//! A jail's other walls assume that these stay shut: two of them (address families beyond the
//! network namespace, and the kernel's younger subsystems) are kept by the filter alone.

use super::Action;
use super::profile::{Call, Condition, Effective, Group, Rule, Width};

/// Why the profile must not be taken, if this entry allows something of the list.
pub(super) fn reason(group: &Group, call: &Call) -> Option<&'static str> {
    let allowing = allowing_rules(group, call);
    if allowing.is_empty() {
        return None;
    }
    if let Some((_, reason)) = CALLS
        .iter()
        .find(|(names, _)| names.contains(&call.name.as_str()))
    {
        return Some(reason);
    }
    let safe: fn(&[Condition]) -> bool = match call.name.as_str() {
        "clone" => makes_no_namespace,
        "socket" | "socketpair" => names_safe_sockets,
        _ => return None,
    };
    if allowing.iter().all(|conditions| safe(conditions)) {
        return None;
    }
    Some(match call.name.as_str() {
        "clone" => "new namespaces must be excluded by a test of the flags",
        _ => {
            "address family and type must each be tested against values that the namespaces confine"
        }
    })
}

/// Calls that are denied with some arguments.
const BY_ARGUMENTS: [&str; 3] = ["clone", "socket", "socketpair"];

/// The calls of which the list says anything: that they are denied whole, or what must be tested of their
/// arguments.
pub(super) fn listed() -> impl Iterator<Item = &'static str> {
    let whole = CALLS.iter().flat_map(|(names, _)| names.iter().copied());
    whole.chain(BY_ARGUMENTS)
}

/// Whether the list says anything of this call.
pub(super) fn is_listed(call: &str) -> bool {
    listed().any(|listed| listed == call)
}

/// The conditions under which an entry allows its call: one list for each way. An empty list in it
/// means "always". For an optional group it is what holds once it is on.
pub(super) fn allowing_rules<'a>(group: &Group, call: &'a Call) -> Vec<&'a [Condition]> {
    let mut on = group.clone();
    if let super::GroupAction::Optional { enabled, .. } = &mut on.action {
        *enabled = true;
    }
    match on.decision_of(call) {
        Effective::Always(Action::Allow) => vec![&[]],
        Effective::Always(_) => vec![],
        // What `else` allows is allowed under no condition that could be relied on.
        Effective::Rules(_, Action::Allow) => vec![&[]],
        Effective::Rules(rules, _) => rules
            .iter()
            .filter(|rule| rule.action == Action::Allow)
            .map(|rule: &Rule| rule.when.as_slice())
            .collect(),
    }
}

/// Calls that are denied whole, with what each would open.
pub(super) const CALLS: &[(&[&str], &str)] = &[
    (
        &[
            "mount",
            "umount2",
            "pivot_root",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "fsopen",
            "fsmount",
            "fsconfig",
            "fspick",
            "mount_setattr",
            "chroot",
        ],
        "it changes what the jail's paths mean",
    ),
    (
        &["open_by_handle_at"],
        "it opens files beyond the jail's root",
    ),
    (&["bpf"], "it loads code into the kernel"),
    (
        &[
            "init_module",
            "finit_module",
            "delete_module",
            "kexec_load",
            "kexec_file_load",
            "reboot",
        ],
        "it replaces or ends the kernel",
    ),
    (
        &["swapon", "swapoff", "iopl", "ioperm", "modify_ldt"],
        "it reaches hardware or the kernel",
    ),
    (
        &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        "its operations bypass this filter",
    ),
    (
        &["userfaultfd"],
        "it lets a program stop the kernel in the middle of a copy",
    ),
    (&["ptrace"], "it takes over other processes"),
    (
        &["keyctl", "add_key", "request_key"],
        "keyrings are not confined by namespaces",
    ),
    (
        &["perf_event_open"],
        "it measures other programs and is a wide door into the kernel",
    ),
    (
        &["unshare", "setns", "clone3"],
        "it makes or enters namespaces",
    ),
];

/// `CLONE_NEW*` (linux/sched.h) as far as clone(2) takes them; `CLONE_NEWTIME` lies within the
/// bits of its exit signal, where it has no effect.
const NAMESPACES: u64 = 0x7e02_0000;
/// `AF_UNIX`, `AF_INET`, `AF_INET6` (linux/socket.h): those that the jail's namespaces confine. Any
/// other family, one that a later kernel adds too, is a door of its own.
const FAMILIES: [u64; 3] = [1, 2, 10];
/// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_SEQPACKET` (socket(2)). The others are raw, or obsolete.
const TYPES: [u64; 3] = [1, 2, 5];
/// The bits of a type without its flags.
const TYPE_BITS: u64 = 0xf;

fn makes_no_namespace(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| {
        condition.arg == 0
            && condition.mask & NAMESPACES == NAMESPACES
            && condition.values.iter().all(|value| value & NAMESPACES == 0)
    })
}

fn names_safe_sockets(conditions: &[Condition]) -> bool {
    let family = conditions.iter().any(|condition| {
        condition.arg == 0
            && condition.mask & Width::Low32.bits() == Width::Low32.bits()
            && condition.values.iter().all(|value| {
                // An `int`: the kernel does not look at the upper half.
                FAMILIES.contains(&(value & Width::Low32.bits()))
            })
    });
    let r#type = conditions.iter().any(|condition| {
        condition.arg == 1
            && condition.mask & TYPE_BITS == TYPE_BITS
            && condition
                .values
                .iter()
                .all(|value| TYPES.contains(&(value & TYPE_BITS)))
    });
    family && r#type
}
