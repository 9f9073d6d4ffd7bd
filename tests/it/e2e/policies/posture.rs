//! `pinfold posture PLUGIN`, of a plugin that runs.

use serde_json::Value;

use crate::e2e::command_line::pinfold;
use crate::e2e::setup::Setup;

#[test]
fn what_a_running_plugin_has_is_read_of_its_process() {
    if !crate::e2e::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "[limits]\ncpu-affinity = [0]\n")
        .start();
    let pid = daemon.plugin_pid("g4");
    let posture = |more: &[&str]| {
        let posture = ["posture", "--json"];
        let output = pinfold(&daemon.base(), &[&posture, more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), view, said)
    };
    let (status, view, said) = posture(&["g4"]);
    assert_eq!(status, Some(0), "{said}: {view}");
    assert_eq!(view["plugin"], "g4");
    let live = &view["live"];
    assert_eq!(live["pid"].to_string(), pid.to_string(), "{live}");
    let seen = live["seen"].as_array().unwrap();
    for (what, found) in [
        ("CapEff", Some("0000000000000000")),
        ("NoNewPrivs", Some("1")),
        ("Seccomp", Some("2")),
        ("net namespace", None),
        ("user", None),
    ] {
        let one = seen.iter().find(|one| one["what"] == what);
        let one = one.unwrap_or_else(|| panic!("{what}: {live}"));
        assert_eq!(one["holds"], true, "{one}");
        assert!(found.is_none_or(|found| one["found"] == found), "{one}");
    }
    let processors = seen.iter().find(|one| one["what"] == "processors");
    assert_eq!(processors.unwrap()["found"], "0", "{live}");
    let (status, view, said) = posture(&[]);
    assert_eq!((status, &view["live"]), (Some(0), &Value::Null), "{said}");
}
