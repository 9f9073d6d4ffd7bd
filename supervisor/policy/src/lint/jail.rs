//! What weakens the jail, or makes it too small.

use super::{Found, Rule};
use crate::{Control, ControlWish, Exec, PolicyFile, ProcView, Wanted};

/// Fewer than this and some runtime does not start: Go needs 10, Node 16, and twice that leaves them
/// room to work.
const PROCESSES_ENOUGH: u32 = 24;

pub(super) fn look(policy: &PolicyFile, found: &mut Found<'_>) {
    if policy.trust.unsigned {
        found.add(
            Rule::Unsigned,
            "trust.unsigned",
            "whatever lies in the plugin's directory runs: whoever can write there decides".into(),
            "pin the files or trust a key: `pinfold plugin grant PLUGIN` without --unsigned",
        );
    }
    if policy.limits.processes < PROCESSES_ENOUGH {
        found.add(
            Rule::ProcessesFew,
            "limits.processes",
            format!(
                "{} processes and threads: Go needs 10, Node 16, and hangs with less",
                policy.limits.processes
            ),
            "write 24 or more",
        );
    }
    if policy.exec == Exec::Stage {
        found.add(
            Rule::ExecStage,
            "exec",
            "any of its files with an execute bit may be executed, not the entry alone".into(),
            "take it away unless the plugin starts programs that it brings with it",
        );
    }
    for (at, group) in policy.syscall_groups.iter().enumerate() {
        found.add(
            Rule::ProfileGroups,
            &format!("syscall-groups[{at}]"),
            format!(
                "group {group} of the syscall profile is switched on, which it is not by default"
            ),
            "take it away unless the plugin needs its calls",
        );
    }
    if policy.proc == ProcView::Full {
        found.add(
            Rule::ProcFull,
            "proc",
            "what the machine is and how busy others are is seen in /proc; what a kernel adds there \
             while the plugin runs is seen too"
                .into(),
            "take it away unless the plugin does not work without: most ask the scheduler instead",
        );
    }
    if let Some(runtime) = &policy.runtime {
        let programs: Vec<&str> = runtime.programs().collect();
        found.add(
            Rule::RuntimeOfHost,
            "runtime",
            format!(
                "{} of the host run it, which no digest and no signature covers",
                programs.join(" and ")
            ),
            "keep the host's programs up to date, and the paths few",
        );
    }
    for (at, mount) in policy.mounts.iter().enumerate() {
        let path = format!("mounts[{at}]");
        let (source, target) = (&mount.source, &mount.target);
        match mount.rw {
            true => found.add(
                Rule::MountWritable,
                &path,
                format!("{source} of the host, which the plugin has at {target}, may be written"),
                "take rw away, or see to it that nothing of the host trusts what lies there",
            ),
            false => found.add(
                Rule::MountOfHost,
                &path,
                format!("{source} of the host can be read at {target}: no digest covers it"),
                "name no more of the host than the plugin needs",
            ),
        }
    }
    for (id, wish) in &policy.controls {
        if let Some(control) = Control::from_id(id) {
            control_of(control, wish, found);
        }
    }
}

fn control_of(control: Control, wish: &ControlWish, found: &mut Found<'_>) {
    let path = format!("controls.{control}");
    let (wanted, reason) = match wish {
        ControlWish::Plain(wanted) => (*wanted, None),
        ControlWish::Lowered { wanted, reason } => (*wanted, Some(reason.as_str())),
    };
    let because = reason.map_or_else(String::new, |reason| format!(" ({reason:?})"));
    match (control.default_wanted(), wanted) {
        (Wanted::Required, Wanted::Preferred) => found.add(
            Rule::ControlLowered,
            &path,
            format!("the plugin starts even where this cannot be had: {control}{because}"),
            "take it away once the machine gives it: `pinfold posture` says so",
        ),
        (Wanted::Required, Wanted::Off) => found.add(
            Rule::ControlLowered,
            &path,
            format!("the plugin runs without this: {control}{because}"),
            "write \"preferred\" at least, so that it holds where it can be had",
        ),
        (_, Wanted::Off) => found.add(
            Rule::ControlOff,
            &path,
            format!("switched off: {control}. {}", control.about()),
            "take the line away: where it cannot be had, nothing is refused for it",
        ),
        (_, Wanted::Required | Wanted::Preferred) if reason.is_some() => found.add(
            Rule::RiskWithoutNeed,
            &path,
            format!("a risk is accepted that is none: {control} is not lowered{because}"),
            "write the word alone",
        ),
        _ => {}
    }
}
