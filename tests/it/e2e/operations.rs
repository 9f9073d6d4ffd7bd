//! What an operator does to plugins and sees of them: switching, reloading, events, logs as they
//! come, and the command line for all of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use pinfold_tests::{binary, slowness, wait_for};
use serde_json::{Value, json};

use super::command_line::{command, pinfold, printed};
use super::daemon::Daemon;
use super::process;
use super::setup::Setup;

const API: &str = "/api/pinfold/v1";

fn daemon() -> Daemon {
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    daemon.ready("g4");
    daemon
}

/// The lines of an answer that goes on, as JSON.
fn follow(daemon: &Daemon, path: &str) -> impl Iterator<Item = Value> + use<> {
    let mut stream = daemon.admin().connect().unwrap();
    let head = format!("GET {API}{path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // Chunks begin with a line of their own, which is no object.
    BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(&line).unwrap())
}

#[test]
fn a_plugin_that_is_switched_off_stays_so_and_the_contracts_paths_do_it_too() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let admin = daemon.token("root", &["admin"]);
    let pid = daemon.plugin_pid("g4");
    let switch = |daemon: &Daemon, act: &str| {
        let path = format!("/api/v1/plugins/g4/{act}");
        daemon.http().post(&path).token(&admin).send()
    };
    assert_eq!(
        switch(&daemon, "disable").ok(),
        json!({ "status": "disabled" })
    );
    process::all_gone("the plugin", [pid]);
    let plugin = daemon.plugin("g4");
    assert_eq!(
        (&plugin["state"], &plugin["enabled"]),
        (&json!("disabled"), &json!(false))
    );
    let list = daemon
        .http()
        .get("/api/v1/plugins")
        .token(&admin)
        .send()
        .ok();
    assert_eq!(
        (&list[0]["enabled"], &list[0]["loaded"]),
        (&json!(false), &json!(false))
    );
    let call = daemon
        .http()
        .post("/api/v1/plugins/g4/call/echo")
        .token(&admin);
    assert_eq!(
        call.send().error(),
        (403, "plugin \"g4\" is disabled".into())
    );
    let reload = daemon
        .admin()
        .post(&format!("{API}/plugins/g4/reload"))
        .send();
    assert_eq!(
        (reload.status, &reload.json()["code"]),
        (409, &json!("control.disabled"))
    );
    // Whoever did it is in the audit trail, which lies in the daemon's state.
    let state = daemon.base().join("state");
    let daemon = daemon.stop().start();
    let trail: Vec<u8> = ["pinfold.db", "pinfold.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(state.join(name)).unwrap_or_default())
        .collect();
    let trail = String::from_utf8_lossy(&trail);
    assert!(trail.contains("user:rootadmin.plugin.disableg4"));
    // Neither a restart of the daemon nor looking again starts it.
    daemon.rescan(Some("g4"));
    assert_eq!(daemon.plugin("g4")["state"], "disabled");
    let enable = daemon
        .http()
        .post("/api/v1/plugins/g4/enable")
        .token(&admin)
        .send();
    assert_eq!(enable.ok(), json!({ "status": "enabled" }));
    daemon.ready("g4");
    let missing = daemon
        .http()
        .post("/api/v1/plugins/nobody/enable")
        .token(&admin)
        .send();
    assert_eq!(missing.error(), (404, "plugin \"nobody\" not found".into()));
    // Looked for by name when it is gone, and was already, it has been removed on purpose: should
    // it come again, nobody has switched it off.
    assert_eq!(switch(&daemon, "disable").status, 200);
    let directory = daemon.base().join("plugins/g4");
    let aside = daemon.base().join("aside");
    std::fs::rename(&directory, &aside).unwrap();
    wait_for("it to be unloaded", || {
        let path = format!("{API}/plugins/g4");
        (daemon.admin().get(&path).send().status == 404).then_some(())
    });
    assert_eq!(daemon.rescan(Some("g4")).status, 204);
    std::fs::rename(&aside, &directory).unwrap();
    let path = "/api/plugins/g4/public";
    wait_for("it to serve", || {
        (daemon.http().get(path).send().status == 200).then_some(())
    });
}

