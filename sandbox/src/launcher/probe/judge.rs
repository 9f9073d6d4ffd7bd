//! What must come of each act of a trial.

use pinfold_policy::Control;
use pinfold_reaper::trial::Act;
use rustix::io::Errno;

use super::trial::{PROCESSES, Seen};
use crate::jail::{ExitStatus, Ids, JailSpec, USER_MODE_ID};
use crate::launcher::controls::Findings;

/// What must come of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Is(i64),
    /// The kernel's refusal.
    Refused(Errno),
    AtMost(i64),
    /// The end of the program by this signal.
    Killed(i32),
    /// Nothing in particular: what would make it fail is not in force, and said elsewhere.
    Anything,
}

/// A clock that begins with the program has gone no further.
const YOUNG_SECONDS: i64 = 60;

/// What did not come as it must, with the control that it tells of, where it is one.
pub(super) fn judge(
    seen: &Seen,
    spec: &JailSpec,
    found: &Findings,
) -> Vec<(Option<Control>, String)> {
    Act::ALL
        .iter()
        .filter_map(|act| {
            let (control, expected) = expected(*act, spec, found);
            let outcome = seen.outcomes.get(&(*act as u8)).copied();
            let holds = match expected {
                Expected::Anything => true,
                Expected::Is(value) => outcome == Some(value),
                Expected::Refused(errno) => outcome == Some(-i64::from(errno.raw_os_error())),
                Expected::AtMost(most) => outcome.is_some_and(|value| (0..=most).contains(&value)),
                Expected::Killed(signal) => {
                    outcome.is_none() && seen.end == Some(ExitStatus::Signal(signal))
                }
            };
            (!holds).then(|| (control, sentence(*act, expected, outcome, seen.end)))
        })
        .collect()
}

fn sentence(act: Act, expected: Expected, outcome: Option<i64>, end: Option<ExitStatus>) -> String {
    let found = match (outcome, expected) {
        (Some(value), _) if value < 0 => errno(value),
        (Some(value), Expected::Refused(_)) => format!("done ({value})"),
        (Some(value), _) => value.to_string(),
        (None, _) => match end {
            Some(ExitStatus::Code(code)) => format!("nothing, the program ended with {code}"),
            Some(ExitStatus::Signal(signal)) => {
                format!("nothing, signal {signal} ended the program")
            }
            None => "nothing".to_owned(),
        },
    };
    let expected = match expected {
        Expected::Is(value) => value.to_string(),
        Expected::Refused(code) => errno(-i64::from(code.raw_os_error())),
        Expected::AtMost(most) => format!("at most {most}"),
        Expected::Killed(signal) => format!("the end by signal {signal}"),
        Expected::Anything => "anything".to_owned(),
    };
    format!("{}: {found}, expected was {expected}", act.about())
}

fn errno(negative: i64) -> String {
    let number = i32::try_from(-negative).unwrap_or(0);
    format!("{:?}", nix::errno::Errno::from_raw(number))
}

/// The control that an act tells of, and what must come of it.
fn expected(act: Act, spec: &JailSpec, found: &Findings) -> (Option<Control>, Expected) {
    use Expected::{Anything, AtMost, Is, Killed, Refused};
    let has = |control: Control| {
        found
            .get(&control)
            .is_some_and(|tried| tried.state.satisfies())
    };
    let where_there = |control: Control, expected: Expected| match has(control) {
        true => (Some(control), expected),
        false => (Some(control), Anything),
    };
    let (control, expected) = match act {
        Act::ProcessId => (Control::PidNamespace, Is(2)),
        Act::UserId => match spec.ids {
            Ids::Root { plugin, .. } => (Control::Uid, Is(plugin.into())),
            Ids::User => (Control::UserNamespace, Is(USER_MODE_ID.into())),
        },
        Act::NoNewPrivileges => (Control::NoNewPrivileges, Is(1)),
        Act::FilterMode => (Control::Seccomp, Is(2)),
        Act::Capabilities | Act::Bounding => (Control::Capabilities, Is(0)),
        Act::HostName => (Control::UtsNamespace, Is(1)),
        Act::Descriptors | Act::WriteTmp => return (None, Is(0)),
        Act::CoreLimit => return (None, AtMost(1)),
        Act::HostFile | Act::HostTree => (Control::Root, Refused(Errno::NOENT)),
        Act::WriteRoot => (Control::Root, Refused(Errno::ROFS)),
        Act::WriteStage => (Control::Stage, Refused(Errno::ROFS)),
        Act::ExecuteTmp => (Control::Stage, Refused(Errno::ACCESS)),
        Act::ProcKernel | Act::ProcOther => {
            return where_there(Control::Proc, Refused(Errno::NOENT));
        }
        Act::SignalReaper => match spec.ids {
            Ids::Root { .. } => (Control::Uid, Refused(Errno::PERM)),
            // Both have one user id, and what keeps it out is Landlock's, from its version 6 on.
            Ids::User => return (None, Anything),
        },
        Act::LinkInRun => return where_there(Control::Landlock, Refused(Errno::ACCESS)),
        Act::MakeCode => return where_there(Control::WriteXorExecute, Refused(Errno::ACCESS)),
        Act::Loopback => (Control::NetworkNamespace, Is(0)),
        Act::Outside => (Control::NetworkNamespace, Refused(Errno::NETUNREACH)),
        Act::OtherFamily => (Control::Seccomp, Refused(Errno::AFNOSUPPORT)),
        Act::NewNamespace => (Control::Seccomp, Refused(Errno::PERM)),
        Act::IoUring => (Control::Seccomp, Refused(Errno::NOSYS)),
        Act::Uptime => return where_there(Control::TimeNamespace, AtMost(YOUNG_SECONDS)),
        Act::Processes => match has_groups(spec) {
            true => (Control::Processes, AtMost(PROCESSES.into())),
            // Where nothing else counts, the user id's own limit does: twice as many as root.
            false => (Control::Processes, AtMost(i64::from(PROCESSES) * 2)),
        },
        Act::Tripwire => (Control::Seccomp, Killed(libc::SIGSYS)),
    };
    (Some(control), expected)
}

fn has_groups(spec: &JailSpec) -> bool {
    !spec.groups.v1_tasks.is_empty() || spec.groups.v2_dir.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_instead_is_said() {
        let said = |expected, outcome, end| sentence(Act::WriteRoot, expected, outcome, end);
        let refused = Expected::Refused(Errno::ROFS);
        for (outcome, end, text) in [
            (Some(0), None, "done (0)"),
            (Some(-13), None, "EACCES"),
            (None, None, "nothing"),
            (
                None,
                Some(ExitStatus::Signal(9)),
                "nothing, signal 9 ended the program",
            ),
        ] {
            assert_eq!(
                said(refused, outcome, end),
                format!("create a file in /: {text}, expected was EROFS")
            );
        }
        assert_eq!(
            said(Expected::AtMost(8), Some(64), None),
            "create a file in /: 64, expected was at most 8"
        );
    }

    #[test]
    fn acts_have_numbers_of_their_own_in_their_order() {
        let numbers: Vec<u8> = Act::ALL.iter().map(|act| *act as u8).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(Act::ALL.last(), Some(&Act::Tripwire));
    }
}
