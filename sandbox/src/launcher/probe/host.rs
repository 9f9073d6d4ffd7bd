//! Settings of the host that would add to the walls: advice, never a condition.

use crate::posture::Advice;

/// A setting of the kernel's below `/proc/sys`.
#[derive(Clone, Copy, Debug)]
struct Setting {
    name: &'static str,
    advised: Advised,
    why: &'static str,
}

/// What hardens.
#[derive(Clone, Copy, Debug)]
enum Advised {
    Is(i64),
    /// The higher, the stricter.
    AtLeast(i64),
    /// For core_pattern (core(5)): no `|` before a program.
    NoProgram,
}

const SETTINGS: [Setting; 9] = [
    Setting {
        name: "kernel.unprivileged_bpf_disabled",
        advised: Advised::AtLeast(1),
        why: "takes BPF programs away from users without rights",
    },
    Setting {
        name: "kernel.io_uring_disabled",
        advised: Advised::AtLeast(1),
        why: "takes io_uring away, whose errors have been many",
    },
    Setting {
        name: "kernel.perf_event_paranoid",
        advised: Advised::AtLeast(2),
        why: "keeps performance counters from users without rights",
    },
    Setting {
        name: "vm.unprivileged_userfaultfd",
        advised: Advised::Is(0),
        why: "keeps user faults from users without rights, a help to many exploits",
    },
    Setting {
        name: "dev.tty.legacy_tiocsti",
        advised: Advised::Is(0),
        why: "forbids typing into another's terminal",
    },
    Setting {
        name: "kernel.dmesg_restrict",
        advised: Advised::Is(1),
        why: "keeps the kernel's log from users without rights",
    },
    Setting {
        name: "kernel.kptr_restrict",
        advised: Advised::AtLeast(1),
        why: "hides the kernel's addresses",
    },
    Setting {
        name: "kernel.yama.ptrace_scope",
        advised: Advised::AtLeast(1),
        why: "limits who may trace whom",
    },
    Setting {
        name: "kernel.core_pattern",
        advised: Advised::NoProgram,
        why: "the kernel starts a program there as root at a crash, even of what may leave no core dump",
    },
];

/// Most swap areas that are named.
const AREAS_LIMIT: usize = 4;

/// The settings that are not as advised here.
pub(in super::super) fn advice() -> Vec<Advice> {
    let settings = SETTINGS.iter().filter_map(|setting| {
        let path = format!("/proc/sys/{}", setting.name.replace('.', "/"));
        // A kernel without the setting mostly lacks what it limits, so there is nothing to advise.
        let found = std::fs::read_to_string(path).ok()?;
        let found = found.trim();
        (!setting.advised.holds(found)).then(|| Advice {
            setting: setting.name.into(),
            found: found.into(),
            advised: setting.advised.text(),
            why: setting.why.into(),
        })
    });
    let areas = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    settings.chain(advice_on_swap(&areas)).collect()
}

/// Advice where memory is written to disks, given the kernel's table of swap areas (proc(5)).
fn advice_on_swap(table: &str) -> Option<Advice> {
    let names = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next());
    let areas: Vec<&str> = names
        .filter(|name| !name.is_empty() && !name.starts_with("/dev/zram"))
        .take(AREAS_LIMIT)
        .collect();
    (!areas.is_empty()).then(|| Advice {
        setting: "swap".into(),
        found: areas.join(", "),
        advised: "none, or an encrypted one,".into(),
        why: "the daemon's memory can be written there, and read from the disk later; a jail's is not".into(),
    })
}

impl Advised {
    fn holds(self, found: &str) -> bool {
        match self {
            Self::Is(value) => found.parse() == Ok(value),
            Self::AtLeast(least) => found.parse().is_ok_and(|found: i64| found >= least),
            Self::NoProgram => !found.starts_with('|'),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Is(value) => value.to_string(),
            Self::AtLeast(least) => format!(">={least}"),
            Self::NoProgram => "the name of a file".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_the_table_means_them() {
        for (found, advised, expected) in [
            ("2", Advised::AtLeast(1), true),
            ("0", Advised::AtLeast(1), false),
            ("?", Advised::AtLeast(1), false),
            ("0", Advised::Is(0), true),
            ("1", Advised::Is(0), false),
            ("core", Advised::NoProgram, true),
            ("/var/crash/%p", Advised::NoProgram, true),
            (
                "|/usr/lib/systemd/systemd-coredump %P",
                Advised::NoProgram,
                false,
            ),
        ] {
            assert_eq!(advised.holds(found), expected, "{found} {advised:?}");
        }
    }

    #[test]
    fn swap_on_disks_is_told_and_swap_in_memory_is_not() {
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        let in_memory = "/dev/zram0                              partition\t8\t\t0\t\t100\n";
        assert_eq!(advice_on_swap(""), None);
        assert_eq!(advice_on_swap(head), None);
        assert_eq!(advice_on_swap(&format!("{head}{in_memory}")), None);
        let disk = "/dev/sda2                               partition\t8\t\t0\t\t-2\n";
        let told = advice_on_swap(&format!("{head}{in_memory}{disk}")).unwrap();
        assert_eq!((&*told.setting, &*told.found), ("swap", "/dev/sda2"));
    }

    /// What stands before the settings in the file that the packages bring.
    const HEAD: &str = "\
# Settings of the kernel that add to the walls around plugins: what `pinfold posture` advises. Nothing
# needs them, and nothing puts them in force by itself:
#
#     sudo install -m 644 /usr/share/pinfold/sysctl.conf /etc/sysctl.d/90-pinfold.conf
#     sudo sysctl --system
#
# They hold for the whole machine: read them first. A line whose value is higher here already is to be
# taken out, for higher is stricter (but of kernel.unprivileged_bpf_disabled, where 1 stays until the next
# boot, and 2 can be taken back; and of vm.unprivileged_userfaultfd and dev.tty.legacy_tiocsti, where lower
# is stricter: those stay). What this kernel does not have is passed over.
";

    /// Where the file has more than the least: it is not to lower what distributions set by themselves.
    const HIGHER: [(&str, &str); 2] = [
        ("kernel.perf_event_paranoid", "3"),
        ("kernel.kptr_restrict", "2"),
    ];

    #[test]
    fn the_packaged_file_has_the_tables_settings() {
        let mut file = HEAD.to_owned();
        for Setting { name, advised, why } in SETTINGS {
            let value = match advised {
                Advised::Is(value) | Advised::AtLeast(value) => value.to_string(),
                Advised::NoProgram => "core".into(),
            };
            let higher = HIGHER.iter().find(|(one, _)| *one == name);
            let value = higher.map_or(value, |(_, value)| (*value).to_owned());
            assert!(advised.holds(&value), "{name}");
            file += &format!("\n# {why}\n-{name} = {value}\n");
        }
        let packaged = include_str!("../../../../packaging/sysctl.conf");
        assert!(packaged == file, "packaging/sysctl.conf has to be:\n{file}");
    }
}
