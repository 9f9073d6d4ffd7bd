//! The Go programs that other tests use do what they are said to, seen by Go's own host.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use pinfold_tests::{go_fixture, require, scratch};
use serde_json::{Value, json};

#[test]
fn every_generation_but_the_first_answers_a_go_host() {
    if !require(&["go"]) {
        return;
    }
    // The first registers with a struct, which the newer host in Go does not read.
    for name in ["goatflow-g2", "goatflow-g3", "goatflow-g4", "hello"] {
        let answer = call(&go_fixture(name), "echo", &json!({"n": [1, null, "ü"]}));
        assert_eq!(answer, json!({"n": [1, null, "ü"]}), "{name}");
    }
}

#[test]
fn the_first_generation_replies_with_a_struct() {
    if !require(&["go"]) {
        return;
    }
    let output = host(&["-call", "echo"], &go_fixture("goatflow-g1"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("received remote type GKRegistration"),
        "{error}"
    );
}

#[test]
fn the_reference_plugin_asks_its_host() {
    if !require(&["go"]) {
        return;
    }
    let hello = go_fixture("hello");
    let rows = call(&hello, "items", &json!({}));
    assert_eq!(rows["items"][1]["name"], "two");
    assert_eq!(call(&hello, "count", &json!({})), json!({"count": 1}));
    let greeting = call(&hello, "greeting", &json!({"name": "Ann"}));
    assert_eq!(greeting, json!({"greeting": "Hello, Ann!"}));
}

#[test]
fn the_probe_reaches_what_a_jail_forbids() {
    if !require(&["go", "root"]) {
        return;
    }
    let acts = [
        "read-shadow",
        "write-etc",
        "write-plugin",
        "exec-tmp",
        "exec-memfd",
        "make-device",
        "make-setuid",
        "socket-netlink",
        "socket-packet",
        "mount",
        "new-mount-api",
        "clone-user",
        "unshare-mount",
        "enter-namespace",
        "become-root",
        "trace-parent",
        "signal-everything",
    ];
    let outcome = call(&go_fixture("goatflow-g4"), "probe", &json!({"acts": acts}));
    for act in acts {
        assert_eq!(outcome[act], "ok", "{act}: {outcome}");
    }
}

#[test]
fn a_bad_first_line_is_refused_by_a_go_host() {
    if !require(&["go"]) {
        return;
    }
    for (mode, said) in [
        ("exit-early", "cannot find my licence file"),
        ("exit-zero", "Failed to read any lines"),
        ("two-lines", "Unrecognized remote plugin message"),
        ("foreign-line", "Unrecognized remote plugin message"),
        ("wrong-core", "Incompatible core API version"),
        ("wrong-app", "incompatible API version"),
        ("wrong-protocol", "Unsupported plugin protocol"),
    ] {
        let output = host(&["-call", "echo"], &go_fixture(&format!("goatflow-{mode}")));
        let error = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!output.status.success(), "{mode}");
        assert!(error.contains(&said.to_lowercase()), "{mode}: {error}");
    }
}

#[test]
fn every_peer_announces_itself() {
    if !require(&["go"]) {
        return;
    }
    for name in ["peers-1.4", "peers-1.5", "peers-1.6", "peers-1.8"] {
        announces(&go_fixture(name));
    }
}

#[test]
fn the_peer_of_go_1_19_announces_itself() {
    if !require(&["go-1.19"]) {
        return;
    }
    announces(&go_fixture("peers-1.4-go1.19"));
}

/// Reads the handshake line, as a host does first.
fn announces(peer: &Path) {
    use std::io::{BufRead, BufReader};
    let place = scratch();
    let mut child = Command::new(peer)
        .env_clear()
        .env("PINFOLD_PEER", "peer")
        .env("PLUGIN_PROTOCOL_VERSIONS", "1")
        .env("TMPDIR", place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let expected = format!("1|1|unix|{}/plugin", place.path().display());
    assert!(
        line.starts_with(&expected) && line.trim_end().ends_with("|netrpc|"),
        "{line}"
    );
}

/// One call by the Go host.
fn call(plugin: &Path, function: &str, arguments: &Value) -> Value {
    let output = host(
        &["-call", function, "-args", &arguments.to_string()],
        plugin,
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", plugin.display());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn host(arguments: &[&str], plugin: &Path) -> Output {
    // A plugin that is killed leaves its socket, named by a process number that comes again.
    let sockets = scratch();
    Command::new(go_fixture("host"))
        .args(arguments)
        .arg(plugin)
        .env("TMPDIR", sockets.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
