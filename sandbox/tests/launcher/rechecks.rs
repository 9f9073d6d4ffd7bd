//! Controls that were in force when the launcher started, and are so no more: found without anybody
//! asking, told, and refused for.

use std::process::Command;

use pinfold_policy::Control;
use pinfold_sandbox::posture::State;
use pinfold_sandbox::protocol::{ControlChange, Event, FailureKind};

use crate::machine::{Machine, PATIENCE, has_root, lines_until};
use crate::skip::skip;
use crate::user_mode::{LOWERED, start_with};

/// How many IPC namespaces there may be in the launcher's user namespace: of nobody else's on the
/// machine.
fn set_quota(machine: &Machine, quota: &str) -> bool {
    let script = format!("echo {quota} > /proc/sys/user/max_ipc_namespaces");
    #[expect(
        clippy::disallowed_methods,
        reason = "the test changes a setting as an operator would"
    )]
    let status = Command::new("nsenter")
        .args(["--user", "--target", &machine.child.id().to_string()])
        .args(["sh", "-c", &script])
        .status();
    status.is_ok_and(|status| status.success())
}

/// The next change of this control, whatever else changes.
fn next_change(machine: &Machine, control: Control) -> ControlChange {
    loop {
        match machine.client.next_event(PATIENCE).unwrap() {
            Event::ControlChanged(change) if change.control == control => return change,
            Event::ControlChanged(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_control_that_disappears_is_told_and_refuses_until_it_is_back() {
    let test = "a_control_that_disappears_is_told_and_refuses_until_it_is_back";
    // Only root may enter another's user namespace.
    if !has_root(test) {
        return;
    }
    let Some(machine) = start_with(test, "probe-interval = \"1s\"\n") else {
        return;
    };
    let control = Control::IpcNamespace;
    let state = || machine.posture(None).control(control).unwrap().state;
    assert_eq!(state(), State::Enforced);
    let before = machine
        .run("before", &["say=here", "wait"], LOWERED)
        .unwrap();
    lines_until(before.stdout, "here");
    if !set_quota(&machine, "0") {
        skip(
            test,
            "nsenter",
            "the launcher's user namespace cannot be entered",
        );
        return;
    }
    let change = next_change(&machine, control);
    assert!(!change.is_in_force);
    assert!(change.reason.contains("No space left"), "{change:?}");
    // Asked for again it is still what it was told to be, and what runs goes on.
    assert_eq!(state(), State::Failed);
    assert!(machine.stats(before.instance).is_ok());
    let refused = machine.run("after", &["wait"], LOWERED).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Control);
    assert_eq!(
        refused.message,
        format!(
            "control {control} is required and failed: {}",
            change.reason
        )
    );
    assert!(set_quota(&machine, "100"));
    assert!(next_change(&machine, control).is_in_force);
    assert_eq!(state(), State::Enforced);
    let again = machine
        .run("again", &["say=here", "wait"], LOWERED)
        .unwrap();
    lines_until(again.stdout, "here");
}

#[test]
fn a_whole_launch_is_made_and_holds() {
    if !has_root("a_whole_launch_is_made_and_holds") {
        return;
    }
    let machine = Machine::start();
    let posture = machine.posture(None);
    let trial = posture.control(Control::Trial).unwrap();
    assert_eq!(trial.state, State::Enforced, "{trial:?}");
    assert!(trial.how.starts_with("28 acts in "), "{trial:?}");
}
