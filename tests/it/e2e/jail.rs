//! The jail of a running plugin, seen from outside and tried from inside.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::process;
use super::setup::Setup;

/// No process of this jail and none of ours.
const NO_CAPABILITIES: &str = "0000000000000000";

#[test]
fn a_plugin_has_no_privileges_and_namespaces_and_an_id_of_its_own() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .plugin("one", "goatflow-g4")
        .plugin("two", "goatflow-g2")
        .start();
    let pids = ["one", "two"].map(|name| daemon.plugin_pid(name));
    for pid in pids {
        let field = |name| process::field(pid, name).unwrap();
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!(field("Seccomp"), "2", "a filter");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), NO_CAPABILITIES, "{set}");
        }
        assert_eq!(field("Groups"), "", "no supplementary group");
        let ids = |name| -> Vec<u32> {
            let all = field(name);
            all.split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect()
        };
        // Real, effective, saved and file system's: one, and nobody's.
        for ids in [ids("Uid"), ids("Gid")] {
            assert!(
                ids.iter().all(|id| *id == ids[0] && *id >= 1_900_000_000),
                "{ids:?}"
            );
        }
        for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
            let its = process::namespace(&pid.to_string(), kind);
            assert_ne!(its, process::namespace("self", kind));
            let daemons = process::namespace(&daemon.pid().to_string(), kind);
            assert_ne!(its, daemons);
        }
        let links = [("exe", "/plugin/"), ("cwd", "/app"), ("root", "/")];
        for (name, target) in links {
            let link = fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
            assert!(
                link.to_str().unwrap().starts_with(target),
                "{name}: {link:?}"
            );
        }
    }
    let [one, two] = pids;
    assert_ne!(process::uid(one), process::uid(two));
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let [one, two] = pids.map(|pid| process::namespace(&pid.to_string(), kind));
        assert_ne!(one, two, "{kind}");
    }
    // The daemon itself has given up root, and a plugin keeps its id.
    let daemons = nix::unistd::User::from_name("pinfold")
        .unwrap()
        .unwrap()
        .uid;
    assert_eq!(process::uid(daemon.pid()), Some(daemons.as_raw()));
    assert_eq!(
        process::field(daemon.pid(), "CapEff").unwrap(),
        NO_CAPABILITIES
    );
    let before = process::uid(one);
    assert_eq!(daemon.rescan(Some("one")).status, 200);
    assert_ne!(daemon.plugin_pid("one"), one);
    assert_eq!(process::uid(daemon.plugin_pid("one")), before);
}

#[test]
fn nothing_of_the_hosts_is_mounted_in_a_jail() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    let pid = daemon.plugin_pid("g4");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let devices = ["null", "zero", "full", "random", "urandom"];
    for line in mounts.lines() {
        // ID PARENT DEVICE ROOT POINT OPTIONS [TAGS] - KIND SOURCE OPTIONS (proc_pid_mountinfo(5))
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (root, point, options) = (fields[3], fields[4], fields[5]);
        let dash = fields.iter().position(|field| *field == "-").unwrap();
        let kind = fields[dash + 1];
        let is_device = devices.iter().any(|name| point == format!("/dev/{name}"));
        let is_state = point == "/state" && root.ends_with("/state/g4");
        let is_in_memory = ["tmpfs", "proc", "mqueue"].contains(&kind);
        assert!(is_device || is_state || is_in_memory, "{line}");
        assert!(
            options.split(',').any(|option| option == "nosuid"),
            "{line}"
        );
        let can_execute = !options.split(',').any(|option| option == "noexec");
        assert_eq!(can_execute, point == "/plugin", "{line}");
        let can_write = options.split(',').any(|option| option == "rw");
        if ["/", "/plugin", "/etc/ssl/certs"].contains(&point) {
            assert!(!can_write, "{line}");
        }
        assert!(
            !line.contains("shared:") && !line.contains("master:"),
            "{line}"
        );
    }
    let seen = |path: &str| daemon.result("g4", "list", &json!({"path": path}));
    let root = seen("/");
    for absent in ["home", "root", "usr", "var", "sys", "boot", "work"] {
        let names = root["names"].as_array().unwrap();
        assert!(!names.contains(&json!(absent)), "{absent}: {root}");
    }
    // Its own processes alone, and nothing of the kernel's.
    let processes = seen("/proc");
    let names: Vec<&str> = processes["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let numbers = names.iter().filter(|name| name.parse::<u32>().is_ok());
    assert!(numbers.count() <= 2, "{names:?}");
    assert!(
        !names.contains(&"sys") && !names.contains(&"kcore"),
        "{names:?}"
    );
    // Loopback, and nobody on it.
    let found = daemon.result("g4", "process", &json!({}));
    assert_eq!(found["hostname"], "g4");
    for address in ["127.0.0.1:22", "1.1.1.1:53"] {
        let reach = json!({"network": "tcp", "address": address});
        let why = daemon.result("g4", "connect", &reach);
        assert!(
            why == "ECONNREFUSED" || why == "ENETUNREACH",
            "{address}: {why}"
        );
    }
    let gateway = daemon.status()["listeners"][0].as_str().unwrap().to_owned();
    let gateway = gateway.strip_prefix("http://").unwrap();
    let reach = json!({"network": "tcp", "address": gateway});
    assert_eq!(daemon.result("g4", "connect", &reach), "ECONNREFUSED");
}

