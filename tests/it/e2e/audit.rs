//! The audit trail as an administrator finds it: what is in it, in the log too, and what is noticed
//! when somebody has had their hands on it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use pinfold_tests::wait_for;
use serde_json::{Value, json};

use super::command_line::{pinfold, printed};
use super::process;
use super::setup::Setup;

/// Runs `pinfold audit` on an installation.
fn audit(base: &Path, arguments: &[&str]) -> Output {
    pinfold(base, &[&["audit"], arguments].concat())
}

pub(super) fn records(base: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["list", "--json", "-n", "1000"];
    all.extend(arguments);
    serde_json::from_str(&printed(&audit(base, &all))).unwrap()
}

/// Why the trail is not whole.
#[track_caller]
fn broken(base: &Path, arguments: &[&str]) -> String {
    let output = audit(base, arguments);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_was_decided_is_recorded_and_told_and_a_changed_record_is_found() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .plugin("unwanted", "goatflow-g4")
        .start();
    let g4 = daemon.ready("g4");
    let base = daemon.base();
    daemon.token("ann", &[]);
    daemon.refusal(
        "g4",
        "db_query",
        &json!({ "query": "SELECT * FROM secrets" }),
    );
    let digest = &g4["digest"];
    let of = |action: &str| records(&base, &["--action", action, "--plugin", "g4"]);
    let started = of("plugin.start");
    assert_eq!(
        (
            started.len(),
            &started[0]["subject"],
            &started[0]["decision"]
        ),
        (1, digest, &json!("allow"))
    );
    let policy = &of("policy.change")[0]["subject"];
    let detail = started[0]["detail"].as_str().unwrap();
    assert!(detail.contains(policy.as_str().unwrap()), "{detail}");
    let wanted = [
        "--action",
        "hostapi.db.*",
        "--decision",
        "deny",
        "--actor",
        "plugin:*",
    ];
    let denied = wait_for("the denial to be written", || records(&base, &wanted).pop());
    assert_eq!(denied["action"], "hostapi.db.query");
    assert_eq!(denied["part"], "traffic");

    // It ends by itself, is started again, and is ended on request.
    process::signal(daemon.plugin_pid("g4"), Signal::SIGKILL);
    wait_for("it to be started again", || {
        (of("plugin.start").len() == 2).then_some(())
    });
    wait_for("it to serve again", || {
        (daemon.plugin("g4")["state"] == "ready").then_some(())
    });
    let disable = daemon.admin().post("/api/pinfold/v1/plugins/g4/disable");
    assert_eq!(disable.send().status, 200);
    let ends = wait_for("both ends", || {
        Some(of("plugin.end")).filter(|ends| ends.len() == 2)
    });
    assert_eq!(
        (&ends[0]["decision"], &ends[1]["decision"]),
        (&json!("error"), &json!("allow"))
    );
    assert_eq!(of("policy.change").len(), 1, "the policy is the same");
    assert_eq!(
        records(&base, &["--since", "2020-01-01T00:00:00Z"]).len(),
        records(&base, &[]).len()
    );
    assert_eq!(records(&base, &["--action", "nothing.*"]), [] as [Value; 0]);

    // Each is in the log with its hash; and beside a daemon that runs it is whole.
    let created = records(&base, &["--action", "admin.token.create"])
        .pop()
        .unwrap();
    let (number, hash) = (&created["number"], created["hash"].as_str().unwrap());
    let log = daemon.setup().printed();
    assert!(
        log.lines().any(|line| line.contains("pinfold::audit")
            && line.contains(&format!("number={number}"))
            && line.contains(hash)),
        "{log}"
    );
    let seen = format!("{number}:{hash}");
    let whole = printed(&audit(&base, &["verify", "--expect", &seen]));
    assert!(whole.contains("is whole"), "{whole}");
    let of_other = format!("traffic:{seen}");
    let twice = audit(&base, &["verify", "--expect", &seen, "--expect", &of_other]);
    assert_eq!(twice.status.code(), Some(2), "{twice:?}");

    // Without one, too; and it ends where the log says that it ended.
    let setup = daemon.stop();
    let heads = printed(&audit(&base, &["head"]));
    let log = setup.printed();
    let mut expect = vec!["verify".to_owned()];
    for head in heads.lines() {
        let (_, head) = head.split_once(' ').unwrap();
        let (number, hash) = head.split_once(':').unwrap();
        let told = log.lines().rev().find(|line| {
            line.contains("audit head") && line.contains(&format!("number={number} "))
        });
        assert!(
            told.is_some_and(|line| line.contains(hash)),
            "{head}: {log}"
        );
        expect.extend(["--expect".to_owned(), head.to_owned()]);
    }
    let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
    printed(&audit(&base, &expect));

    // Somebody else was given the token.
    let path = base.join("state/pinfold.db");
    let mut database = std::fs::read(&path).unwrap();
    let name = b"for ann for ann";
    let place = database.windows(name.len()).position(|part| part == name);
    let end = place.unwrap() + name.len();
    database[end - 3..end].copy_from_slice(b"bob");
    std::fs::write(&path, database).unwrap();
    let error = broken(&base, &["verify"]);
    assert!(
        error.contains(&format!("record {number}: it was altered")),
        "{error}"
    );
    assert!(error.contains("hint: "), "{error}");
    drop(setup);
}

