//! What an operator does to an installation as a whole: backs it up, restores it, has it looked at.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::command_line::{pinfold, printed, said};
use super::setup::Setup;

/// Everything below: path, mode, owner and content.
fn tree(base: &Path, below: &[&str]) -> Vec<(PathBuf, u32, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = below.iter().map(|name| base.join(name)).collect();
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut content = Vec::new();
        if metadata.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            content = fs::read(&path).unwrap();
        }
        found.push((path, metadata.permissions().mode(), metadata.uid(), content));
    }
    found.sort();
    found
}

#[test]
fn an_installation_that_was_destroyed_is_restored_whole_and_serves() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    daemon.ready("g4");
    let token = daemon.token("ann", &["admin"]);
    let base = daemon.base();
    // What the plugin has written where it lasts.
    let state = base.join("launcher/state/g4");
    let owner = fs::metadata(&state).unwrap().uid();
    let notes = state.join("notes");
    fs::write(&notes, "to be kept").unwrap();
    chown(&notes, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&notes, fs::Permissions::from_mode(0o640)).unwrap();

    let backup = daemon.setup().path("backup.tar");
    let file = backup.to_str().unwrap();
    let made: Value =
        serde_json::from_str(&printed(&pinfold(&base, &["--json", "backup", file]))).unwrap();
    assert_eq!(made["left_out"], json!([]), "{made}");
    assert_eq!(fs::metadata(&backup).unwrap().mode() & 0o777, 0o600);
    let again = pinfold(&base, &["backup", file]);
    assert_eq!(again.status.code(), Some(73), "{}", said(&again));
    let running = pinfold(&base, &["restore", file, "--yes"]);
    assert_eq!(running.status.code(), Some(75), "{}", said(&running));

    let kept = [
        "etc/policy.d",
        "etc/keys.d",
        "plugins",
        "dev-policy",
        "launcher/state",
    ];
    let before = tree(&base, &kept);
    let setup = daemon.stop().without_additions();
    for entry in fs::read_dir(&base).unwrap() {
        let path = entry.unwrap().path();
        fs::remove_dir_all(&path).unwrap();
        // While it is there, its block of user ids is given to nobody else.
        if path.ends_with("launcher") {
            fs::create_dir(&path).unwrap();
        }
    }
    // As a package that is installed again leaves it.
    let setup = setup.start().stop();
    assert!(!state.exists());

    // One of which a byte is another: refused before anything changes.
    let mut bytes = fs::read(&backup).unwrap();
    let at = bytes
        .windows(10)
        .position(|it| it == b"to be kept")
        .unwrap();
    bytes[at] ^= 1;
    let bad = setup.path("bad.tar");
    fs::write(&bad, &bytes).unwrap();
    let empty = tree(&base, &kept);
    let refused = pinfold(&base, &["restore", bad.to_str().unwrap(), "--yes"]);
    assert_eq!(refused.status.code(), Some(65), "{}", said(&refused));
    printed(&pinfold(&base, &["restore", file, "--dry-run"]));
    let unasked = pinfold(&base, &["restore", file]);
    assert_eq!(unasked.status.code(), Some(2), "{}", said(&unasked));
    assert_eq!(tree(&base, &kept), empty);

    printed(&pinfold(&base, &["restore", file, "--yes"]));
    assert_eq!(tree(&base, &kept), before);
    for head in made["audit"].as_array().unwrap() {
        let expected = format!("{}:{}", head["number"], head["hash"].as_str().unwrap());
        printed(&pinfold(&base, &["audit", "verify", "--expect", &expected]));
    }
    // Whose database it is has not changed, or the daemon could not open it.
    let daemon = setup.start();
    daemon.ready("g4");
    let list = daemon.http().get("/api/v1/plugins").token(&token).send();
    assert_eq!(list.status, 200, "{}", list.text());
    let public = daemon.http().get("/api/plugins/g4/public").send();
    assert_eq!(public.status, 200, "{}", public.text());
    printed(&pinfold(&base, &["audit", "verify"]));
    assert_eq!(fs::read_to_string(&notes).unwrap(), "to be kept");
}

#[test]
fn a_restore_that_was_cut_off_keeps_the_daemon_from_starting() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new().start().stop();
    let marker = setup.base().join("state/restore-unfinished");
    fs::write(&marker, "").unwrap();
    let (code, said) = setup.start_and_fail();
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("run the same `pinfold restore` again"),
        "{said}"
    );
}

