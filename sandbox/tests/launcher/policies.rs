//! What a launch is refused for: policies that are not trusted, bytes that are not, controls that
//! are not there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use pinfold_sandbox::protocol::{Failure, FailureKind};

use crate::machine::{Machine, Setup, has_root};

/// Stages a plugin that has a policy and tries to launch it.
fn refused(machine: &Machine, plugin: &str) -> Failure {
    let (digest, _) = machine.stage(plugin).unwrap();
    machine.launch_with(plugin, digest, &[]).unwrap_err()
}

#[test]
fn a_plugin_without_a_policy_is_refused_with_the_path() {
    if !has_root("a_plugin_without_a_policy_is_refused_with_the_path") {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    let failure = refused(&machine, "hello");
    assert_eq!(failure.kind, FailureKind::Policy);
    let path = machine.path("policies/hello.toml");
    assert!(
        failure.message.contains(path.to_str().unwrap()),
        "{failure}"
    );
}

#[test]
fn a_policy_that_others_own_or_can_write_is_refused_with_path_owner_and_mode() {
    if !has_root("a_policy_that_others_own_or_can_write_is_refused_with_path_owner_and_mode") {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    let path = machine.path("policies/hello.toml");
    let text = path.to_str().unwrap();
    let refused_with = |what: &str| {
        let failure = refused(&machine, "hello");
        assert_eq!(failure.kind, FailureKind::Policy, "{failure}");
        assert!(failure.message.contains(what), "{failure}");
    };
    chown(&path, Some(65_534), None).unwrap();
    refused_with(&format!("{text:?} belongs to uid 65534 (mode 0640)"));
    chown(&path, Some(0), None).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    refused_with(&format!("{text:?} (uid 0, mode 0666)"));
    let parent = machine.path("policies");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o775)).unwrap();
    refused_with(&format!("{parent:?} (uid 0, mode 0775)"));
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&path, machine.path("real.toml")).unwrap();
    symlink(machine.path("real.toml"), &path).unwrap();
    refused_with(&format!("open {text:?}"));
    fs::remove_file(&path).unwrap();
    fs::rename(machine.path("real.toml"), &path).unwrap();
    let (digest, _) = machine.stage("hello").unwrap();
    machine.launch_with("hello", digest, &[]).unwrap();
}

#[test]
fn profiles_and_launch_templates_that_others_own_or_can_write_are_refused_with_path_owner_and_mode()
{
    let test = "profiles_and_launch_templates_that_others_own_or_can_write_are_refused_with_path_owner_and_mode";
    if !has_root(test) {
        return;
    }
    for (name, text) in [
        (
            "profiles/default.toml",
            include_str!("../../profiles/default.toml"),
        ),
        (
            "dialects/goatflow.toml",
            include_str!("../../dialects/goatflow.toml"),
        ),
    ] {
        let machine = Machine::start();
        machine.add_plugin("hello");
        machine.add_policy("hello", &["exit=0"], "");
        let data = machine.path("data");
        let path = data.join(name);
        let parent = path.parent().unwrap();
        let mode = |path: &std::path::Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir_all(parent).unwrap();
        mode(parent, 0o755);
        fs::write(&path, text).unwrap();
        mode(&path, 0o644);
        let refused_with = |what: &str| {
            let failure = refused(&machine, "hello");
            assert_eq!(failure.kind, FailureKind::Policy, "{failure}");
            let told = "a launch template or syscall profile cannot be used";
            for what in [told, what] {
                assert!(failure.message.contains(what), "{failure}");
            }
        };
        let is_taken = || {
            let (digest, _) = machine.stage("hello").unwrap();
            machine.launch_with("hello", digest, &[]).unwrap();
        };
        is_taken();
        chown(&path, Some(65_534), None).unwrap();
        refused_with(&format!("{path:?} belongs to uid 65534 (mode 0644)"));
        chown(&path, Some(0), None).unwrap();
        mode(&path, 0o666);
        refused_with(&format!("{path:?} (uid 0, mode 0666)"));
        mode(&path, 0o644);
        chown(parent, Some(65_534), None).unwrap();
        refused_with(&format!("{parent:?} belongs to uid 65534 (mode 0755)"));
        chown(parent, Some(0), None).unwrap();
        mode(parent, 0o775);
        refused_with(&format!("{parent:?} (uid 0, mode 0775)"));
        mode(parent, 0o755);
        let real = machine.path("real.toml");
        fs::rename(&path, &real).unwrap();
        symlink(&real, &path).unwrap();
        refused_with(&format!("open {path:?}"));
        fs::remove_file(&path).unwrap();
        fs::rename(&real, &path).unwrap();
        is_taken();
    }
}