#[test]
fn events_are_told_with_their_causes_and_followed_until_the_daemon_ends() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let events = daemon.admin().get(&format!("{API}/events")).send().ok();
    let events = events.as_array().unwrap();
    let numbers: Vec<_> = events
        .iter()
        .map(|event| event["number"].as_u64())
        .collect();
    assert_eq!(
        numbers,
        (1..=events.len() as u64).map(Some).collect::<Vec<_>>()
    );
    let last = events.last().unwrap();
    assert_eq!(
        (&last["plugin"], &last["from"], &last["to"]),
        (&json!("g4"), &json!("starting"), &json!("ready"))
    );

    let path = format!("/events?follow=true&limit=1&after={}", events.len() - 1);
    let mut lines = follow(&daemon, &path);
    assert_eq!(lines.next().unwrap()["event"], *last, "first what is there");
    process::signal(daemon.plugin_pid("g4"), Signal::SIGKILL);
    let ending = lines.find(|line| line["event"]["from"] == "ready").unwrap();
    assert_eq!(ending["event"]["to"], "draining");
    let ended = lines
        .find(|line| line["event"]["from"] == "draining")
        .unwrap();
    let cause = ended["event"]["cause"].as_str().unwrap();
    assert!(
        cause.contains("SIGKILL") || cause.contains("signal 9"),
        "{ended}"
    );
    let disable = daemon
        .admin()
        .post(&format!("{API}/plugins/g4/disable"))
        .send();
    assert_eq!(disable.status, 200, "{}", disable.text());
    lines
        .find(|line| line["event"]["to"] == "disabled")
        .unwrap();
    daemon.stop();
    let end = lines.find(|line| line.get("end").is_some()).unwrap();
    assert_eq!(end["end"], "the daemon is stopping");
}

#[test]
fn a_log_is_followed_over_restarts_of_the_plugin_until_it_is_removed() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let mut lines = follow(&daemon, "/plugins/g4/logs?follow=true&limit=0&stream=log");
    let log = |text: &str| {
        let entry = json!({ "level": "warn", "message": text, "fields": { "n": 1 } });
        daemon.host("g4", "log", &entry);
    };
    log("first");
    let record = lines.next().unwrap()["log"].clone();
    assert_eq!(
        (&record["message"], &record["level"]),
        (&json!("first"), &json!("warn"))
    );
    let reload = daemon
        .admin()
        .post(&format!("{API}/plugins/g4/reload"))
        .send();
    assert_eq!(reload.status, 200, "{}", reload.text());
    log("second");
    lines
        .find(|line| line["log"]["message"] == "second")
        .unwrap();

    let admin = daemon.token("root", &["admin"]);
    let path = "/api/v1/plugins/logs?plugin=g4&level=warn&limit=1";
    let logs = daemon.http().get(path).token(&admin).send().ok();
    let entry = &logs["logs"][0];
    assert_eq!(
        (
            &entry["plugin"],
            &entry["message"],
            &entry["fields"]["n"],
            &logs["count"]
        ),
        (&json!("g4"), &json!("second"), &json!(1), &json!(1)),
        "{logs}"
    );

    std::fs::remove_dir_all(daemon.base().join("plugins/g4")).unwrap();
    daemon.rescan(Some("g4"));
    let end = lines.find(|line| line.get("end").is_some()).unwrap();
    assert_eq!(end["end"], "the plugin is no more");
}

