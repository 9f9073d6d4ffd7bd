//! What a policy may ask for beyond the defaults: no loopback, clocks of its own, a core of its own.

use std::os::unix::fs::MetadataExt;

use super::ability;
use super::harness::{has_landlock, inside, launch, lines, missing_here, no_filter, outside, spec};
use pinfold_policy::{Control, Wanted};
use pinfold_sandbox::jail::JailSpec;
use pinfold_sandbox::seccomp::{Arch, Profile};

const EACCES: i32 = 13;
const EAFNOSUPPORT: i32 = 97;
const ENETUNREACH: i32 = 101;

/// A listener on loopback and a connection to it; sockets of either version of IP, of Unix.
const ACTS: [&str; 4] = ["tcp-self", "socket:2,2,0", "socket:10,1,0", "socket:1,1,0"];

fn outcomes(of: [&str; 4]) -> String {
    ACTS.iter()
        .zip(of)
        .map(|(act, outcome)| format!("{act} {outcome}\n"))
        .collect()
}

fn without_internet() -> Vec<u8> {
    let mut profile = Profile::builtin("default").unwrap();
    profile.refuse_internet();
    profile.compile(Arch::native().unwrap()).unwrap().to_bytes()
}

fn without_loopback(filter: Vec<u8>, landlock: Wanted) -> JailSpec {
    JailSpec {
        filter,
        landlock,
        loopback: false,
        ..spec(&ACTS)
    }
}

#[test]
fn without_loopback_each_layer_alone_keeps_the_plugin_from_ip() {
    if !ability::root("without_loopback_each_layer_alone_keeps_the_plugin_from_ip") {
        return;
    }
    let all = outcomes(["ok"; 4]);
    assert_eq!(outside(&ACTS), all);
    assert_eq!(inside(&spec(&ACTS)), all, "with a loopback");
    // The interface is down.
    let down = inside(&without_loopback(no_filter(), Wanted::Off));
    let no_way = ENETUNREACH.to_string();
    assert_eq!(down, outcomes([&no_way, "ok", "ok", "ok"]));
    // Landlock refuses TCP.
    if has_landlock(4) {
        let refused = inside(&without_loopback(no_filter(), Wanted::Required));
        let no_right = EACCES.to_string();
        assert_eq!(refused, outcomes([&no_right, "ok", "ok", "ok"]));
    }
    // The filter refuses both families, and no other.
    let no_family = EAFNOSUPPORT.to_string();
    let refused = outcomes([&no_family, &no_family, &no_family, "ok"]);
    let mut filtered = spec(&ACTS);
    filtered.filter = without_internet();
    assert_eq!(inside(&filtered), refused, "the filter alone");
    let spec = without_loopback(without_internet(), Wanted::Preferred);
    assert_eq!(inside(&spec), refused, "as it is launched");
}

#[test]
fn clocks_of_its_own_begin_with_the_plugin() {
    let test = "clocks_of_its_own_begin_with_the_plugin";
    let has_it = std::path::Path::new("/proc/self/ns/time").exists();
    if !ability::root(test) || !ability::has(test, "time namespaces", has_it, "no such kernel") {
        return;
    }
    // A machine that is up for a minute tells less of itself than the plugin's start takes.
    let up = |text: &str| -> Vec<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix("clocks "));
        let seconds = line.unwrap().split(' ').map(|word| word.parse().unwrap());
        seconds.collect()
    };
    let host = up(&outside(&["clocks"]));
    let shared = up(&inside(&spec(&["clocks"])));
    assert!(shared >= host, "{shared:?} {host:?}");
    let mut own = spec(&["clocks", "say:seen", "wait"]);
    own.time_namespace = Wanted::Required;
    let jail = launch(&own).unwrap();
    let said: Vec<String> = lines(&jail).take_while(|line| line != "seen").collect();
    let seen = up(&said.join("\n"));
    // Monotonic, since boot, and what sysinfo(2) says: all begin anew.
    assert_eq!(seen.len(), 3);
    for (own, host) in seen.iter().zip(&host) {
        assert!(*own < 60.min(*host), "{seen:?} {host:?}");
    }
    jail.look(&own).unwrap();
    let of = |process: &str| std::fs::metadata(format!("/proc/{process}/ns/time")).unwrap();
    assert_ne!(of(&jail.plugin_pid.to_string()).ino(), of("self").ino());
    // One that was planned and is not there is noticed.
    let without = launch(&spec(&["wait"])).unwrap();
    assert_eq!(
        without.look(&own).unwrap_err().to_string(),
        "P10 look: time namespace is the launcher's, planned was its own"
    );
}

