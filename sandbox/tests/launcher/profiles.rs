//! The shipped syscall profiles, each with programs of its runtime: under it they do their work, and
//! nothing that it keeps for them is anything that they do not ask for.

use std::collections::BTreeSet;

use pinfold_sandbox::seccomp::{Action, Arch, Decision, GroupAction, Profile, syscall_number};

use crate::machine::{Machine, has_root};
use crate::skip::skip;
use crate::workloads::{self, Workload, trace, work};

#[test]
fn static_programs_of_three_libraries_do_their_work_under_the_profile_static() {
    let test = "static_programs_of_three_libraries_do_their_work_under_the_profile_static";
    prove(test, "static", statics);
}

#[test]
fn the_profile_static_keeps_nothing_that_no_static_program_asks_for() {
    let test = "the_profile_static_keeps_nothing_that_no_static_program_asks_for";
    if is_version(test, "ldd", "GLIBC 2.36") {
        prove_spare(test, "static", statics);
    }
}

#[test]
fn a_go_program_does_its_work_under_the_profile_go() {
    prove("a_go_program_does_its_work_under_the_profile_go", "go", go);
}

#[test]
fn the_profile_go_keeps_nothing_that_no_go_program_asks_for() {
    let test = "the_profile_go_keeps_nothing_that_no_go_program_asks_for";
    if is_version_of(test, "go", &["version"], "go1.26") {
        prove_spare(test, "go", go);
    }
}

#[test]
fn a_python_program_does_its_work_under_the_profile_python() {
    let test = "a_python_program_does_its_work_under_the_profile_python";
    prove(test, "python", python);
}

#[test]
fn the_profile_python_keeps_nothing_that_no_python_program_asks_for() {
    let test = "the_profile_python_keeps_nothing_that_no_python_program_asks_for";
    if is_version(test, "/usr/bin/python3", "Python 3.11.") {
        prove_spare(test, "python", python);
    }
}

#[test]
fn a_node_program_does_its_work_under_the_profile_node() {
    prove(
        "a_node_program_does_its_work_under_the_profile_node",
        "node",
        node,
    );
}

#[test]
fn the_profile_node_keeps_nothing_that_no_node_program_asks_for() {
    let test = "the_profile_node_keeps_nothing_that_no_node_program_asks_for";
    if is_version(test, "/usr/bin/node", "v20.") {
        prove_spare(test, "node", node);
    }
}

/// Whether it is the version of which the profile says what its workload makes: another makes other
/// calls, which `needed-by` in the profile covers and this machine cannot show.
fn is_version(test: &str, program: &str, version: &str) -> bool {
    is_version_of(test, program, &["--version"], version)
}

fn is_version_of(test: &str, program: &str, asks: &[&str], version: &str) -> bool {
    let found = workloads::asked(program, asks).unwrap_or_default();
    let is_version = found.contains(version);
    if !is_version {
        let reason = format!("{program} is {found:?}, and the profile was seen with {version:?}");
        skip(test, version, &reason);
    }
    is_version
}

fn python(test: &str) -> Option<Vec<Workload>> {
    Some(vec![workloads::python(test)?])
}

fn node(test: &str) -> Option<Vec<Workload>> {
    Some(vec![workloads::node(test)?])
}

fn statics(test: &str) -> Option<Vec<Workload>> {
    Some(vec![
        workloads::static_c(test, "cc", "static-glibc")?,
        workloads::static_c(test, "musl-gcc", "static-musl")?,
        workloads::static_rust(test)?,
    ])
}

fn go(test: &str) -> Option<Vec<Workload>> {
    Some(vec![workloads::go(test)?])
}

/// Each workload comes to its end under the profile, and under the default.
fn prove(test: &str, profile: &str, workloads: fn(&str) -> Option<Vec<Workload>>) {
    if !has_root(test) {
        return;
    }
    let Some(workloads) = workloads(test) else {
        return;
    };
    let machine = Machine::start();
    for workload in &workloads {
        for profile in [profile, "default"] {
            let what = format!("{} under {profile}", workload.name);
            work(&machine, workload, profile).assert_done(&what);
        }
    }
}

/// The calls that the workloads are seen to make are all that the profile allows but for those of
/// which it says what else needs them.
fn prove_spare(test: &str, profile: &str, workloads: fn(&str) -> Option<Vec<Workload>>) {
    if !has_root(test) {
        return;
    }
    let Some(workloads) = workloads(test) else {
        return;
    };
    let profile = Profile::builtin(profile).unwrap();
    let machine = Machine::start();
    let traced = workloads
        .iter()
        .map(|workload| trace(&machine, workload, &profile));
    let made: BTreeSet<String> = traced.flatten().collect();
    let kept_for_more: BTreeSet<&str> = profile
        .narrowed()
        .iter()
        .flat_map(|narrowed| narrowed.also())
        .flat_map(|also| also.calls.iter().map(String::as_str))
        .collect();
    let allowed = allowed(&profile);
    let superfluous: Vec<&String> = allowed
        .iter()
        .filter(|call| !made.contains(*call) && !kept_for_more.contains(call.as_str()))
        .collect();
    assert!(
        superfluous.is_empty(),
        "{}: nothing makes {superfluous:?}",
        profile.name()
    );
    // The other way round the trace cannot be wrong: what is not allowed is not in it.
    assert!(made.is_subset(&allowed), "{made:?}");
    for group in profile.groups() {
        if group.action() != GroupAction::Fixed(Action::Allow) {
            continue;
        }
        let is_needed = |call: &str| made.contains(call) || kept_for_more.contains(call);
        assert!(
            group.calls().iter().any(|call| is_needed(call.name())),
            "{}: nothing needs {}",
            profile.name(),
            group.name()
        );
    }
}

/// The calls that a profile allows on this machine, always or under conditions.
fn allowed(profile: &Profile) -> BTreeSet<String> {
    let arch = Arch::native().unwrap();
    let mut allowed = BTreeSet::new();
    for group in profile.groups() {
        let is_open = group.action() == GroupAction::Fixed(Action::Allow);
        for call in group.calls() {
            let is_allowed = match call.decision() {
                Decision::Group => is_open,
                Decision::Fixed(action) => *action == Action::Allow,
                Decision::Rules { rules, .. } => {
                    rules.iter().any(|rule| rule.action == Action::Allow)
                }
            };
            if is_allowed && syscall_number(arch, call.name()).is_some() {
                allowed.insert(call.name().to_owned());
            }
        }
    }
    allowed
}
