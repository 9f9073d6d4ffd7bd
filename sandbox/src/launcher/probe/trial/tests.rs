use pinfold_reaper::step::Step;

use super::*;
use crate::jail::{Ids, sealed_reaper};
use crate::launcher::files::{Files, ProfileUse};
use crate::posture::{Mode, State};

/// Root's, with ids of no installation.
fn setting(directory: &std::path::Path) -> Setting {
    let mut files = Files::nowhere();
    Setting {
        mode: Mode::Root,
        filter: Ok(files.filter(ProfileUse::plain("default")).unwrap()),
        own_filter: Ok(()),
        uid: Some(1_950_000_101),
        attach_dir: directory.to_owned(),
        states_dir: directory.to_owned(),
        project: None,
        reaper: sealed_reaper().unwrap(),
        trial_ids: Ok(Ids::Root {
            plugin: 1_950_000_101,
            reaper: 1_950_000_102,
        }),
    }
}

fn has_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        crate::skip::skip(test, "root", "needs root");
    }
    is_root
}

#[test]
fn a_whole_launch_holds_and_a_step_that_fails_is_named() {
    if !has_root("a_whole_launch_holds_and_a_step_that_fails_is_named") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let setting = setting(directory.path());
    let mut found = Findings::new();
    for control in [Control::UserNamespace, Control::Landlock, Control::Proc] {
        found.insert(control, Tried::enforced("test"));
    }
    let before = found.clone();
    let tried = run(&setting, &GroupFds::default(), &mut found);
    assert_eq!(tried.state, State::Enforced, "{tried:?}");
    assert_eq!(found, before);
    for (step, control) in [
        (Step::P8, None),
        (Step::R10, Some(Control::Root)),
        (Step::C6, Some(Control::Capabilities)),
        (Step::C11, Some(Control::Seccomp)),
    ] {
        let mut found = before.clone();
        let fault = Fault { step, errno: 18 };
        let tried = run_with(&setting, &GroupFds::default(), &mut found, Some(fault));
        let reason = format!("{step}: fault on purpose: cross-device link (EXDEV)");
        assert_eq!(
            tried,
            Tried::missing(format!("a whole launch failed: {reason}"))
        );
        let named = control.map(|control| found[&control].state);
        assert_eq!(named, control.map(|_| State::Missing), "{step}");
    }
}

#[test]
fn a_jail_without_a_filter_is_found_by_what_its_program_could_do() {
    if !has_root("a_jail_without_a_filter_is_found_by_what_its_program_could_do") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut setting = setting(directory.path());
    // `ret ALLOW`: one instruction, which is a filter by its mode.
    let mut open = vec![6, 0, 0, 0];
    open.extend(0x7fff_0000_u32.to_ne_bytes());
    if let Ok(filter) = &mut setting.filter {
        filter.killing = open.into();
    }
    // In which no other can be made, whatever the filter says.
    let control = Control::UserNamespace;
    let mut found = Findings::from([(control, Tried::enforced("test"))]);
    let tried = run(&setting, &GroupFds::default(), &mut found);
    assert_eq!(tried.state, State::Missing);
    for said in [
        "make a user namespace: ENOSPC",
        "mount: EPERM, expected was the end",
    ] {
        assert!(tried.reason.contains(said), "{tried:?}");
    }
    let seccomp = &found[&Control::Seccomp];
    assert!(
        seccomp.reason.starts_with("in a whole launch: "),
        "{seccomp:?}"
    );
    // What the other layers keep up without it is not among them.
    for holds in ["create a file in /", "signal process 1", "open /etc/shadow"] {
        assert!(!tried.reason.contains(holds), "{tried:?}");
    }
}