#[test]
fn clocks_need_the_user_namespace_and_say_so() {
    let test = "clocks_need_the_user_namespace_and_say_so";
    if !ability::root(test) {
        return;
    }
    let mut spec = spec(&["wait"]);
    spec.user_namespace = Wanted::Off;
    spec.time_namespace = Wanted::Preferred;
    let jail = launch(&spec).unwrap();
    let reason = "C5a time namespace: there is no user namespace for it: operation not permitted \
                  (EPERM)";
    assert_eq!(
        missing_here(&jail),
        [(Control::TimeNamespace, reason.to_owned())]
    );
    spec.time_namespace = Wanted::Required;
    assert_eq!(launch(&spec).unwrap_err().to_string(), reason);
}

#[test]
fn a_core_of_its_own_is_had_or_missed_by_name() {
    let test = "a_core_of_its_own_is_had_or_missed_by_name";
    if !ability::root(test) {
        return;
    }
    let has_threads = std::fs::read_to_string("/sys/devices/system/cpu/smt/active")
        .is_ok_and(|active| active.trim() == "1");
    let mut spec = spec(&["wait"]);
    spec.core_scheduling = Wanted::Preferred;
    let jail = launch(&spec).unwrap();
    jail.look(&spec).unwrap();
    let missing = missing_here(&jail);
    spec.core_scheduling = Wanted::Required;
    let required = launch(&spec);
    if missing.is_empty() {
        assert!(has_threads);
        required.unwrap().look(&spec).unwrap();
        // A jail without one is told from the others.
        let without = launch(&super::harness::spec(&["wait"])).unwrap();
        assert_eq!(
            without.look(&spec).unwrap_err().to_string(),
            "P10 look: core scheduling cookie is none, planned was one"
        );
        return;
    }
    let (control, reason) = &missing[0];
    assert_eq!(*control, Control::CoreScheduling);
    assert!(
        reason.starts_with("R14a core scheduling: make a core scheduling cookie: "),
        "{reason}"
    );
    assert_eq!(required.unwrap_err().to_string(), *reason);
    if !has_threads {
        // Of a kernel that has it, where there is nobody to keep away; of one that has it not.
        assert!(
            reason.contains("ENODEV") || reason.contains("EINVAL"),
            "{reason}"
        );
    }
}

#[test]
fn a_plugin_runs_on_the_processors_of_its_policy_and_chooses_no_others() {
    let test = "a_plugin_runs_on_the_processors_of_its_policy_and_chooses_no_others";
    if !ability::root(test) {
        return;
    }
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let has_two = own.unwrap().trim() == "0-1";
    if !ability::has(test, "two-processors", has_two, "these are not 0 and 1") {
        return;
    }
    let acts = ["processors", "run-on:0,1", "processors"];
    let both = "Cpus_allowed_list: 0-1\n";
    assert_eq!(outside(&acts), format!("{both}run-on:0,1 ok\n{both}"));
    let second = "Cpus_allowed_list: 1\n";
    let chosen = ["processors", "run-on:1", "processors"];
    assert_eq!(outside(&chosen), format!("{both}run-on:1 ok\n{second}"));

    let mut spec = spec(&acts);
    // What is in the plan is the plugin's: its own proc shows it the same.
    spec.limits.cpu_affinity = vec![1];
    assert_eq!(inside(&spec), format!("{second}run-on:0,1 1\n{second}"));
    let mut waits = super::harness::spec(&["wait"]);
    waits.limits.cpu_affinity = vec![1];
    let jail = launch(&waits).unwrap();
    jail.look(&waits).unwrap();
    // One that is not there is none of them, or left out.
    waits.limits.cpu_affinity = vec![0, 1];
    assert_eq!(
        jail.look(&waits).unwrap_err().to_string(),
        "P10 look: Cpus_allowed_list is 1, planned was 0-1"
    );
    waits.limits.cpu_affinity = vec![900];
    let error = launch(&waits).unwrap_err().to_string();
    assert!(error.starts_with("R14 limits: processors: "), "{error}");
}
