//! Claims to be somebody else: by the hostile plugin, and by whoever really is.

use std::fs;
use std::process::{Command, Stdio};

use pinfold_tests::{go_fixture, wait_for};
use serde_json::{Value, json};

use super::attempt::{Attempt, Seen};
use super::bait::{TRUDY, VAULT};
use super::{Daemon, Results};

/// A value in the cache, as JSON has bytes.
const SECRET: &str = "aHVudGVyMg==";

pub(super) fn run(daemon: &Daemon, attempts: &[&Attempt]) -> Results {
    attempts
        .iter()
        .map(|attempt| {
            let (inside, outside) = both(daemon, attempt.id);
            (attempt.id, Seen { inside, outside })
        })
        .collect()
}

fn both(daemon: &Daemon, id: &str) -> (String, String) {
    let users = json!({"query": "SELECT password FROM users", "args": null});
    let get = json!({"key": "secret"});
    match id {
        "identity-caller" => {
            let forged = json!({"method": "db_query", "args": users, "caller": VAULT});
            let inside = daemon.result(TRUDY, "host", &forged);
            (
                outcome(&inside),
                outcome(&daemon.host(VAULT, "db_query", &users)),
            )
        }
        "identity-token" => {
            let token = "0123456789abcdef0123456789abcdef";
            let forged = json!({"method": "cache_get", "args": get, "token": token});
            let inside = daemon.result(TRUDY, "host", &forged);
            (
                outcome(&inside),
                outcome(&under_go("goatflow-g4", "host", &forged)),
            )
        }
        "identity-cache" => {
            let set = json!({"key": "secret", "value": SECRET, "ttl": 0});
            daemon.host(VAULT, "cache_set", &set);
            let of = |plugin| match daemon.host(plugin, "cache_get", &get).to_string() {
                text if text.contains(SECRET) => "ok".to_owned(),
                _ => "nothing is to be seen".to_owned(),
            };
            (of(TRUDY), of(VAULT))
        }
        "identity-call" => {
            let call = json!({"plugin": VAULT, "function": "version", "args": {}});
            let inside = daemon.host(TRUDY, "plugin_call", &call);
            (
                outcome(&inside),
                answered(&daemon.result(VAULT, "version", &json!({}))),
            )
        }
        "identity-registration" => {
            daemon.add_policy("impostor", "");
            daemon.add_plugin("impostor", "goatflow-other-name");
            let answer = under_go("goatflow-other-name", "echo", &json!({}));
            (refused(daemon, "impostor"), answered(&answer))
        }
        "identity-manifest" => {
            daemon.add_policy("double", "");
            daemon.add_plugin("double", "goatflow-g4");
            let manifest = daemon.base().join("plugins/double/plugin.yaml");
            let text = fs::read_to_string(&manifest).unwrap();
            fs::write(&manifest, text.replace("name: double", "name: hello")).unwrap();
            (refused(daemon, "double"), "there is no manifest".to_owned())
        }
        _ => panic!("{id} is described nowhere"),
    }
}

/// Of a call of the host, as the plugin got it.
fn outcome(answer: &Value) -> String {
    match answer["error"].as_str() {
        Some(error) if !error.is_empty() => error.to_owned(),
        _ => "ok".to_owned(),
    }
}

fn answered(_: &Value) -> String {
    "ok".to_owned()
}

/// Why a plugin was not taken.
fn refused(daemon: &Daemon, plugin: &str) -> String {
    daemon.rescan(Some(plugin));
    let reason = wait_for(&format!("{plugin} to be refused or ready"), || {
        let found = daemon.plugin(plugin);
        match found["state"].as_str() {
            Some("ready") => Some("ok".to_owned()),
            _ => found["reason"].as_str().map(str::to_owned),
        }
    });
    fs::remove_dir_all(daemon.base().join("plugins").join(plugin)).unwrap();
    daemon.rescan(Some(plugin));
    reason
}

/// One call of a plugin by a Go host.
fn under_go(fixture: &str, function: &str, arguments: &Value) -> Value {
    let output = Command::new(go_fixture("host"))
        .args(["-call", function, "-args", &arguments.to_string()])
        .arg(go_fixture(fixture))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}
