//! What a policy may ask for beyond the defaults, from its file to the jail.

use pinfold_policy::Control;
use pinfold_sandbox::posture::State;
use pinfold_sandbox::protocol::{FailureKind, Launched, Loopback};

use crate::machine::{Machine, has_root, lines_until, output};
use crate::ports::HTTP;

const NO_LOOPBACK: &str = "loopback = false\n[trust]\nunsigned = true\n";

fn ready(launched: &Launched) {
    lines_until(launched.stdout.try_clone().unwrap(), "ready");
}

#[test]
fn a_plugin_without_loopback_has_no_ip_and_still_serves_by_its_socket() {
    if !has_root("a_plugin_without_loopback_has_no_ip_and_still_serves_by_its_socket") {
        return;
    }
    let machine = Machine::start();
    let tried = machine.run("tries", &["tcp=10001"], NO_LOOPBACK).unwrap();
    assert_eq!(
        output(tried.stdout),
        "socket: Address family not supported by protocol\n"
    );
    let _ = machine.exited(tried.instance);
    let with = machine.run("with", &["tcp=10001"], "").unwrap();
    ready(&with);
    let serves = ["listen=/run/plugin/s"];
    let without = machine.run("without", &serves, NO_LOOPBACK).unwrap();
    ready(&without);
    // Whatever it says of itself, nobody goes looking for its ports.
    let failure = machine
        .connect_port(without.instance, Loopback::V4, 10001)
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Plugin);
    assert_eq!(
        failure.message,
        "port 10001 cannot be reached: the policy says loopback = false"
    );
    let of = |plugin| {
        let posture = machine.posture(Some(plugin));
        posture.control(Control::NetworkNamespace).unwrap().clone()
    };
    assert_eq!(of("without").how, "nothing, loopback is down");
    assert_eq!(of("without").state, State::Enforced);
    assert_eq!(of("with").how, "loopback only");
}

#[test]
fn what_needs_a_loopback_beside_a_policy_without_one_is_refused_by_name() {
    if !has_root("what_needs_a_loopback_beside_a_policy_without_one_is_refused_by_name") {
        return;
    }
    let machine = Machine::start();
    let failure = machine
        .run("http", &["wait"], &format!("{NO_LOOPBACK}{HTTP}"))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Policy);
    assert!(
        failure
            .message
            .starts_with("loopback = false, and the way out"),
        "{failure}"
    );
    let pool = format!("{NO_LOOPBACK}[controls]\nnetwork-pool = 'required'\n");
    let failure = machine.run("pool", &["wait"], &pool).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Control);
    assert!(failure.message.contains("network-pool"), "{failure}");
    assert!(failure.message.contains("wants none"), "{failure}");
}

#[test]
fn optional_groups_of_the_profile_are_on_where_the_policy_says_so() {
    if !has_root("optional_groups_of_the_profile_are_on_where_the_policy_says_so") {
        return;
    }
    let machine = Machine::start();
    let on = "syscall-groups = ['@optional-watch']\n[trust]\nunsigned = true\n";
    let without = machine.run("without", &["watch"], "").unwrap();
    assert_eq!(output(without.stdout), "watch: Function not implemented\n");
    let _ = machine.exited(without.instance);
    let with = machine.run("with", &["watch"], on).unwrap();
    assert_eq!(output(with.stdout), "watch: done\n");
    let _ = machine.exited(with.instance);
    for (group, said) in [
        ("@optional-wotch", "no group `@optional-wotch`"),
        ("@tripwire", "not optional"),
    ] {
        let text = on.replace("@optional-watch", group);
        let failure = machine.run("wrong", &["watch"], &text).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Policy);
        assert!(failure.message.contains(said), "{failure}");
    }
}

#[test]
fn options_that_are_off_are_shown_as_off_and_required_ones_hold_or_refuse() {
    if !has_root("options_that_are_off_are_shown_as_off_and_required_ones_hold_or_refuse") {
        return;
    }
    let machine = Machine::start();
    for control in [Control::TimeNamespace, Control::CoreScheduling] {
        let posture = machine.posture(None);
        let shown = posture.control(control).unwrap();
        assert_eq!(shown.wanted, pinfold_policy::Wanted::Off);
        let required = format!("[controls]\n{control} = 'required'\n");
        let plugin = control.id();
        match machine.run(plugin, &["say=ready", "wait"], &required) {
            Ok(launched) => {
                assert!(shown.state.satisfies(), "{shown:?}");
                ready(&launched);
            }
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Control, "{failure}");
                let said = format!(
                    "control {control} is required and missing: {}",
                    shown.reason
                );
                assert_eq!(failure.message, said);
            }
        }
    }
}

#[test]
fn a_plugin_with_the_whole_of_proc_sees_the_machine_and_its_posture_says_so() {
    if !has_root("a_plugin_with_the_whole_of_proc_sees_the_machine_and_its_posture_says_so") {
        return;
    }
    let machine = Machine::start();
    let acts = [
        "read=/proc/version",
        "read=/proc/sys/kernel/hostname",
        "read=/proc/kallsyms",
    ];
    let full = "proc = \"full\"\n[trust]\nunsigned = true\n[controls]\nproc = \"required\"\n";
    let whole = machine.run("whole", &acts, full).unwrap();
    let text = output(whole.stdout);
    let _ = machine.exited(whole.instance);
    assert!(
        text.starts_with("read /proc/version: Linux version"),
        "{text}"
    );
    let rest = "read /proc/sys/kernel/hostname: No such file or directory\nread /proc/kallsyms: \n";
    assert!(text.ends_with(rest), "{text}");
    let of = |plugin| {
        machine
            .posture(plugin)
            .control(Control::Proc)
            .unwrap()
            .clone()
    };
    let partial = of(Some("whole"));
    assert_eq!(
        (partial.state, partial.how.as_str()),
        (State::Partial, "hidepid, masks")
    );
    assert!(
        partial.reason.contains("proc = \"full\""),
        "{}",
        partial.reason
    );
    assert_eq!(of(None).state, State::Enforced);
}