#[test]
fn each_start_that_is_given_up_is_in_the_trail_with_its_end() {
    if !super::can_run() {
        return;
    }
    // It says nothing for as long as it may: whatever ends it gives its start up.
    let daemon = Setup::new()
        .file("etc/pinfold.toml", "[discovery]\ndebounce = '100ms'\n")
        .plugin("p", "goatflow-silent")
        .policy("p", "[timeouts]\nhandshake = '10m'\n")
        .start_until(|status| status["plugins"] == json!({"starting": 1}));
    let base = daemon.base();
    let of = |action: &str| records(&base, &["--action", action, "--plugin", "p"]);
    let disable = || {
        let disable = daemon.admin().post("/api/pinfold/v1/plugins/p/disable");
        assert_eq!(disable.send().status, 200);
    };
    wait_for("the first start", || {
        (of("plugin.start").len() == 1).then_some(())
    });
    // Its files change, and another start takes the place of the first.
    let manifest = base.join("plugins/p/plugin.yaml");
    let changed = std::fs::read_to_string(&manifest).unwrap();
    let changed = changed.replace("version: 1.0.0", "version: 1.0.1");
    let beside = base.join("plugin.yaml");
    std::fs::write(&beside, changed).unwrap();
    std::fs::rename(&beside, &manifest).unwrap();
    wait_for("the second start", || {
        (of("plugin.start").len() >= 2).then_some(())
    });
    disable();
    // Switched off again while it is launched, or as soon as it is: whatever of it came first.
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let enable = daemon.admin().post("/api/pinfold/v1/plugins/p/enable");
            let enabling = scope.spawn(|| enable.send());
            daemon.in_state("p", "starting");
            disable();
            enabling.join().unwrap();
        });
    }
    let (starts, ends) = wait_for("an end of each start", || {
        let (starts, ends) = (of("plugin.start"), of("plugin.end"));
        (starts.len() >= 5 && starts.len() == ends.len()).then_some((starts, ends))
    });
    let of_start = |record: &Value| {
        assert_eq!(record["decision"], "allow", "{record}");
        let detail = record["detail"].as_str().unwrap();
        detail.split_once(", ").unwrap().0.to_owned()
    };
    let of_end = |record: &Value| {
        assert_eq!(record["decision"], "allow", "{record}");
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.starts_with("given up before it served"), "{record}");
        record["subject"].as_str().unwrap().to_owned()
    };
    let mut starts: Vec<String> = starts.iter().map(of_start).collect();
    let mut ends: Vec<String> = ends.iter().map(of_end).collect();
    starts.sort();
    ends.sort();
    assert_eq!(starts, ends);
    printed(&audit(&base, &["verify"]));
}

#[test]
fn a_start_that_fails_is_in_the_trail_with_its_end() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .without_restarts()
        .plugin("p", "goatflow-fail-init")
        .policy("p", "")
        .start();
    let base = daemon.base();
    let told = wait_for("its end", || {
        let told = records(&base, &["--action", "plugin.*", "--plugin", "p"]);
        (told.len() == 3).then_some(told)
    });
    let what = |record: &Value| {
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        (text("action"), text("decision"))
    };
    let told_of: Vec<_> = told.iter().map(what).collect();
    let expected = [
        ("plugin.start", "allow"),
        ("plugin.end", "error"),
        ("plugin.start", "error"),
    ];
    let expected = expected.map(|(action, decision)| (action.to_owned(), decision.to_owned()));
    assert_eq!(told_of, expected, "{told:?}");
    assert_eq!(told[1]["subject"], "generation 1");
    let why = told[1]["detail"].as_str().unwrap();
    assert!(why.contains("no database for me"), "{why}");
}

#[test]
fn a_call_under_way_when_its_plugin_ends_is_in_the_trail_once_the_end_is() {
    if !super::can_run() {
        return;
    }
    // Whoever connects is never answered.
    let silent = TcpListener::bind("127.0.0.2:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let address = silent.local_addr().unwrap();
    let grant =
        format!("[permissions]\nhttp = [{{ hosts = ['{address}'], addresses = ['127.0.0.2'] }}]\n");
    let asks = "resources:\n  permissions:\n    - type: http\n";
    let daemon = Setup::new()
        .without_restarts()
        .plugin_asking("p", "goatflow-g4", asks)
        .policy("p", &grant)
        .start();
    let pid = daemon.plugin_pid("p");
    let base = daemon.base();
    let url = format!("http://{address}/");
    let args = json!({"method": "GET", "url": url, "headers": null, "body": null});
    let asked = json!({"method": "http_request", "args": args});
    let told = std::thread::scope(|scope| {
        let calling = scope.spawn(|| daemon.call("p", "host", &asked));
        let held = wait_for("the call to be under way", || silent.accept().ok());
        process::signal(pid, Signal::SIGKILL);
        // What one look finds is of one moment.
        let told = wait_for("its end", || {
            let told = records(&base, &["--plugin", "p"]);
            let has_ended = told.iter().any(|record| record["action"] == "plugin.end");
            has_ended.then_some(told)
        });
        drop(held);
        calling.join().unwrap();
        told
    });
    let call = told
        .iter()
        .find(|record| record["action"] == "hostapi.http.request");
    let call = call.unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(call["decision"], "error", "{call}");
}

#[test]
fn a_trail_that_is_not_there_is_no_broken_one() {
    let base = tempfile::tempdir().unwrap();
    let output = audit(base.path(), &["verify"]);
    assert_eq!(output.status.code(), Some(66));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("pinfold.db"), "{error}");
}

