//! Settings of the host that would add to the walls: advice, never a condition.

use crate::posture::Advice;

/// Setting, value that hardens, why. A value that begins with `>=` is a least one.
const SETTINGS: [(&str, &str, &str); 8] = [
    (
        "kernel.unprivileged_bpf_disabled",
        ">=1",
        "takes BPF programs away from users without rights",
    ),
    (
        "kernel.io_uring_disabled",
        ">=1",
        "takes io_uring away, whose errors have been many",
    ),
    (
        "kernel.perf_event_paranoid",
        ">=2",
        "keeps performance counters from users without rights",
    ),
    (
        "vm.unprivileged_userfaultfd",
        "0",
        "keeps user faults from users without rights, a help to many exploits",
    ),
    (
        "dev.tty.legacy_tiocsti",
        "0",
        "forbids typing into another's terminal",
    ),
    (
        "kernel.dmesg_restrict",
        "1",
        "keeps the kernel's log from users without rights",
    ),
    (
        "kernel.kptr_restrict",
        ">=1",
        "hides the kernel's addresses",
    ),
    (
        "kernel.yama.ptrace_scope",
        ">=1",
        "limits who may trace whom",
    ),
];

/// The settings that are not as advised here.
pub(in super::super) fn advice() -> Vec<Advice> {
    SETTINGS
        .iter()
        .filter_map(|(setting, advised, why)| {
            let path = format!("/proc/sys/{}", setting.replace('.', "/"));
            let found = match std::fs::read_to_string(path) {
                Ok(text) => text.trim().to_owned(),
                Err(_) => "absent".into(),
            };
            (!is_as_advised(&found, advised)).then(|| Advice {
                setting: (*setting).into(),
                found,
                advised: (*advised).into(),
                why: (*why).into(),
            })
        })
        .collect()
}

/// A kernel without the setting mostly lacks what it limits, so there is nothing to advise.
fn is_as_advised(found: &str, advised: &str) -> bool {
    if found == "absent" {
        return true;
    }
    match advised.strip_prefix(">=") {
        Some(least) => match (found.parse::<i64>(), least.parse::<i64>()) {
            (Ok(found), Ok(least)) => found >= least,
            _ => false,
        },
        None => found == advised,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_the_table_means_them() {
        for (found, advised, expected) in [
            ("2", ">=1", true),
            ("0", ">=1", false),
            ("0", "0", true),
            ("1", "0", false),
            ("absent", "0", true),
            ("?", ">=1", false),
        ] {
            assert_eq!(is_as_advised(found, advised), expected, "{found} {advised}");
        }
    }
}
