//! What becomes of what nobody adopts, and of who waits for a launcher that ends.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::machine::PATIENCE;

/// The plugin ends by itself.
fn ends_by_itself(kept: &Launched) {
    let groups = crate::aftermath::groups(kept.pid);
    let plugin = Pid::from_raw(kept.pid.try_into().unwrap()).unwrap();
    kill_process(plugin, Signal::SEGV).unwrap();
    eventually("nothing of it is left", || {
        !lives(kept.pid) && groups.iter().all(|group| !group.exists())
    });
}

/// The daemon goes, the plugin that it kept ends by itself, and the next daemon comes.
fn ends_while_kept(machine: &mut Machine, kept: &Launched) {
    machine.close();
    ends_by_itself(kept);
    machine.reconnect();
}

#[test]
fn a_daemon_that_never_comes_back_leaves_no_process_group_or_launcher() {
    if !has_root("a_daemon_that_never_comes_back_leaves_no_process_group_or_launcher") {
        return;
    }
    let mut machine = service("handover-limit = \"1s\"\n");
    let (kept, _) = listening(&machine, "kept");
    let groups = crate::aftermath::groups(kept.pid);
    hand_over(&machine, &[&kept]);
    machine.close();
    assert!(lives(kept.pid), "it is kept");
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    ends(kept.pid, "nobody came");
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}

#[test]
fn what_the_next_daemon_does_not_adopt_ends_at_the_limit_and_no_handover_prolongs_it() {
    if !has_root(
        "what_the_next_daemon_does_not_adopt_ends_at_the_limit_and_no_handover_prolongs_it",
    ) {
        return;
    }
    let mut machine = service("handover-limit = \"1s\"\n");
    let (left, _) = listening(&machine, "left");
    let (kept, digest) = listening(&machine, "kept");
    hand_over(&machine, &[&left, &kept]);
    machine.reconnect();
    machine.stage("kept").unwrap();
    let mut adopted = adopt(&machine, "kept", digest).unwrap();
    // Again and again, faster than the limit: what nobody adopts still has but the one.
    let deadline = Instant::now() + PATIENCE;
    while lives(left.pid) {
        assert!(Instant::now() < deadline, "what was left goes on");
        hand_over(&machine, &[&adopted.launched]);
        machine.reconnect();
        adopted = adopt(&machine, "kept", digest).unwrap();
    }
    connects(&machine, &adopted.launched);
    // And then it is its own daemon's again, whose end ends it.
    machine.close();
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    ends(kept.pid, "its daemon ended without Handover");
}

#[test]
fn what_the_next_daemon_discards_ends_at_once_and_what_is_a_daemons_does_not() {
    if !has_root("what_the_next_daemon_discards_ends_at_once_and_what_is_a_daemons_does_not") {
        return;
    }
    let mut machine = service("");
    let (kept, digest) = listening(&machine, "kept");
    let (off, _) = listening(&machine, "off");
    let (gone, _) = listening(&machine, "gone");
    let (ended, _) = listening(&machine, "ended");
    // Before there is anything that waits for another daemon.
    assert_eq!(discard(&machine, None), None);
    assert_eq!(discard(&machine, Some("kept")), None);
    hand_over(&machine, &[&kept, &off, &gone, &ended]);
    assert_eq!(discard(&machine, None), None);
    ends_while_kept(&mut machine, &ended);
    let told = |plugin: &str, reason: &str| EndedKept {
        plugin: id(plugin),
        generation: Generation(1),
        reason: reason.into(),
    };
    let why = "the next daemon does not go on with it";
    assert_eq!(discard(&machine, Some("off")), Some(told("off", why)));
    ends(off.pid, "it is discarded");
    assert_eq!(discard(&machine, Some("off")), None, "twice");
    assert_eq!(discard(&machine, Some("absent")), None);
    assert!(lives(kept.pid) && lives(gone.pid));
    machine.stage("kept").unwrap();
    let adopted = adopt(&machine, "kept", digest).unwrap();
    assert_eq!(discard(&machine, None), Some(told("gone", why)));
    ends(gone.pid, "nobody asks for it");
    let by_itself = ExitCause::Signal(libc::SIGSEGV).to_string();
    assert_eq!(discard(&machine, None), Some(told("ended", &by_itself)));
    assert_eq!(discard(&machine, None), None);
    connects(&machine, &adopted.launched);
}

