//! The size limit of a plugin's lasting directory, on a file system of the test's own.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use pinfold_policy::Control;
use pinfold_sandbox::posture::State;
use pinfold_sandbox::protocol::{ExitCause, FailureKind};

use crate::machine::{Machine, Setup, has_root, output};
use crate::skip::skip;

/// A launcher whose state is on ext4 that limits projects; or `None` after saying why not.
fn limited(test: &str) -> Option<Machine> {
    if !has_root(test) {
        return None;
    }
    let images = tempfile::tempdir().unwrap();
    let image = images.path().join("image");
    let made = make(&image).and_then(|()| {
        // Once more than is needed, to skip before there is a launcher.
        let place = images.path().join("place");
        fs::create_dir(&place).unwrap();
        mount(&image, &place)?;
        run("umount", &[place.to_str().unwrap()])
    });
    if let Err(reason) = made {
        skip(test, "project-quota", &reason);
        return None;
    }
    let prepare = |root: &Path| {
        let state = root.join("state");
        fs::create_dir(&state).unwrap();
        mount(&image, &state).unwrap();
    };
    // Mounted, the image is there as long as the launcher is.
    Some(Machine::with(Setup {
        prepare: Some(&prepare),
        ..Setup::default()
    }))
}

fn make(image: &Path) -> Result<(), String> {
    fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
    let image = image.to_str().unwrap();
    let options = ["-q", "-O", "project,quota", "-E", "quotatype=prjquota"];
    run("mkfs.ext4", &[&options[..], &[image]].concat())
}

fn mount(image: &Path, place: &Path) -> Result<(), String> {
    let (image, place) = (image.to_str().unwrap(), place.to_str().unwrap());
    run("mount", &["-o", "loop,prjquota", image, place])
}

/// Runs a tool of the machine's, or says why it cannot.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "file systems are made by tools")]
    let ran = Command::new(program).args(arguments).output();
    let ran = ran.map_err(|error| format!("needs {program}: {error}"))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!(
            "needs a kernel with quotas of projects on ext4: {program}: {}",
            said.trim()
        )),
    }
}

/// All that a plugin says which is launched again under another policy.
fn again(machine: &Machine, plugin: &str, acts: &[&str], more: &str) -> String {
    let acts = [acts, &["exit=0"]].concat();
    machine.add_policy(plugin, &acts, more);
    let (digest, _) = machine.stage(plugin).unwrap();
    let launched = machine.launch_with(plugin, digest, &[]).unwrap();
    let said = text(launched.stdout);
    assert_eq!(
        machine.exited(launched.instance),
        ExitCause::Code(0),
        "{said}"
    );
    said
}

fn text(pipe: OwnedFd) -> String {
    output(pipe)
}

/// Least of a policy under which the limit has to be there.
const SMALL: &str = "[limits]\nstate = \"1MiB\"\nstate-files = 32\n\
                     [controls]\nstate-quota = \"required\"\n";
const OFF: &str = "[controls]\nstate-quota = \"off\"\n";

#[test]
fn more_than_its_limits_cannot_be_written_into_a_lasting_directory() {
    let test = "more_than_its_limits_cannot_be_written_into_a_lasting_directory";
    let Some(machine) = limited(test) else {
        return;
    };
    let posture = machine.posture(None);
    let control = posture.control(Control::StateQuota).unwrap();
    assert_eq!(control.state, State::Enforced, "{control:?}");
    for plugin in ["filler", "other"] {
        machine.add_plugin(plugin);
    }
    let big = ["pour=/state/a:4096", "litter=/state/d:100"];
    let said = again(&machine, "filler", &big, SMALL);
    assert!(
        said.contains("pour /state/a: Disk quota exceeded"),
        "{said}"
    );
    assert!(said.contains("litter /state/d: some"), "{said}");
    // It is one plugin's, and lasts: a neighbour has its own, the next instance has no more.
    let said = again(&machine, "other", &["pour=/state/a:512"], SMALL);
    assert!(said.contains("pour /state/a: done"), "{said}");
    let said = again(&machine, "filler", &["pour=/state/b:64"], SMALL);
    assert!(
        said.contains("pour /state/b: Disk quota exceeded"),
        "{said}"
    );
    // The same acts come through where there is room for them, and where there is no limit.
    let room = SMALL.replace("1MiB", "16MiB").replace("32", "1000");
    let said = again(&machine, "filler", &big, &room);
    assert_eq!(said.matches(": done").count(), 2, "{said}");
    let said = again(&machine, "filler", &["pour=/state/c:20480"], OFF);
    assert!(said.contains("pour /state/c: done"), "{said}");
}

#[test]
fn files_from_before_there_was_a_limit_count() {
    let test = "files_from_before_there_was_a_limit_count";
    let Some(machine) = limited(test) else {
        return;
    };
    machine.add_plugin("old");
    let acts = [
        "litter=/state/d:3",
        "pour=/state/d/0:2048",
        "symlink=/state/d/link",
    ];
    let said = again(&machine, "old", &acts, OFF);
    assert_eq!(said.matches(": done").count(), 2, "{said}");
    let said = again(&machine, "old", &["pour=/state/b:64"], SMALL);
    assert!(
        said.contains("pour /state/b: Disk quota exceeded"),
        "{said}"
    );
}

#[test]
fn without_quotas_the_limit_is_missing_and_refuses_where_it_is_required() {
    let test = "without_quotas_the_limit_is_missing_and_refuses_where_it_is_required";
    if !has_root(test) {
        return;
    }
    // In memory there are none.
    let prepare = |root: &Path| {
        let state = root.join("state");
        fs::create_dir(&state).unwrap();
        run("mount", &["-t", "tmpfs", "none", state.to_str().unwrap()]).unwrap();
    };
    let machine = Machine::with(Setup {
        prepare: Some(&prepare),
        ..Setup::default()
    });
    let posture = machine.posture(None);
    let control = posture.control(Control::StateQuota).unwrap();
    assert_eq!(control.state, State::Missing);
    assert!(control.reason.contains("prjquota"), "{control:?}");
    let launched = machine.run("any", &["wait"], "").unwrap();
    assert!(launched.missing.contains(&"state-quota".to_owned()));
    let refused = machine.run("strict", &["wait"], SMALL).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Control);
    let told = "control state-quota is required and missing: ";
    assert!(refused.message.starts_with(told), "{refused}");
    let launched = machine.run("none", &["wait"], OFF).unwrap();
    assert!(!launched.missing.contains(&"state-quota".to_owned()));
    // Nor does that machine's disk have limits: it has none.
    let control = posture.control(Control::Io).unwrap();
    assert_eq!(control.state, State::Missing, "{control:?}");
}
