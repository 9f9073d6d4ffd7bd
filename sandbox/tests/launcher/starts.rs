//! What a launch gives the plugin and the daemon.

use std::fs;
use std::io::Read;

use pinfold_policy::Digest;
use pinfold_sandbox::protocol::{ExitCause, FailureKind, KillHow};

use crate::machine::{Machine, Setup, has_root, lines_until, output};

const HANDSHAKE: [(&str, &str); 4] = [
    ("GOATKIT_PLUGIN", "goatkit-v1"),
    ("PLUGIN_PROTOCOL_VERSIONS", "1"),
    ("PLUGIN_MIN_PORT", "10000"),
    ("PLUGIN_MAX_PORT", "25000"),
];

#[test]
fn the_environment_is_the_templates_list_and_nothing_more() {
    if !has_root("the_environment_is_the_templates_list_and_nothing_more") {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["env", "exit=0"], "[env]\nEXTRA = \"1\"\n");
    let (digest, _) = machine.stage("hello").unwrap();
    let launched = machine.launch_with("hello", digest, &HANDSHAKE).unwrap();
    let mut lines = lines_until(launched.stdout, "env-end");
    // Passed on where the host that runs this test has it set.
    lines.retain(|line| !line.starts_with("TZ="));
    lines.sort();
    assert_eq!(
        lines,
        [
            "EXTRA=1",
            "GOATFLOW_NO_NETWORK=1",
            "GOATKIT_PLUGIN=goatkit-v1",
            "HOME=/tmp/goatflow-plugin-hello",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "PLUGIN_MAX_PORT=25000",
            "PLUGIN_MIN_PORT=10000",
            "PLUGIN_PROTOCOL_VERSIONS=1",
            "TMPDIR=/tmp/goatflow-plugin-hello",
        ]
    );
    assert_eq!(launched.tmp_directory, "/tmp/goatflow-plugin-hello");
}

#[test]
fn values_that_the_template_does_not_take_are_refused() {
    if !has_root("values_that_the_template_does_not_take_are_refused") {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    let (digest, _) = machine.stage("hello").unwrap();
    for value in [
        ("LD_PRELOAD", "/plugin/evil.so"),
        ("PLUGIN_CLIENT_CERT", "x"),
        ("PLUGIN_UNIX_SOCKET_DIR", "/run/plugin"),
        ("PLUGIN_MIN_PORT", "10000; true"),
    ] {
        let refused = machine.launch_with("hello", digest, &[value]).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Request, "{refused}");
        assert!(refused.message.contains(value.0), "{refused}");
    }
}

#[test]
fn the_daemon_gets_the_policy_as_used_and_the_stage_as_staged() {
    if !has_root("the_daemon_gets_the_policy_as_used_and_the_stage_as_staged") {
        return;
    }
    let machine = Machine::start();
    let directory = machine.add_plugin("hello");
    fs::write(directory.join("plugin.yaml"), "name: hello\n").unwrap();
    machine.add_policy("hello", &["wait"], "");
    let (digest, root) = machine.stage("hello").unwrap();
    // The directory is not read again.
    fs::write(directory.join("plugin.yaml"), "name: other\n").unwrap();
    let open = |name: &str, flags| {
        rustix::fs::openat(&root, name, flags, rustix::fs::Mode::empty()).map(fs::File::from)
    };
    let mut manifest = String::new();
    open("plugin.yaml", rustix::fs::OFlags::RDONLY)
        .unwrap()
        .read_to_string(&mut manifest)
        .unwrap();
    assert_eq!(manifest, "name: hello\n");
    assert_eq!(
        open("plugin.yaml", rustix::fs::OFlags::WRONLY).unwrap_err(),
        rustix::io::Errno::ROFS
    );
    let launched = machine.launch_with("hello", digest, &[]).unwrap();
    let mut policy = String::new();
    let mut file = fs::File::from(launched.policy);
    file.read_to_string(&mut policy).unwrap();
    let path = machine.path("policies/hello.toml");
    assert_eq!(policy, fs::read_to_string(path).unwrap());
    assert!(file.set_len(0).is_err(), "it is sealed");
    assert!(!launched.development_policy);
    let comm = fs::read_to_string(format!("/proc/{}/comm", launched.pid)).unwrap();
    assert_eq!(comm.trim_end(), "probe");
}