#[test]
fn a_data_dir_that_is_not_there_or_empty_starts_nothing() {
    if !has_root("a_data_dir_that_is_not_there_or_empty_starts_nothing") {
        return;
    }
    let gone = |root: &std::path::Path| fs::remove_dir_all(root.join("data")).unwrap();
    let empty = |root: &std::path::Path| fs::remove_dir(root.join("data/profiles")).unwrap();
    let prepared: [&dyn Fn(&std::path::Path); 2] = [&gone, &empty];
    for prepare in prepared {
        let mut machine = Machine::with(Setup {
            prepare: Some(prepare),
            ..Setup::default()
        });
        assert_eq!(machine.child.wait().unwrap().code(), Some(1));
    }
    // Taken away later, its files are not exchanged for the built-in ones.
    let machine = Machine::start();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    machine.stage("hello").unwrap(); // it has started
    let (data, away) = (machine.path("data"), machine.path("away"));
    fs::rename(&data, &away).unwrap();
    let failure = refused(&machine, "hello");
    assert_eq!(failure.kind, FailureKind::Policy, "{failure}");
    let told = format!("data-dir {data:?} of launcher.toml is not there");
    assert!(failure.message.contains(&told), "{failure}");
    let hint = failure.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("take data-dir out"), "{failure:?}");
    fs::rename(&away, &data).unwrap();
    let (digest, _) = machine.stage("hello").unwrap();
    machine.launch_with("hello", digest, &[]).unwrap();
}

#[test]
fn a_broken_policy_is_refused_with_line_and_key() {
    if !has_root("a_broken_policy_is_refused_with_line_and_key") {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "[limits]\nmemry = \"64MiB\"\n");
    let failure = refused(&machine, "hello");
    assert_eq!(failure.kind, FailureKind::Policy);
    let text = "line 8: unknown key \"limits.memry\", did you mean \"memory\"?";
    assert!(failure.message.contains(text), "{failure}");
    let more = "[controls]\nio = \"required\"\n";
    machine.add_policy("hello", &["exit=0"], more);
    let failure = refused(&machine, "hello");
    let what = "limits.io is absent: [controls] requires io";
    assert!(failure.message.contains(what), "{failure}");
}

#[test]
fn only_the_pinned_digest_runs() {
    if !has_root("only_the_pinned_digest_runs") {
        return;
    }
    let machine = Machine::start();
    let directory = machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    let (digest, _) = machine.stage("hello").unwrap();
    let pinned = format!("[trust]\ndigest = \"{digest}\"\n");
    machine.add_policy("hello", &["exit=0"], &pinned);
    machine.launch_with("hello", digest, &[]).unwrap();
    fs::write(directory.join("extra"), "").unwrap();
    let (changed, _) = machine.stage("hello").unwrap();
    assert_ne!(changed, digest);
    let failure = machine.launch_with("hello", changed, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trust);
    assert!(failure.message.contains(&digest.to_string()), "{failure}");
    assert!(failure.message.contains(&changed.to_string()), "{failure}");
    // What was staged before still runs.
    machine.launch_with("hello", digest, &[]).unwrap();
}

#[test]
fn where_signatures_are_required_nothing_else_runs() {
    if !has_root("where_signatures_are_required_nothing_else_runs") {
        return;
    }
    let by_configuration = Setup {
        config: "require-signatures = true\n",
        ..Setup::default()
    };
    let by_environment = Setup {
        environment: &[("GOATFLOW_REQUIRE_SIGNATURES", "1")],
        ..Setup::default()
    };
    for setup in [by_configuration, by_environment] {
        let machine = Machine::with(setup);
        machine.add_plugin("hello");
        machine.add_policy("hello", &["exit=0"], "");
        let failure = refused(&machine, "hello");
        assert_eq!(failure.kind, FailureKind::Trust);
        assert!(failure.message.contains("requires signatures"), "{failure}");
    }
    // It only tightens.
    let machine = Machine::with(Setup {
        config: "require-signatures = true\n",
        environment: &[("GOATFLOW_REQUIRE_SIGNATURES", "0")],
        ..Setup::default()
    });
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    assert!(
        refused(&machine, "hello")
            .message
            .contains("requires signatures")
    );
}

