//! The benchmark's own machinery: a subject is in its group, counted there, and gone with it; and a
//! try of the sections that show what holds, not only how fast it is.

use std::process::{Command, Stdio};
use std::time::Duration;

use pinfold_tests::bench::group::Groups;
use pinfold_tests::bench::process::{LIMIT, Process};
use pinfold_tests::{binary, require, scratch};

#[test]
fn a_subject_is_counted_in_its_group_and_gone_with_it() {
    if !require(&["root", "cgroup-v1"]) {
        return;
    }
    let groups = Groups::discover(binary("bench")).unwrap();
    let group = groups.make().unwrap();
    assert!(group.processes().is_empty());
    let mut command = group.command("/bin/sh");
    // The second process is nobody's child once the shell is gone.
    command.args([
        "-c",
        "sleep 1000 & i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo done; cat",
    ]);
    let mut subject = Process::start("a shell", command).unwrap();
    subject.hear("done", LIMIT).unwrap();
    let processes = group.processes();
    assert!(
        processes.contains(&subject.id()) && processes.len() >= 2,
        "{processes:?}"
    );
    assert!(group.processor_time().unwrap() > Duration::ZERO);
    assert!(group.memory().unwrap().charged_bytes > 0);
    drop(subject);
    assert!(!group.processes().is_empty());
    group.remove().unwrap();
    for process in processes {
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let ended = state.is_empty() || state.contains(") Z ") || state.contains(") X ");
        assert!(ended, "process {process} is left: {state}");
    }
}

#[test]
fn groups_are_gone_also_when_nobody_removes_them() {
    if !require(&["root", "cgroup-v1"]) {
        return;
    }
    let groups = Groups::discover(binary("bench")).unwrap();
    let group = groups.make().unwrap();
    let mut subject = Process::start("cat", group.command("cat")).unwrap();
    subject.say("here").unwrap();
    subject.hear("here", LIMIT).unwrap();
    drop(group);
    let ended = subject.line(LIMIT).unwrap_err().to_string();
    assert!(ended.contains("signal: 9"), "{ended}");
}

#[test]
fn a_subject_that_fails_is_quoted() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo what is wrong >&2; exit 3"]);
    let mut subject = Process::start("a shell", command).unwrap();
    let error = subject.line(LIMIT).unwrap_err().to_string();
    assert!(
        error.contains("status: 3") && error.contains("what is wrong"),
        "{error}"
    );
}

#[test]
fn a_crowd_answers_and_a_neighbour_does_its_worst_in_a_try() {
    if !require(&["root", "cgroup-v1", "go"]) {
        return;
    }
    let place = scratch();
    let output = Command::new(binary("bench"))
        .args(["--quick", "--only", "crowd,neighbours", "--report"])
        .arg(place.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = std::fs::read_to_string(place.path().join("performance.md")).unwrap();
    let all = "20 of 20 jailed plugins answered at once.";
    assert!(report.contains(all), "{report}");
    for row in ["hostile neighbour", "quiet neighbour"] {
        let row = format!("| beside 19 others | {row} |");
        assert!(report.contains(&row), "{report}");
    }
}