#[test]
fn a_plugins_lasting_directory_lasts() {
    if !has_root("a_plugins_lasting_directory_lasts") {
        return;
    }
    let machine = Machine::start();
    let path = "/app/data/plugins/hello/count";
    let append = format!("append={path}");
    let read = format!("read={path}");
    let args = [append.as_str(), read.as_str(), "exit=0"];
    for expected in ["x", "xx"] {
        let launched = machine.run("hello", &args, "").unwrap();
        assert_eq!(
            output(launched.stdout),
            format!("append {path}: done\nread {path}: {expected}\n")
        );
        assert_eq!(machine.exited(launched.instance), ExitCause::Code(0));
    }
    let uid = |path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(machine.path(path)).unwrap().uid()
    };
    assert_eq!(uid("state/state/hello"), uid("state/state/hello/count"));
    assert_ne!(uid("state/state/hello"), 0);
}

#[test]
fn what_ends_before_it_says_anything_is_launched_and_its_end_and_words_are_told() {
    if !has_root("what_ends_before_it_says_anything_is_launched_and_its_end_and_words_are_told") {
        return;
    }
    let machine = Machine::start();
    for round in 0..5 {
        let launched = machine.run("hasty", &["say=no", "exit=1"], "").unwrap();
        assert_eq!(output(launched.stdout), "no\n", "{round}");
        assert_eq!(machine.exited(launched.instance), ExitCause::Code(1));
    }
}

#[test]
fn unknown_digests_plugins_and_instances_are_refused() {
    if !has_root("unknown_digests_plugins_and_instances_are_refused") {
        return;
    }
    let machine = Machine::start();
    let launched = machine.run("hello", &["wait"], "").unwrap();
    let refused = machine.launch_with("hello", Digest([0; 32]), &[]);
    assert_eq!(refused.unwrap_err().kind, FailureKind::Request);
    let refused = machine.stage("absent").unwrap_err();
    assert_eq!(refused.kind, FailureKind::Stage);
    assert!(refused.message.contains("absent"), "{refused}");
    let unknown = pinfold_policy::InstanceId(launched.instance.0 + 1);
    let refused = machine.kill(unknown, KillHow::Kill).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Request);
}

#[test]
fn a_stage_is_launched_only_for_the_plugin_whose_directory_it_was() {
    if !has_root("a_stage_is_launched_only_for_the_plugin_whose_directory_it_was") {
        return;
    }
    let machine = Machine::start();
    let other = machine.add_plugin("other");
    fs::write(other.join("extra"), "").unwrap();
    let (others, _) = machine.stage("other").unwrap();
    machine.add_plugin("hello");
    machine.add_policy("hello", &["exit=0"], "");
    machine.stage("hello").unwrap();
    let refused = machine.launch_with("hello", others, &[]).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Request, "{refused}");
    fs::copy(other.join("extra"), machine.path("plugins/hello/extra")).unwrap();
    let (now_its_own, _) = machine.stage("hello").unwrap();
    assert_eq!(now_its_own, others);
    machine.launch_with("hello", others, &[]).unwrap();
}

#[test]
fn launchers_side_by_side_do_not_touch_each_other() {
    if !has_root("launchers_side_by_side_do_not_touch_each_other") {
        return;
    }
    let (first, second) = (Machine::start(), Machine::start());
    let one = first.run("hello", &["wait"], "").unwrap();
    let other = second.run("hello", &["wait"], "").unwrap();
    let uid = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    assert_ne!(uid(one.pid), uid(other.pid));
    drop(first);
    assert!(second.stats(other.instance).is_ok());
    let third = Machine::with(Setup::default());
    assert!(second.stats(other.instance).is_ok(), "a sweep leaves it");
    drop(third);
}