#[test]
fn the_environment_is_the_templates_list_and_what_the_policy_adds() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy(
            "g4",
            "[permissions]\nhttp = [{ hosts = ['api.test'] }]\n[env]\nMODE = 'from the policy'\n",
        )
        .plugin("plain", "goatflow-g3")
        .environment("TZ", "Europe/Zurich")
        .environment("SECRET", "of the host")
        .environment("GOATFLOW_PLUGIN_PLAIN_KEY", "comes with Init")
        .start();
    let common = |name: &str| -> BTreeMap<String, String> {
        let own = format!("/tmp/goatflow-plugin-{name}");
        [
            ("GOATKIT_PLUGIN", "goatkit-v1"),
            ("HOME", &own),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("PLUGIN_MAX_PORT", "25000"),
            ("PLUGIN_MIN_PORT", "10000"),
            ("PLUGIN_PROTOCOL_VERSIONS", "1"),
            ("TMPDIR", &own),
            ("TZ", "Europe/Zurich"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    };
    let seen = |name: &str| -> BTreeMap<String, String> {
        let path = format!("/proc/{}/environ", daemon.plugin_pid(name));
        let text = String::from_utf8(fs::read(path).unwrap()).unwrap();
        text.split_terminator('\0')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let mut plain = common("plain");
    plain.insert("GOATFLOW_NO_NETWORK".into(), "1".into());
    assert_eq!(seen("plain"), plain);
    let mut with_policy = common("g4");
    with_policy.insert("MODE".into(), "from the policy".into());
    for kind in ["HTTP", "HTTPS", "ALL"] {
        for name in [kind.to_owned(), kind.to_lowercase()] {
            let name = match kind == name {
                true => format!("{name}_PROXY"),
                false => format!("{name}_proxy"),
            };
            with_policy.insert(name, "http://127.0.0.1:3128".into());
        }
    }
    for name in ["NO_PROXY", "no_proxy"] {
        with_policy.insert(name.into(), "localhost,127.0.0.1,::1".into());
    }
    assert_eq!(
        seen("g4"),
        with_policy,
        "and nothing says that there is no network"
    );
}

#[test]
fn the_posture_says_what_is_in_force_and_what_is_missing() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "[controls]\nproc = 'off'\n")
        .start();
    let posture = |path: &str| daemon.admin().get(path).send().ok();
    let state = |posture: &Value, id: &str| {
        let controls = posture["controls"].as_array().unwrap();
        let control = controls.iter().find(|control| control["id"] == id);
        control.unwrap_or_else(|| panic!("{id}: {posture}"))["state"].clone()
    };
    let machine = posture("/api/pinfold/v1/posture");
    assert_eq!(
        (&machine["mode"], &machine["policy_trust"]),
        (&json!("root"), &json!("development"))
    );
    for control in machine["controls"].as_array().unwrap() {
        if control["wanted"] == "required" {
            assert_eq!(control["state"], "in-force", "{control}");
        }
        if control["state"] != "in-force" {
            assert!(control["reason"].is_string(), "{control}");
        }
    }
    for control in machine["controls"].as_array().unwrap() {
        assert_ne!(control["state"], "not-built", "{control}");
    }
    // Around one plugin, what its policy does not ask for is off.
    let plugin = posture("/api/pinfold/v1/posture/g4");
    assert_eq!(plugin["plugin"], "g4");
    assert_eq!(state(&plugin, "proc"), "off");
    assert_eq!(state(&plugin, "seccomp"), "in-force");
    // The running plugin itself lists what it does without.
    let missing = daemon.ready("g4")["missing_controls"].clone();
    let missing: Vec<_> = missing
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    let is_missing = state(&plugin, "state-quota") == "missing";
    assert_eq!(missing.contains(&json!("state-quota")), is_missing);
}

#[test]
fn a_plugins_own_directory_lasts_and_its_other_files_do_not() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("keeper", "goatflow-g4")
        .plugin("other", "goatflow-g4")
        .start();
    let lasting = "/app/data/plugins/keeper/note";
    let passing = "/tmp/goatflow-plugin-keeper/note";
    for path in [lasting, passing, "/state/second"] {
        let write = json!({"path": path, "text": "kept"});
        assert_eq!(daemon.result("keeper", "write", &write), "ok", "{path}");
    }
    for path in ["/app/config/plugins/keeper/x", "/plugin/x", "/x", "/app/x"] {
        let write = json!({"path": path, "text": "kept"});
        assert_eq!(daemon.result("keeper", "write", &write), "EROFS", "{path}");
    }
    let other = json!({"path": "/state"});
    assert_eq!(daemon.result("other", "list", &other), json!({"names": []}));

    let daemon = daemon.stop().start();
    let read = |path: &str| daemon.result("keeper", "read", &json!({ "path": path }));
    assert_eq!(read(lasting)["text"], "kept");
    assert_eq!(read("/state/second")["text"], "kept");
    assert_eq!(read(passing)["error"], "ENOENT");
    let manifest = read("/app/config/plugins/keeper/plugin.yaml");
    assert!(manifest["text"].as_str().unwrap().contains("name: keeper"));
}
