//! The audit trail as an administrator finds it: what is in it, in the log too, and what is noticed
//! when somebody has had their hands on it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use pinfold_tests::{binary, wait_for};
use serde_json::{Value, json};

use super::process;
use super::setup::Setup;

/// Runs `pinfold audit` on an installation.
fn audit(base: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("pinfold"));
    command
        .arg("--dev-dir")
        .arg(base)
        .arg("audit")
        .args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
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
fn a_trail_that_is_not_there_is_no_broken_one() {
    let base = tempfile::tempdir().unwrap();
    let output = audit(base.path(), &["verify"]);
    assert_eq!(output.status.code(), Some(66));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("pinfold.db"), "{error}");
}