#[test]
fn the_command_line_switches_reloads_and_shows() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let before = daemon.ready("g4")["generation"].as_u64().unwrap();
    printed(&pinfold(&daemon.base(), &["plugin", "reload", "g4"]));
    let after = daemon.ready("g4")["generation"].as_u64().unwrap();
    assert!(after > before, "{before} {after}");
    let text = printed(&pinfold(&daemon.base(), &["plugin", "disable", "g4"]));
    assert_eq!(text, "plugin g4 is disabled\n");
    let refused = pinfold(&daemon.base(), &["plugin", "reload", "g4"]);
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("enable it first"), "{error}");
    printed(&pinfold(&daemon.base(), &["plugin", "enable", "g4"]));
    daemon.ready("g4");

    let text = printed(&pinfold(&daemon.base(), &["plugin", "show", "g4"]));
    assert!(text.contains("latest events"), "{text}");
    assert!(text.contains("starting → ready"), "{text}");
    let shown = printed(&pinfold(
        &daemon.base(),
        &["--json", "plugin", "show", "g4"],
    ));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["state"], &shown["restarts"]),
        (&json!("ready"), &json!(0))
    );
    assert!(shown["events"].as_array().unwrap().len() <= 12);

    let events = printed(&pinfold(&daemon.base(), &["events", "--json", "-n", "2"]));
    let events: Vec<Value> = serde_json::from_str(&events).unwrap();
    assert_eq!(events.len(), 2);
    let none = printed(&pinfold(
        &daemon.base(),
        &["events", "--plugin", "other", "--json"],
    ));
    assert_eq!(none.trim(), "[]");

    let top = printed(&pinfold(&daemon.base(), &["top", "--json"]));
    let top: Value = serde_json::from_str(&top).unwrap();
    assert!(top["seconds"].as_f64().unwrap() >= 1.0, "{top}");
    assert_eq!(
        (&top["plugins"][0]["id"], &top["plugins"][0]["state"]),
        (&json!("g4"), &json!("ready"))
    );
    let text = printed(&pinfold(&daemon.base(), &["top"]));
    assert!(
        text.starts_with("PLUGIN") && text.contains("\ng4 "),
        "{text}"
    );
}