#[test]
fn an_entry_that_is_not_there_or_not_executable_is_refused() {
    if !has_root("an_entry_that_is_not_there_or_not_executable_is_refused") {
        return;
    }
    let machine = Machine::start();
    let directory = machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    let probe = directory.join("probe");
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o644)).unwrap();
    let failure = refused(&machine, "hello");
    assert_eq!(failure.kind, FailureKind::Stage);
    assert!(failure.message.contains("execute bit"), "{failure}");
    fs::remove_file(&probe).unwrap();
    fs::create_dir(&probe).unwrap();
    let failure = refused(&machine, "hello");
    assert!(failure.message.contains("no regular file"), "{failure}");
    fs::remove_dir(&probe).unwrap();
    fs::write(directory.join("other"), "").unwrap();
    let failure = refused(&machine, "hello");
    assert!(failure.message.contains("\"probe\""), "{failure}");
}

#[test]
fn a_file_that_is_no_program_fails_at_its_execution() {
    if !has_root("a_file_that_is_no_program_fails_at_its_execution") {
        return;
    }
    let machine = Machine::start();
    let directory = machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    fs::write(directory.join("probe"), "no program").unwrap();
    let failure = refused(&machine, "hello");
    assert_eq!(failure.kind, FailureKind::Plugin, "{failure}");
    assert!(failure.message.contains("C12 exec"), "{failure}");
}

#[test]
fn development_grants_count_only_where_they_are_switched_on_and_never_over_the_operators() {
    let test =
        "development_grants_count_only_where_they_are_switched_on_and_never_over_the_operators";
    if !has_root(test) {
        return;
    }
    let grants = tempfile::tempdir().unwrap();
    fs::set_permissions(grants.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let policy = grants.path().join("hello.toml");
    let text = "schema = 1\ndialect = \"goatflow\"\nentry = \"probe\"\nargs = [\"exit=7\"]\n\
                [trust]\nunsigned = true\n";
    fs::write(&policy, text).unwrap();
    let nobody = nix::unistd::User::from_name("nobody")
        .unwrap()
        .unwrap()
        .uid
        .as_raw();
    chown(&policy, Some(nobody), None).unwrap();
    chown(grants.path(), Some(nobody), None).unwrap();
    let config = format!(
        "dev-grants = \"as-asked\"\ndev-policy-dir = {:?}\n",
        grants.path()
    );
    let setup = Setup {
        config: &config,
        ..Setup::default()
    };

    let mut refusing = Machine::with(Setup {
        arguments: &["--no-dev-grants"],
        ..setup
    });
    assert_eq!(refusing.child.wait().unwrap().code(), Some(1));

    let machine = Machine::with(setup);
    machine.add_plugin("hello");
    let (digest, _) = machine.stage("hello").unwrap();
    let launched = machine.launch_with("hello", digest, &[]).unwrap();
    assert!(launched.development_policy);
    machine.exited(launched.instance);
    // One of the operator's, even a bad one, is the one that counts.
    fs::write(machine.path("policies/hello.toml"), "schema = 2").unwrap();
    let failure = refused(&machine, "hello");
    assert_eq!(failure.kind, FailureKind::Policy);
    // A third user's counts nowhere.
    fs::remove_file(machine.path("policies/hello.toml")).unwrap();
    chown(&policy, Some(12_345), None).unwrap();
    let failure = refused(&machine, "hello");
    assert!(failure.message.contains("uid 12345"), "{failure}");

    let without = Machine::start();
    without.add_plugin("hello");
    assert_eq!(refused(&without, "hello").kind, FailureKind::Policy);
}

#[test]
fn a_configuration_that_others_can_write_starts_nothing() {
    if !has_root("a_configuration_that_others_can_write_starts_nothing") {
        return;
    }
    let machine = Machine::start();
    let config = machine.path("launcher.toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    let launcher = std::path::Path::new(env!("CARGO_BIN_EXE_pinfold-launcher"));
    let (_client, mut child) =
        pinfold_sandbox::client::spawn(launcher, &config, std::iter::empty::<&str>()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