/// What the owner of the policies did with plugins and backups, as the trail has it.
fn acts(base: &Path) -> Vec<(String, String, bool)> {
    let is_owners = |record: &Value| {
        let action = record["action"].as_str().unwrap();
        [
            "admin.plugin.",
            "admin.key.",
            "admin.backup",
            "admin.restore",
        ]
        .iter()
        .any(|beginning| action.starts_with(beginning))
    };
    let records = records(base, &[]).into_iter().filter(is_owners);
    let acts = records.map(|record| {
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        assert!(text("actor").contains(" pid:"), "{record}");
        let was_told = text("detail").starts_with("told afterwards");
        (text("action"), text("subject"), was_told)
    });
    acts.collect()
}

fn act(action: &str, subject: &str, was_told: bool) -> (String, String, bool) {
    (action.into(), subject.into(), was_told)
}

fn waiting(base: &Path) -> usize {
    std::fs::read_dir(base.join("etc/pending-audit")).map_or(0, Iterator::count)
}

#[test]
fn what_is_done_without_the_daemon_is_in_the_trail_once_it_runs() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("p", "goatflow-g4").start();
    daemon.ready("p");
    let base = daemon.base();
    let done = |arguments: &[&str]| printed(&pinfold(&base, arguments));
    // While it runs it is told, and nothing waits.
    done(&["plugin", "grant", "--yes", "p"]);
    let first = daemon.setup().path("first.tar");
    let first = first.to_str().unwrap().to_owned();
    done(&["backup", &first]);
    let told = [
        act("admin.plugin.grant", "p", false),
        act("admin.backup", &first, false),
    ];
    assert_eq!(acts(&base), told);
    assert_eq!(waiting(&base), 0);

    let setup = daemon.stop().without_additions();
    let keys = setup.path("keys");
    std::fs::create_dir(&keys).unwrap();
    done(&[
        "keys",
        "generate",
        "release",
        "--directory",
        keys.to_str().unwrap(),
    ]);
    let key = keys.join("release.pub");
    done(&["keys", "trust", key.to_str().unwrap(), "--plugin", "p"]);
    done(&["keys", "revoke", "release"]);
    done(&["plugin", "remove", "--yes", "p"]);
    let second = setup.path("second.tar");
    let second = second.to_str().unwrap().to_owned();
    done(&["backup", &second]);
    assert_eq!(acts(&base), told, "nobody has written to the trail");
    assert_eq!(waiting(&base), 4);
    let daemon = setup.start();
    let afterwards = [
        act("admin.key.trust", "release", true),
        act("admin.key.revoke", "release", true),
        act("admin.plugin.remove", "p", true),
        act("admin.backup", &second, true),
    ];
    let all = [&told[..], &afterwards].concat();
    assert_eq!(acts(&base), all);
    // They are taken once, and the chain is whole with them.
    let setup = daemon.stop();
    let daemon = setup.start();
    assert_eq!(acts(&base), all);
    done(&["audit", "verify"]);

    // A restore is in the trail that it brought, with what that one did not know.
    let setup = daemon.stop();
    done(&["restore", "--yes", &first]);
    let daemon = setup.start();
    let restored = acts(&base);
    assert_eq!(restored[0], told[0]);
    assert_eq!(restored[1..restored.len() - 1], afterwards);
    let (action, subject, was_told) = restored.last().unwrap();
    assert_eq!((action.as_str(), *was_told), ("admin.restore", true));
    assert!(subject.starts_with("backup of "), "{subject}");
    drop(daemon);
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new().plugin("p", "goatflow-g4");
    let setup = setup.start().stop();
    let base = setup.base();
    let pending = base.join("etc/pending-audit");
    // A file in its place: who is root may write in every directory.
    std::fs::write(&pending, "").unwrap();
    let policy = base.join("etc/policy.d/p.toml");
    for arguments in [
        &["plugin", "grant", "--yes", "p"][..],
        &["plugin", "remove", "--yes", "p"],
        &["backup", base.join("x.tar").to_str().unwrap()],
    ] {
        let output = pinfold(&base, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(error.contains("nothing was done"), "{error}");
        assert!(error.contains("pending-audit"), "{error}");
        assert!(error.contains("hint: "), "{error}");
    }
    assert!(!policy.exists());
    assert!(base.join("plugins/p").exists());
    assert!(!base.join("x.tar").exists());
}