#[test]
fn the_command_line_follows_until_the_daemon_ends() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let piped = |arguments: &[&str]| {
        let mut command = command(&daemon.base(), arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut events = piped(&["events", "--follow"]);
    let mut logs = piped(&["plugin", "logs", "g4", "-f", "--stream", "log", "--json"]);
    let event_lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let mut event_lines = event_lines.map_while(Result::ok);
    let log_lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    event_lines
        .find(|line| line.ends_with("→ ready") || line.contains("→ ready: "))
        .unwrap();
    daemon.host(
        "g4",
        "log",
        &json!({ "level": "info", "message": "as it comes" }),
    );
    let mut records =
        log_lines.map(|line| -> Value { serde_json::from_str(&line.unwrap()).unwrap() });
    records
        .find(|line| line["log"]["message"] == "as it comes")
        .unwrap();
    printed(&pinfold(&daemon.base(), &["plugin", "disable", "g4"]));
    event_lines
        .find(|line| line.contains("→ disabled"))
        .unwrap();
    daemon.stop();
    for mut follower in [events, logs] {
        let status = wait_for("a follower to end", || follower.try_wait().unwrap());
        assert_eq!(status.code(), Some(75));
    }
}

#[test]
fn a_follower_ends_when_nobody_reads_its_lines() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    for arguments in [
        &["events", "--follow"][..],
        &["plugin", "logs", "g4", "--follow", "--limit", "1"],
    ] {
        let mut command = command(&daemon.base(), arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut follower = command.spawn().unwrap();
        let mut lines = BufReader::new(follower.stdout.take().unwrap());
        let mut first = String::new();
        assert!(lines.read_line(&mut first).unwrap() > 0, "{arguments:?}");
        // As `head -1` does.
        drop(lines);
        let status = wait_for("a follower to end", || follower.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn followers_are_limited_and_a_place_comes_back() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let path = "/events?follow=true";
    let mut following: Vec<_> = (0..64).map(|_| follow(&daemon, path)).collect();
    for lines in &mut following {
        assert!(lines.next().unwrap().get("event").is_some());
    }
    let refused = daemon.admin().get(&format!("{API}{path}")).send();
    assert_eq!(
        (
            refused.status,
            refused.header("retry-after"),
            &refused.json()["code"]
        ),
        (503, Some("5"), &json!("control.followers"))
    );
    assert_eq!(daemon.status()["state"], "ready", "others are served");
    following.pop();
    wait_for("the place of a follower that has gone", || {
        follow(&daemon, path).next()
    });
}

#[test]
fn a_follower_that_does_not_read_is_told_what_it_missed_and_holds_up_nobody() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "[rates]\nhost-calls-per-second = 1000000\n")
        .start();
    daemon.ready("g4");
    let path = "/plugins/g4/logs?follow=true&limit=0&stream=log";
    let (slow, mut quick) = (follow(&daemon, path), follow(&daemon, path));
    let entry = json!({ "level": "info", "message": "one of many" });
    let burst = json!({ "method": "log", "args": entry, "n": 5000 });
    let logged = 2 * 5000;
    let is_last = |line: &Value| line["log"]["message"] == "the last";
    let reading = std::thread::spawn(move || quick.any(|line| is_last(&line)));
    for _ in 0..2 {
        assert_eq!(daemon.result("g4", "host_parallel", &burst)["good"], 5000);
    }
    daemon.host(
        "g4",
        "log",
        &json!({ "level": "info", "message": "the last" }),
    );
    assert!(reading.join().unwrap());

    let (mut read, mut missed, mut has_last) = (0, 0, false);
    for line in slow {
        missed += line["missed"].as_u64().unwrap_or(0);
        has_last = is_last(&line);
        if has_last {
            break;
        }
        read += u64::from(line.get("log").is_some());
    }
    if !has_last && slowness() > 1 {
        // It took so long that the gateway gave up who read nothing.
        return;
    }
    assert!(missed > 0, "it read {read}");
    // What it missed may have been of other streams too.
    assert!(read + missed >= logged, "{read} + {missed}");
}

/// In a terminal of its own, which script(1) makes.
#[test]
fn top_takes_the_terminal_and_gives_it_back() {
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let program = binary("pinfold");
    let line = format!(
        "stty rows 24 cols 120; {} --dev-dir {} top; stty -a",
        program.display(),
        daemon.base().display()
    );
    let mut top = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    let mut stdout = top.stdout.take().unwrap();
    let mut read_until = |shown: &mut String, text: &str| {
        let mut bytes = [0; 4096];
        while !shown.contains(text) {
            let count = std::io::Read::read(&mut stdout, &mut bytes).unwrap();
            assert!(count > 0, "ended without {text:?}: {shown:?}");
            shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    read_until(&mut shown, "RESTARTS");
    read_until(&mut shown, "g4 ");
    assert!(shown.contains("\x1b[?1049h"), "{shown:?}");
    top.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    read_until(&mut shown, "\x1b[?1049l");
    // What it had changed is as before: keys wait for Enter, and are seen.
    read_until(&mut shown, " icanon");
    read_until(&mut shown, " echo ");
    drop(top.stdin.take());
    assert!(top.wait().unwrap().success());
}

#[test]
fn the_administration_socket_has_its_mode_and_the_daemons_files_are_its_own() {
    use std::os::unix::fs::PermissionsExt as _;
    if !super::can_run() {
        return;
    }
    let daemon = daemon();
    let mode = |path: &str| {
        let found = std::fs::symlink_metadata(daemon.base().join(path)).unwrap();
        found.permissions().mode() & 0o777
    };
    let shared = nix::unistd::geteuid().is_root();
    assert_eq!(mode("run/admin.sock"), if shared { 0o660 } else { 0o600 });
    assert_eq!(mode("state/pinfold.db") & 0o077, 0);
    assert_eq!(mode("state/lock") & 0o077, 0);
}
