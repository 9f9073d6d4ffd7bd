//! Control groups: the limits on memory, processor time and processes.

use pinfold_sandbox::cgroup::{Controller, Hierarchy, Place, ProcPaths};

use super::Findings;
use crate::cli::review::chain;

const CHECK: &str = "control groups";

pub(super) fn look(found: &mut Findings) {
    let hierarchy = match Hierarchy::discover(&ProcPaths::own()) {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            let mend = "mount them: systemd does, /sys/fs/cgroup";
            found.fail(CHECK, chain(&error), mend);
            return;
        }
    };
    let wanted = [
        ("memory", Controller::Memory),
        ("cpu", Controller::Cpu),
        ("pids", Controller::Pids),
    ];
    let (mut v1, mut missing) = (Vec::new(), Vec::new());
    // Where this command runs is not where the launcher does: what the machine has at all counts.
    let everywhere =
        std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    for (name, controller) in wanted {
        match hierarchy.place(controller) {
            Place::V2 => {}
            Place::V1 { .. } => v1.push(name),
            Place::Missing if everywhere.split_whitespace().any(|one| one == name) => {}
            Place::Missing => missing.push(name),
        }
    }
    if !missing.is_empty() {
        found.fail(
            CHECK,
            format!("no controller for {}", missing.join(", ")),
            "look at cgroup_disable= and cgroup_enable= on the kernel's command line",
        );
    }
    if !v1.is_empty() {
        let what = format!("{} in hierarchies of version 1", v1.join(", "));
        if hierarchy.has_unified() {
            found.note(CHECK, what);
        } else {
            found.warn(CHECK, what, "boot with systemd.unified_cgroup_hierarchy=1");
        }
    }
    if missing.is_empty() && v1.is_empty() {
        found.fine(CHECK, "memory, cpu and pids, version 2");
    }
}
