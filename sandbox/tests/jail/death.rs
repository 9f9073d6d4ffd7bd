//! Ends: of the plugin, of the jail, of whoever started it.

#![expect(
    clippy::disallowed_methods,
    reason = "a test starts itself again as a launcher"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::ability;
use super::harness::{end_of, launch, lines, spec, wait_readable};
use pinfold_sandbox::jail::ExitStatus;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Set in the process that plays the launcher.
const AS_LAUNCHER: &str = "PINFOLD_TEST_AS_LAUNCHER";

#[test]
fn the_plugins_own_status_is_told() {
    if !ability::root("the_plugins_own_status_is_told") {
        return;
    }
    for (act, status) in [
        ("exit:0", ExitStatus::Code(0)),
        ("exit:7", ExitStatus::Code(7)),
        ("abort", ExitStatus::Signal(6)),
    ] {
        let jail = launch(&spec(&[act])).unwrap();
        assert_eq!(end_of(&jail), Some(status), "{act}");
        assert!(matches!(jail.reaper.reap(), Ok(Some(_))), "{act}");
    }
}

#[test]
fn terminate_reaches_the_main_process() {
    if !ability::root("terminate_reaches_the_main_process") {
        return;
    }
    let jail = launch(&spec(&["say:up", "wait"])).unwrap();
    assert!(lines(&jail).any(|line| line == "up"));
    assert_eq!(jail.plugin_status(), None);
    jail.terminate().unwrap();
    assert_eq!(end_of(&jail), Some(ExitStatus::Signal(15)));
    jail.terminate().unwrap();
    jail.kill().unwrap();
}

/// Every process of the jail's PID namespace.
fn members(namespace: &std::path::Path) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let of = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
        (of == namespace).then_some(pid)
    });
    processes.collect()
}

fn open(pid: i32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

#[test]
fn killing_process_1_ends_everything_in_the_jail() {
    if !ability::root("killing_process_1_ends_everything_in_the_jail") {
        return;
    }
    let jail = launch(&spec(&["orphans:20", "say:forked", "wait"])).unwrap();
    assert!(lines(&jail).any(|line| line == "forked"));
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", jail.plugin_pid)).unwrap();
    let members = members(&namespace);
    assert!(members.len() > 20, "{members:?}");
    let handles: Vec<_> = members
        .into_iter()
        .filter_map(|pid| pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok())
        .collect();
    jail.kill().unwrap();
    handles.iter().for_each(wait_readable);
    assert_eq!(jail.plugin_status(), None, "the reaper was killed first");
}

#[test]
fn the_end_of_the_main_process_ends_its_orphans() {
    if !ability::root("the_end_of_the_main_process_ends_its_orphans") {
        return;
    }
    let jail = launch(&spec(&["orphans:5", "say:forked", "wait"])).unwrap();
    assert!(lines(&jail).any(|line| line == "forked"));
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", jail.plugin_pid)).unwrap();
    jail.terminate().unwrap();
    assert_eq!(end_of(&jail), Some(ExitStatus::Signal(15)));
    assert_eq!(
        jail.reaper.reap().unwrap(),
        Some(ExitStatus::Code(128 + 15))
    );
    assert_eq!(members(&namespace), [] as [i32; 0]);
}

#[test]
fn dropping_the_handle_ends_the_jail() {
    if !ability::root("dropping_the_handle_ends_the_jail") {
        return;
    }
    let jail = launch(&spec(&["wait"])).unwrap();
    let handles = [open(jail.plugin_pid), open(jail.reaper.pid())];
    drop(jail);
    handles.iter().for_each(wait_readable);
}

#[test]
fn the_end_of_the_launcher_ends_the_jail() {
    if std::env::var_os(AS_LAUNCHER).is_some() {
        be_a_launcher();
    }
    if !ability::root("the_end_of_the_launcher_ends_the_jail") {
        return;
    }
    let mut launcher = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "jail::death::the_end_of_the_launcher_ends_the_jail",
            "--nocapture",
        ])
        .env(AS_LAUNCHER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(launcher.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let pids = told
        // Behind the name of the test, where one runs at a time.
        .find_map(|line| {
            line.split_once("jail with ")
                .map(|(_, pids)| pids.to_owned())
        })
        .unwrap();
    let handles: Vec<_> = pids
        .split(' ')
        .map(|pid| open(pid.parse().unwrap()))
        .collect();
    assert_eq!(handles.len(), 2);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    handles.iter().for_each(wait_readable);
}

fn be_a_launcher() -> ! {
    let jail = launch(&spec(&["say:up", "wait"])).unwrap();
    assert!(lines(&jail).any(|line| line == "up"));
    println!("jail with {} {}", jail.reaper.pid(), jail.plugin_pid);
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}
