//! First lines that name something of the host's: to the daemon, and to a Go host.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pinfold_tests::{deadline, go_fixture, stretched, wait_for};

use super::attempt::{Attempt, Seen};
use super::bait::Bait;
use super::{Daemon, Results};

/// How many seconds are given to connect where a first line says.
const PATIENCE: u32 = 3;

pub(super) fn run(daemon: &Daemon, bait: &Bait, attempts: &[&Attempt]) -> Results {
    let both = |attempt: &&Attempt| {
        let (inside, outside) = (inside(daemon, bait, attempt.id), outside(bait, attempt.id));
        (attempt.id, Seen { inside, outside })
    };
    attempts.iter().map(both).collect()
}

fn inside(daemon: &Daemon, bait: &Bait, mode: &str) -> String {
    bait.is_taken();
    let mut policy = format!("[timeouts]\nhandshake = '{}'\n[env]\n", deadline(PATIENCE));
    for (name, value) in bait.servers() {
        policy += &format!("{name} = '{value}'\n");
    }
    daemon.add_policy(mode, &policy);
    daemon.add_plugin(mode, "goatflow-any");
    daemon.rescan(Some(mode));
    let reason = wait_for(&format!("{mode} to be refused"), || {
        let reason = daemon.plugin(mode)["reason"].as_str()?.to_owned();
        (!reason.is_empty()).then_some(reason)
    });
    fs::remove_dir_all(daemon.base().join("plugins").join(mode)).unwrap();
    daemon.rescan(Some(mode));
    match bait.is_taken() {
        true => "ok".to_owned(),
        false => reason,
    }
}

fn outside(bait: &Bait, mode: &str) -> String {
    // The program behaves as it is called.
    let program = bait.path().join(mode);
    fs::copy(go_fixture("goatflow-any"), &program).unwrap();
    let mut host = Command::new(go_fixture("host"))
        .args(["-call", "echo"])
        .arg(&program)
        .envs(bait.servers())
        .env("TMPDIR", bait.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + stretched(PATIENCE);
    let mut is_taken = false;
    while !is_taken && Instant::now() < end && host.try_wait().unwrap().is_none() {
        is_taken = bait.is_taken();
        std::thread::sleep(Duration::from_millis(5)); // connecting has no event of its own
    }
    is_taken |= bait.is_taken();
    // Its plugin ends with its end of the pipe, or else by name of its own file alone.
    let plugin = super::super::process::children(host.id());
    host.kill().unwrap();
    host.wait().unwrap();
    for pid in plugin {
        super::super::process::end(pid);
    }
    match is_taken {
        true => "ok".to_owned(),
        false => "the host refuses it".to_owned(),
    }
}