#[test]
fn doctor_finds_what_is_broken_and_says_how_to_mend_each() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    daemon.ready("g4");
    let base = daemon.base();
    let look = || {
        let output = pinfold(&base, &["doctor", "--json"]);
        let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = diagnosis["findings"].as_array().unwrap().clone();
        for finding in &findings {
            let is_bad = matches!(finding["severity"].as_str(), Some("error" | "warning"));
            let mend = finding["mend"].as_str();
            assert!(!is_bad || mend.is_some(), "{finding}");
            // It is a developer's: the service, which may be there too, is none of its business.
            let is_services =
                |mend: &str| mend.contains("systemctl") || mend.contains("sudo pinfold");
            assert!(!mend.is_some_and(is_services), "{finding}");
            // Whoever publishes a plugin signs it, wherever that is; a user may have the name as well.
            let mine = mend.unwrap_or_default().replace("pinfold sign ", "");
            let mine = mine.replace("-u pinfold ", "");
            let commands = mine.matches("pinfold ").count();
            assert_eq!(
                commands,
                mine.matches("pinfold --dev ").count(),
                "{finding}"
            );
        }
        (output.status.code(), diagnosis["daemon"].clone(), findings)
    };
    let errors = |findings: &[Value]| -> Vec<String> {
        // What a machine does not give is no fault of the installation.
        let errors = findings
            .iter()
            .filter(|one| one["severity"] == "error" && one["check"] != "posture");
        errors.map(ToString::to_string).collect()
    };
    let (code, state, findings) = look();
    assert_eq!(state, "running");
    assert_eq!(errors(&findings), [""; 0]);
    assert!(matches!(code, Some(0 | 1)), "{code:?}");

    let setup = daemon.stop();
    let policy = base.join("etc/policy.d/g4.toml");
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(
        base.join("etc/policy.d/other.toml"),
        "schema = 1\nfoo = 2\n",
    )
    .unwrap();
    fs::write(base.join("etc/keys.d/gone.pub"), "no key").unwrap();
    let database = base.join("state/pinfold.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    let sql = "UPDATE audit SET subject = 'somebody else' WHERE number = 2";
    change_database(&base, sql);
    let pending = base.join("etc/pending-audit");
    if !pending.exists() {
        fs::create_dir(&pending).unwrap();
    }
    fs::set_permissions(&pending, fs::Permissions::from_mode(0o755)).unwrap();
    let record = pending.join(format!("{}.json", "0".repeat(32)));
    fs::write(&record, "no record").unwrap();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, state, findings) = look();
    assert_eq!((code, state), (Some(2), "down".into()));
    let errors = errors(&findings);
    for (check, said) in [
        ("files", "g4.toml"),
        ("files", "pinfold.db"),
        ("policies", "other.toml"),
        ("signatures", "key gone"),
        ("audit trail", "record 2"),
        ("pending audit", "is no record"),
        ("sockets", "does not answer"),
    ] {
        let is_it = |one: &String| one.contains(check) && one.contains(said);
        assert!(errors.iter().any(is_it), "{check}, {said}: {errors:#?}");
    }
    let people = pinfold(&base, &["doctor"]);
    assert!(said(&people).contains("mend: "), "{}", said(&people));
    drop(setup);
}

/// Changes the database of an installation whose daemon does not run.
pub(super) fn change_database(base: &Path, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        use sqlx::ConnectOptions as _;
        let database = base.join("state/pinfold.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    });
}

#[test]
fn at_the_first_run_status_says_what_to_do_next() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().start();
    let said = printed(&pinfold(&daemon.base(), &["status"]));
    for wanted in [
        "is ready",
        "gateway",
        "http://127.0.0.1:",
        "plugin add DIRECTORY",
        "doctor",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // `make run` leaves a token.
    assert!(!said.contains("token create"), "{said}");
}

#[test]
fn the_log_goes_by_another_filter_for_a_while_and_the_trail_says_so() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().start();
    let base = daemon.base();
    let level = |arguments: &[&str]| -> Value {
        let all = [&["--json", "log-level"][..], arguments].concat();
        serde_json::from_str(&printed(&pinfold(&base, &all))).unwrap()
    };
    let before = level(&[]);
    assert_eq!(
        (&before["filter"], &before["until"]),
        (&before["configured"], &Value::Null)
    );
    let set = level(&["pinfold=trace,info", "--for", "10m"]);
    assert_eq!(set["filter"], "pinfold=trace,info");
    assert!(set["until"].is_string(), "{set}");
    let status = printed(&pinfold(&base, &["status"]));
    assert!(
        status.contains("pinfold=trace,info, for another"),
        "{status}"
    );
    let refused = pinfold(&base, &["log-level", "pinfold=loud"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(level(&[])["filter"], "pinfold=trace,info");
    // What it lets through is in the log at once: nothing of that level was there before.
    fs::create_dir(base.join("plugins/No Plugin")).unwrap();
    daemon.rescan(None);
    pinfold_tests::wait_for("a line of that level", || {
        let printed = daemon.setup().printed();
        (printed.contains("DEBUG") || printed.contains("TRACE")).then_some(())
    });
    assert_eq!(level(&["--reset"]), before);
    // For a second, and over by itself.
    let path = "/api/pinfold/v1/log-filter";
    let put = daemon
        .admin()
        .request("PUT", path)
        .json(&json!({"filter": "debug", "seconds": 1}))
        .send();
    assert_eq!(put.status, 200, "{}", put.text());
    pinfold_tests::wait_for("the configuration's filter", || {
        (level(&[]) == before).then_some(())
    });
    let trail = pinfold_tests::wait_for("the record of it", || {
        let trail = printed(&pinfold(&base, &["audit", "list", "--action", "*log.*"]));
        (trail.matches("log.reset").count() == 2).then_some(trail)
    });
    assert!(
        trail.contains("admin.log.set pinfold=trace,info for 600 s: allow"),
        "{trail}"
    );
    for body in [
        json!({"filter": "debug", "seconds": 0}),
        json!({"filter": "debug", "more": 1}),
        json!({}),
    ] {
        let put = daemon.admin().request("PUT", path).json(&body).send();
        assert_eq!(put.status, 400, "{body}: {}", put.text());
    }
}