/// Whether somebody waits on the socket, where the launcher has ended.
fn somebody_waits(machine: &Machine) -> bool {
    let listener = machine.listener.as_ref().unwrap();
    rustix::io::ioctl_fionbio(listener, true).unwrap();
    rustix::net::accept(listener).is_ok()
}

#[test]
fn a_launcher_that_ends_leaves_who_connects_to_the_next_one() {
    if !has_root("a_launcher_that_ends_leaves_who_connects_to_the_next_one") {
        return;
    }
    let mut machine = service("");
    let (kept, _) = listening(&machine, "kept");
    let (other, _) = listening(&machine, "other");
    hand_over(&machine, &[&kept]);
    machine.close();
    ends(other.pid, "the launcher waits for another daemon");
    // Stopped, it finds both when it goes on: first that it is to end, then who comes.
    let launcher = Pid::from_child(&machine.child);
    let stat = format!("/proc/{}/stat", machine.child.id());
    kill_process(launcher, Signal::STOP).unwrap();
    eventually("it is stopped", || {
        fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    kill_process(launcher, Signal::TERM).unwrap();
    machine.reconnect();
    kill_process(launcher, Signal::CONT).unwrap();
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
    ends(kept.pid, "the launcher ends");
    assert!(somebody_waits(&machine));
}

#[test]
fn a_launcher_that_should_be_another_by_now_leaves_who_connects_to_that() {
    if !has_root("a_launcher_that_should_be_another_by_now_leaves_who_connects_to_that") {
        return;
    }
    type Change = fn(&Machine);
    let changes: [Change; 2] = [
        |machine| {
            let path = machine.path("launcher.toml");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("require-signatures = true\n{text}")).unwrap();
        },
        |machine| {
            let new = machine.path("new");
            fs::write(&new, "new").unwrap();
            fs::rename(new, machine.path("pinfold-launcher")).unwrap();
        },
    ];
    for change in changes {
        let mut machine = service("");
        let (kept, _) = listening(&machine, "kept");
        hand_over(&machine, &[&kept]);
        machine.close();
        change(&machine);
        machine.reconnect();
        assert_eq!(machine.child.wait().unwrap().code(), Some(0));
        ends(kept.pid, "the launcher is to be another");
        assert!(somebody_waits(&machine));
    }
}

#[test]
fn how_a_kept_plugin_has_ended_is_told_to_who_asks_for_it_once() {
    if !has_root("how_a_kept_plugin_has_ended_is_told_to_who_asks_for_it_once") {
        return;
    }
    let mut machine = service("");
    let (kept, _) = listening(&machine, "kept");
    let (ended, digest) = listening(&machine, "ended");
    hand_over(&machine, &[&kept, &ended]);
    ends_while_kept(&mut machine, &ended);
    machine.stage("ended").unwrap();
    let reason = adopt(&machine, "ended", digest).unwrap_err();
    assert_eq!(reason, Some(ExitCause::Signal(libc::SIGSEGV).to_string()));
    assert_eq!(adopt(&machine, "ended", digest).unwrap_err(), None);
    assert!(lives(kept.pid));
}

#[test]
fn how_a_plugin_has_ended_that_was_named_while_its_daemon_was_there_is_told_to_the_next_one() {
    if !has_root(
        "how_a_plugin_has_ended_that_was_named_while_its_daemon_was_there_is_told_to_the_next_one",
    ) {
        return;
    }
    // Also where nothing else is kept.
    for others in [&["kept"][..], &[]] {
        let mut machine = service("");
        let (ended, digest) = listening(&machine, "ended");
        let others: Vec<_> = others
            .iter()
            .map(|other| listening(&machine, other).0)
            .collect();
        let named: Vec<_> = others.iter().chain([&ended]).collect();
        hand_over(&machine, &named);
        ends_by_itself(&ended);
        machine.close();
        machine.reconnect();
        machine.stage("ended").unwrap();
        let reason = adopt(&machine, "ended", digest).unwrap_err();
        assert_eq!(reason, Some(ExitCause::Signal(libc::SIGSEGV).to_string()));
        assert_eq!(adopt(&machine, "ended", digest).unwrap_err(), None);
        assert!(others.iter().all(|other| lives(other.pid)));
    }
}
