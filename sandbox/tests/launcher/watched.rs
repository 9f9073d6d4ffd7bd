//! Watched runs: in its whole jail a plugin does what it does unwatched, and what it asks of the kernel is
//! written down. Nobody but the launcher's owner can have one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use pinfold_policy::{Moment, WatchOrder, WatchRecord, WatchedCall};
use pinfold_sandbox::protocol::{ExitCause, KillHow, Launched};
use pinfold_sandbox::seccomp::{Arch, Profile, syscall_name, syscall_number};

use crate::machine::{Machine, Setup, eventually, has_root, lines_until, output};
use crate::workloads::{self, trace, work};

const ALLOWED: Setup<'static> = Setup {
    config: "watched-runs = true\n",
    arguments: &[],
    environment: &[],
    prepare: None,
    user: None,
};

fn now() -> Moment {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Moment::from_unix_seconds(now.as_secs())
}

/// Orders that a plugin is watched for so long.
pub(crate) fn order(machine: &Machine, plugin: &str, seconds: u64) {
    let order = WatchOrder::new("r1".into(), now(), seconds).unwrap();
    write_order(machine, plugin, &order.to_toml());
}

fn write_order(machine: &Machine, plugin: &str, text: &str) {
    let directory = machine.path("state/watch");
    eventually("the launcher is there", || directory.is_dir());
    let path = directory.join(format!("{plugin}.toml"));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The one record of a plugin, once it is whole.
fn record(machine: &Machine, plugin: &str) -> WatchRecord {
    let path = machine
        .path("state/watch")
        .join(format!("{plugin}.0.calls"));
    let read = || WatchRecord::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    eventually("the record is whole", || read().is_whole);
    read()
}

fn name(number: u32) -> String {
    let arch = Arch::native().unwrap();
    let name = syscall_name(arch, number).map(str::to_owned);
    name.unwrap_or_else(|| number.to_string())
}

/// Names of the calls that were allowed.
fn allowed(record: &WatchRecord) -> BTreeSet<String> {
    let calls = record.calls.keys().filter_map(|call| match call {
        WatchedCall::Allowed { number } => Some(name(*number)),
        _ => None,
    });
    calls.collect()
}

/// Names of the calls that failed, with their errors.
fn refused(record: &WatchRecord) -> BTreeSet<(String, u32)> {
    let calls = record.calls.keys().filter_map(|call| match call {
        WatchedCall::Refused { number, errno } => Some((name(*number), *errno)),
        _ => None,
    });
    calls.collect()
}

#[test]
fn a_watched_program_does_its_work_and_the_record_is_what_another_tracer_sees() {
    let test = "a_watched_program_does_its_work_and_the_record_is_what_another_tracer_sees";
    if !has_root(test) {
        return;
    }
    let Some(workload) = workloads::static_c(test, "cc", "static-glibc") else {
        return;
    };
    let profile = Profile::builtin("static").unwrap();
    let machine = Machine::with(ALLOWED);
    let traced = trace(&machine, &workload, &profile);
    order(&machine, "worker", 60);
    work(&machine, &workload, "static").assert_done("watched");
    let record = record(&machine, "worker");
    assert_eq!(record.head.profile, "static");
    assert_eq!(record.head.run, "r1");
    // Whether a child is found waiting, or has been waited for already, is a matter of timing.
    let differ: BTreeSet<String> = &allowed(&record) ^ &traced;
    let by_timing = ["pause", "futex", "sched_yield", "restart_syscall"];
    assert!(
        differ.iter().all(|call| by_timing.contains(&call.as_str())),
        "{differ:?}"
    );
    assert_eq!(
        record.calls.keys().collect::<Vec<_>>(),
        record.counts.keys().collect::<Vec<_>>()
    );
}

#[test]
fn a_watched_go_program_does_its_work_under_its_profile() {
    let test = "a_watched_go_program_does_its_work_under_its_profile";
    if !has_root(test) {
        return;
    }
    let Some(workload) = workloads::go(test) else {
        return;
    };
    let machine = Machine::with(ALLOWED);
    order(&machine, "worker", 60);
    work(&machine, &workload, "go").assert_done("watched");
    let record = record(&machine, "worker");
    let allowed = allowed(&record);
    for call in ["execve", "futex", "epoll_pwait", "openat", "exit_group"] {
        assert!(allowed.contains(call), "{call}: {allowed:?}");
    }
}

#[test]
fn what_a_profile_refuses_is_refused_the_same_while_it_is_watched_and_noted() {
    let test = "what_a_profile_refuses_is_refused_the_same_while_it_is_watched_and_noted";
    if !has_root(test) {
        return;
    }
    let Some(workload) = workloads::static_c(test, "cc", "static-glibc") else {
        return;
    };
    let machine = Machine::with(ALLOWED);
    let profiles = machine.path("data/profiles");
    fs::create_dir_all(&profiles).unwrap();
    fs::set_permissions(&profiles, fs::Permissions::from_mode(0o755)).unwrap();
    let path = profiles.join("fewer.toml");
    fs::write(&path, FEWER).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let plain = work(&machine, &workload, "fewer");
    order(&machine, "worker", 60);
    let watched = work(&machine, &workload, "fewer");
    assert_eq!(plain.output, watched.output);
    assert_eq!(plain.cause, watched.cause);
    let record = record(&machine, "worker");
    let refused = refused(&record);
    let enosys = libc::ENOSYS.unsigned_abs();
    let is_mkdir = |call: &str| call.starts_with("mkdir");
    assert!(
        refused
            .iter()
            .any(|(call, errno)| is_mkdir(call) && *errno == enosys),
        "{refused:?}"
    );
    assert!(!allowed(&record).iter().any(|call| is_mkdir(call)));
}

/// The default without some calls that programs make.
const FEWER: &str = r#"
schema = 1
name = "fewer"
arch = ["x86_64", "aarch64"]
default = "enosys"
[[narrow]]
group = "@file"
why = "A test."
keep = ["open", "openat", "access", "faccessat", "stat", "fstat", "newfstatat", "readlink", "readlinkat"]
[[narrow]]
group = "@system-read"
why = "A test."
keep = ["getrandom", "prlimit64", "sysinfo"]
[use]
base = "default"
include = [
  "@exit-signal", "@memory", "@threads", "@process", "@identity-read", "@system-read",
  "@time-read", "@io", "@event", "@file", "@socket", "@ioctl", "@prctl", "@arch", "@refused",
  "@tripwire",
]
"#;

/// Starts the test program in a watched run.
fn run(machine: &Machine, args: &[&str]) -> Launched {
    order(machine, "hello", 60);
    let launched = machine.run("hello", args, "").unwrap();
    assert!(launched.watched_until.is_some());
    launched
}

#[test]
fn a_call_that_the_profile_kills_for_ends_a_watched_jail_and_is_named() {
    if !has_root("a_call_that_the_profile_kills_for_ends_a_watched_jail_and_is_named") {
        return;
    }
    let machine = Machine::with(ALLOWED);
    let launched = run(&machine, &["swapoff", "say=lived", "wait"]);
    match machine.exited(launched.instance) {
        ExitCause::SyscallRefused(Some(call)) => assert_eq!(call.name(), Some("swapoff")),
        other => panic!("{other:?}"),
    }
    assert!(!output(launched.stdout).contains("lived"));
    let record = record(&machine, "hello");
    let number = syscall_number(Arch::native().unwrap(), "swapoff").unwrap();
    assert!(record.calls.contains_key(&WatchedCall::Killed { number }));
}

#[test]
fn an_order_counts_only_where_the_launcher_may_follow_it_and_it_is_the_owners() {
    if !has_root("an_order_counts_only_where_the_launcher_may_follow_it_and_it_is_the_owners") {
        return;
    }
    let is_watched = |machine: &Machine| {
        let launched = machine.run("hello", &["wait"], "").unwrap();
        machine.kill(launched.instance, KillHow::Kill).unwrap();
        machine.exited(launched.instance);
        let posture = machine.posture(Some("hello")).watched_until;
        assert_eq!(posture, launched.watched_until);
        launched.watched_until.is_some()
    };
    let machine = Machine::start();
    order(&machine, "hello", 60);
    assert!(!is_watched(&machine), "launcher.toml does not say so");

    let machine = Machine::with(ALLOWED);
    assert!(!is_watched(&machine), "there is no order");
    order(&machine, "other", 60);
    assert!(!is_watched(&machine), "it is about another plugin");
    write_order(
        &machine,
        "hello",
        "schema = 1\nrun = 'r1'\nuntil = 2020-01-01T00:00:00Z\n",
    );
    assert!(!is_watched(&machine), "it is over");
    write_order(
        &machine,
        "hello",
        "schema = 1\nrun = 'r1'\nuntil = 2999-01-01T00:00:00Z\n",
    );
    assert!(!is_watched(&machine), "it is too long");
    order(&machine, "hello", 60);
    let path = machine.path("state/watch/hello.toml");
    std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
    assert!(!is_watched(&machine), "it is the daemon's user's");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!is_watched(&machine), "anybody can write it");
    order(&machine, "hello", 60);
    assert!(is_watched(&machine));
    // The directory is closed to everybody else.
    let mode = fs::metadata(machine.path("state/watch"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
}

#[test]
fn a_start_that_fails_before_anybody_answers_leaves_no_record() {
    if !has_root("a_start_that_fails_before_anybody_answers_leaves_no_record") {
        return;
    }
    let machine = Machine::with(ALLOWED);
    order(&machine, "hello", 60);
    // It is refused late, when there is a record already.
    let more = "loopback = false\n[controls]\nnetwork-pool = \"required\"\n\
                [trust]\nunsigned = true\n";
    let refused = machine.run("hello", &["wait"], more).unwrap_err();
    assert!(refused.message.contains("network-pool"), "{refused:?}");
    let records = || {
        let names = fs::read_dir(machine.path("state/watch")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".calls")).count()
    };
    assert_eq!(records(), 0);
    // One that begins keeps its own.
    let launched = machine.run("hello", &["wait"], "").unwrap();
    assert!(launched.watched_until.is_some());
    assert_eq!(records(), 1);
}

#[test]
fn a_watched_instance_ends_with_its_run() {
    if !has_root("a_watched_instance_ends_with_its_run") {
        return;
    }
    let machine = Machine::with(ALLOWED);
    // An emulated machine may take seconds until the start, and an order that is over by then is none.
    order(&machine, "hello", 10);
    let launched = machine.run("hello", &["wait"], "").unwrap();
    match machine.exited(launched.instance) {
        ExitCause::Launcher(reason) => assert!(reason.contains("watched"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_answers_for_a_watched_plugin_has_no_rights_and_the_jail_ends_with_it() {
    if !has_root("who_answers_for_a_watched_plugin_has_no_rights_and_the_jail_ends_with_it") {
        return;
    }
    let machine = Machine::with(ALLOWED);
    let launched = run(&machine, &["say=ready", "loop"]);
    lines_until(launched.stdout, "ready");
    let watcher = children(machine.child.id())
        .into_iter()
        .find(|pid| is_launcher(*pid))
        .unwrap();
    let status = fs::read_to_string(format!("/proc/{watcher}/status")).unwrap();
    for line in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(watcher).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    match machine.exited(launched.instance) {
        ExitCause::Launcher(reason) => assert!(reason.contains("nobody answered"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

fn children(pid: u32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

fn is_launcher(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.starts_with("pinfold-launch"))
}
