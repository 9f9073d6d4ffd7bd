//! What a plugin with the whole of `/proc` has of it.

use std::ffi::CString;

use pinfold_reaper::whole_proc::is_shown;

/// What of the kernel's is masked, and what it would tell or do. Whatever else a kernel has at these
/// places is masked too.
pub const MASKED_PROC: [(&str, &str); 54] = [
    ("acpi", "switches of the machine's hardware"),
    (
        "allocinfo",
        "which code of the kernel holds how much memory",
    ),
    ("asound", "the machine's sound devices"),
    ("bootconfig", "what the machine was booted with"),
    ("buddyinfo", "the layout of the machine's memory"),
    (
        "bus",
        "devices on the machine's buses, which can be written to",
    ),
    ("cgroups", "how many control groups the machine has"),
    (
        "cmdline",
        "what the machine was booted with: disks, sometimes secrets",
    ),
    (
        "config.gz",
        "how the kernel was built: what of it can be attacked",
    ),
    ("consoles", "the machine's consoles"),
    (
        "crypto",
        "ciphers of the kernel, and the modules that have them",
    ),
    ("device-tree", "the machine's hardware, with serial numbers"),
    ("devices", "drivers of the machine"),
    ("diskstats", "what everybody reads and writes"),
    ("dma", "the machine's hardware"),
    ("driver", "switches of drivers"),
    ("dynamic_debug", "switches of the kernel's messages"),
    ("execdomains", "modules of the kernel"),
    ("fb", "the machine's screens"),
    ("fs", "file systems of the machine, and switches of them"),
    (
        "interrupts",
        "what everybody does, keystrokes included, by counters for each processor and device (`stat` has their sums)",
    ),
    ("iomem", "addresses of the kernel in memory"),
    ("ioports", "the machine's hardware"),
    (
        "irq",
        "which processor serves which device, which can be written to",
    ),
    ("kallsyms", "addresses of the kernel's functions"),
    ("kcore", "the memory of the whole machine"),
    ("key-users", "who has how many keys"),
    ("keys", "keys of others"),
    ("kmsg", "the kernel's messages, with addresses and names"),
    ("kpagecgroup", "whose each page of memory is"),
    ("kpagecount", "how often each page of memory is mapped"),
    ("kpageflags", "what each page of memory is for"),
    ("latency_stats", "where others wait"),
    ("locks", "which files of the host are locked by whom"),
    ("mdstat", "the machine's disks"),
    ("misc", "drivers of the machine"),
    ("modules", "modules of the kernel, with addresses"),
    (
        "mtrr",
        "caching of the machine's memory, which can be written to",
    ),
    ("pagetypeinfo", "the layout of the machine's memory"),
    ("partitions", "the machine's disks"),
    (
        "pressure",
        "how busy others are, and a way to be woken by it",
    ),
    ("sched_debug", "every process of the machine by name"),
    ("schedstat", "what others do, by counters"),
    ("scsi", "the machine's disks, which can be written to"),
    (
        "slabinfo",
        "what the kernel allocates: how far an attack on it is",
    ),
    (
        "softirqs",
        "what others do, by counters for each processor (`stat` has their sums)",
    ),
    ("swaps", "the machine's disks"),
    ("sys", "the kernel's settings, for all of the machine"),
    ("sysrq-trigger", "restarts the machine"),
    (
        "timer_list",
        "timers of others, with addresses of the kernel",
    ),
    ("tty", "drivers of the machine's terminals"),
    ("vmallocinfo", "addresses of the kernel"),
    ("vmstat", "what others do, by counters"),
    ("zoneinfo", "the layout of the machine's memory"),
];

/// What else may be there and is masked with no reason of its own.
const UNLISTED: &str = "what a plugin has no use for";

/// Why a path of a jail with the whole of `/proc` leads to an empty mask; none where it does not.
#[must_use]
pub fn masked_proc(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("/proc/")?.split('/').next()?;
    if is_shown(&CString::new(name).ok()?) {
        return None;
    }
    let known = MASKED_PROC.iter().find(|(masked, _)| *masked == name);
    Some(known.map_or(UNLISTED, |(_, reason)| reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_is_not_shown_and_has_its_row_in_the_documentation() {
        let page = include_str!("../../../docs/jail.md");
        for (name, reason) in MASKED_PROC {
            assert_eq!(masked_proc(&format!("/proc/{name}/x")), Some(reason));
            let row = format!("| `{name}` | {reason} |");
            assert!(page.contains(&row), "{row}");
        }
        let names = MASKED_PROC.map(|(name, _)| name);
        assert!(names.is_sorted());
        for shown in pinfold_reaper::whole_proc::SHOWN {
            let name = shown.to_str().unwrap();
            assert_eq!(masked_proc(&format!("/proc/{name}")), None, "{name}");
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
        assert_eq!(masked_proc("/proc/12/maps"), None);
        assert_eq!(masked_proc("/proc/another"), Some(UNLISTED));
        assert_eq!(masked_proc("/process"), None);
    }
}
