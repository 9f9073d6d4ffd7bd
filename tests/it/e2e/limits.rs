//! Each limit of a policy is the kernel's, is met, and is told.

use std::fs;
use std::time::Duration;

use pinfold_tests::{require, wait_for};
use serde_json::json;

use super::process;
use super::setup::Setup;

const MEBIBYTE: u64 = 1 << 20;

#[test]
fn the_control_groups_have_the_policys_limits() {
    if !require(&["root", "go", "cgroup-v1"]) {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy(
            "g4",
            "[limits]\nmemory = '96MiB'\ncpu = '30%'\nprocesses = 48\nfiles = 99\n",
        )
        .start();
    let plugin = daemon.ready("g4");
    let pid = daemon.plugin_pid("g4");
    let number = |controller: &str, file: &str| -> u64 {
        let path = process::group(pid, controller).join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        text.trim()
            .parse()
            .unwrap_or_else(|error| panic!("{path:?}: {text:?}: {error}"))
    };
    assert_eq!(number("memory", "memory.limit_in_bytes"), 96 * MEBIBYTE);
    // Only kernels that account for swap have this file; with it, memory and swap are one limit.
    if process::group(pid, "memory")
        .join("memory.memsw.limit_in_bytes")
        .exists()
    {
        assert_eq!(
            number("memory", "memory.memsw.limit_in_bytes"),
            96 * MEBIBYTE
        );
    }
    let (quota, period) = (
        number("cpu", "cpu.cfs_quota_us"),
        number("cpu", "cpu.cfs_period_us"),
    );
    assert_eq!(quota * 100, period * 30);
    assert_eq!(number("cpu", "cpu.shares"), 30 * 1024 / 100);
    // Linux 6.12 is the first that has a thread's own slice.
    if let Some(slice) = process::slice(pid) {
        assert_eq!(slice, Duration::from_millis(10));
    }
    // The jail's process 1 comes on top.
    assert_eq!(number("pids", "pids.max"), 48 + 1);
    for controller in ["memory", "cpu", "pids"] {
        let members = process::group(pid, controller).join("cgroup.procs");
        let members = fs::read_to_string(members).unwrap();
        assert!(
            members.lines().any(|line| line == pid.to_string()),
            "{controller}"
        );
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let files: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(&files[3..5], ["99", "99"]);

    assert_eq!(
        plugin["limits"],
        json!({
            "memory": "96MiB", "cpu": "30%", "processes": "48", "files": "99", "tmp": "16MiB",
            "call": "30s",
        })
    );
    assert_eq!(plugin["stats"]["memory_limit_bytes"], 96 * MEBIBYTE);
}

#[test]
fn a_fork_bomb_meets_its_limit_and_is_counted() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .hello()
        .plugin("bomb", "goatflow-g4")
        .policy("bomb", "[limits]\nprocesses = 48\n")
        .start();
    assert_eq!(daemon.ready("bomb")["stats"]["tasks_refused"], 0);
    let bomb = daemon.call("bomb", "fork_bomb", &json!({}));
    let uid = process::uid(daemon.plugin_pid("bomb")).unwrap();
    assert!(process::of_uid(uid).len() <= 48);
    let bomb = bomb.ok();
    assert_eq!(bomb["error"], "EAGAIN", "{bomb}");
    assert!(
        (1..48).contains(&bomb["started"].as_u64().unwrap()),
        "{bomb}"
    );
    let stats = daemon.ready("bomb")["stats"].clone();
    assert!(stats["tasks_refused"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["tasks_current"].as_u64().unwrap() <= 49, "{stats}");
    // Nobody else is short of processes.
    assert_eq!(
        daemon
            .http()
            .get("/api/plugins/hello/greeting")
            .send()
            .status,
        200
    );
    // All of it goes with the plugin.
    assert_eq!(daemon.rescan(Some("bomb")).status, 200);
    wait_for("the bomb's processes to be gone", || {
        (process::of_uid(uid) == [daemon.plugin_pid("bomb")]).then_some(())
    });
}

#[test]
fn a_memory_hog_ends_out_of_memory_and_alone() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .without_restarts()
        .hello()
        .plugin("hog", "goatflow-g4")
        .policy("hog", "[limits]\nmemory = '64MiB'\n")
        .start();
    let hello = daemon.plugin_pid("hello");
    let uid = process::uid(daemon.plugin_pid("hog")).unwrap();
    // What fits is had.
    assert_eq!(daemon.result("hog", "allocate", &json!({"mib": 16})), 16);
    let peak = &daemon.ready("hog")["stats"]["memory_peak_bytes"];
    assert!(peak.as_u64().unwrap() >= 16 * MEBIBYTE, "{peak}");
    // A grandchild goes with it.
    daemon.result("hog", "spawn", &json!({"n": 1}));
    let answer = daemon.call("hog", "allocate", &json!({"mib": 0}));
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (502, &json!("call.gone"))
    );
    let plugin = daemon.in_state("hog", "failed");
    assert_eq!(
        (&plugin["reason"], &plugin["last_exit"]),
        (&json!("out of memory"), &json!("out of memory"))
    );
    assert!(daemon.has_logged("hog", "ended: out of memory"));
    process::all_gone("the hog", process::of_uid(uid));
    assert_eq!(daemon.plugin_pid("hello"), hello);
}

#[test]
fn a_file_in_memory_counts_against_the_memory_limit() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "[limits]\nmemory = '64MiB'\ntmp = '8MiB'\n")
        .start();
    let before = daemon.ready("g4")["stats"]["memory_current_bytes"]
        .as_u64()
        .unwrap();
    let mut written = 0;
    let full = (0..16).find_map(|number| {
        let path = format!("/tmp/goatflow-plugin-g4/{number}");
        let write = json!({"path": path, "text": "x".repeat(1 << 20)});
        let outcome = daemon.result("g4", "write", &write);
        written += u64::from(outcome == "ok");
        (outcome != "ok").then_some(outcome)
    });
    assert_eq!(full, Some(json!("ENOSPC")));
    assert!((6..=8).contains(&written), "{written}");
    let after = daemon.ready("g4")["stats"]["memory_current_bytes"]
        .as_u64()
        .unwrap();
    assert!(
        after >= before + written * MEBIBYTE,
        "{before} and {written} MiB, now {after}"
    );
}

#[test]
fn a_busy_loop_gets_its_share_and_the_rest_is_told_as_held_back() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .hello()
        .plugin("busy", "goatflow-g4")
        .policy("busy", "[limits]\ncpu = '20%'\n")
        .start();
    let spin = daemon.result("busy", "spin", &json!({"ms": 2000}));
    // A fifth of two seconds, and the quotas of two periods more, which may lie at its ends.
    let used = spin["cpu_ms"].as_u64().unwrap();
    assert!((20..=500).contains(&used), "{used} ms");
    let stats = daemon.ready("busy")["stats"].clone();
    assert!(
        stats["cpu_throttled_us"].as_u64().unwrap() > 100_000,
        "{stats}"
    );
    assert_eq!(
        daemon
            .http()
            .get("/api/plugins/hello/greeting")
            .send()
            .status,
        200
    );
}
