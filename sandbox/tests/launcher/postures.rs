//! What the launcher says is in force.

use pinfold_policy::{Control, Digest, Wanted};
use pinfold_sandbox::posture::{Mode, PolicyTrust, State};
use pinfold_sandbox::seccomp::{Arch, Profile};
use sha2::{Digest as _, Sha256};

use crate::machine::{Machine, has_root};

#[test]
fn every_control_is_tried() {
    if !has_root("every_control_is_tried") {
        return;
    }
    let machine = Machine::start();
    machine.run("hello", &["wait"], "").unwrap();
    let posture = machine.posture(None);
    assert_eq!(posture.mode, Mode::Root);
    assert_eq!(posture.policy_trust, PolicyTrust::Operator);
    let ids: Vec<Control> = posture.controls.iter().map(|one| one.id).collect();
    assert_eq!(ids, Control::ALL);
    for control in &posture.controls {
        assert_ne!(control.state, State::NotBuilt, "{control:?}");
        let has_reason = !control.reason.is_empty();
        let needs_reason = control.state != State::Enforced;
        assert_eq!(has_reason, needs_reason, "{control:?}");
    }
    for control in [
        Control::PidNamespace,
        Control::MountNamespace,
        Control::NetworkNamespace,
        Control::IpcNamespace,
        Control::UtsNamespace,
        Control::CgroupNamespace,
        Control::Root,
        Control::Proc,
        Control::Stage,
        Control::Uid,
        Control::Capabilities,
        Control::NoNewPrivileges,
        Control::Seccomp,
        Control::NetworkPool,
        Control::UserNamespace,
        Control::SyscallNames,
        Control::LauncherFilter,
        Control::Trial,
    ] {
        let state = posture.control(control).unwrap();
        assert_eq!(state.state, State::Enforced, "{state:?}");
    }
    assert_eq!(posture.stages.len(), 1);
    assert_eq!(posture.stages[0].instances, 1);
}

#[test]
fn a_plugins_posture_has_what_its_policy_wants() {
    if !has_root("a_plugins_posture_has_what_its_policy_wants") {
        return;
    }
    let machine = Machine::start();
    machine.add_policy(
        "hello",
        &[],
        "[controls]\nproc = \"required\"\nlandlock = \"off\"\n",
    );
    let posture = machine.posture(Some("hello"));
    assert_eq!(posture.plugin.as_deref(), Some("hello"));
    let wanted = |control| posture.control(control).unwrap().wanted;
    assert_eq!(wanted(Control::Proc), Wanted::Required);
    assert_eq!(wanted(Control::Landlock), Wanted::Off);
    assert_eq!(wanted(Control::Seccomp), Wanted::Required);
}

#[test]
fn a_plugins_posture_names_its_own_filter() {
    if !has_root("a_plugins_posture_names_its_own_filter") {
        return;
    }
    let machine = Machine::start();
    let policy = |name: &str, profile: &str| {
        machine.add_policy(name, &[], "");
        let path = machine.path(&format!("policies/{name}.toml"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("profile = {profile:?}\n{text}")).unwrap();
    };
    policy("strict", "static");
    policy("broken", "nowhere");
    let of = |plugin: Option<&str>| {
        let posture = machine.posture(plugin);
        posture.control(Control::Seccomp).unwrap().clone()
    };
    let arch = Arch::native().unwrap();
    for (plugin, name) in [(None, "default"), (Some("strict"), "static")] {
        let program = Profile::builtin(name).unwrap().compile(arch).unwrap();
        let digest = Sha256::digest(program.to_bytes());
        let digest = Digest(digest.into());
        let state = of(plugin);
        assert_eq!(state.state, State::Enforced);
        let expected = format!("profile {name}, filter {digest}, default enosys, {arch}, tree");
        assert_eq!(state.how, expected);
    }
    let broken = of(Some("broken"));
    assert_eq!(broken.state, State::Missing);
    assert!(broken.reason.contains("nowhere"), "{broken:?}");
}

#[test]
fn the_launcher_has_given_up_what_no_launch_needs() {
    if !has_root("the_launcher_has_given_up_what_no_launch_needs") {
        return;
    }
    let machine = Machine::start();
    // Answered, so it has started.
    machine.posture(None);
    let of = |name: &str| {
        let path = format!("/proc/{}/{name}", machine.child.id());
        std::fs::read_to_string(path).unwrap()
    };
    let points = |table: String| -> Vec<String> {
        let point = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
        table.lines().map(point).collect()
    };
    let own = points(of("mountinfo"));
    let ours = points(std::fs::read_to_string("/proc/self/mountinfo").unwrap());
    assert!(own.iter().any(|point| point == "/proc"));
    for point in ["/dev/pts", "/dev/shm", "/sys", "/boot", "/home"] {
        let leads_to_groups = ours.iter().any(|one| one.starts_with("/sys/")) && point == "/sys";
        assert!(
            leads_to_groups || !own.iter().any(|one| one == point),
            "{point}"
        );
    }
    let status = of("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Threads:"), "1");
    // Its own filter, beside whatever is around this test.
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let filters = |status: &str| -> u32 {
        let line = status
            .lines()
            .find(|line| line.starts_with("Seccomp_filters:"));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(filters(&status), filters(&ours) + 1);
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let held = u64::from_str_radix(&field(set), 16).unwrap();
        assert!(held.count_ones() <= 11, "{set} {held:x}");
        // Neither raw I/O, nor modules, nor reading past permissions, nor new nodes.
        for dropped in [17, 16, 2, 27] {
            assert_eq!(held & (1 << dropped), 0, "{set} {held:x}");
        }
    }
}
