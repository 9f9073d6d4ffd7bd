//! Load, crashes, reloads, switching and host calls for a long time: what the daemon and its launcher
//! take does not grow.
//!
//! `make soak` does it for an hour or for `DURATION`, and judges; without it is a few seconds, in which
//! only the requests are judged.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pinfold_tests::tell;
use serde_json::json;

use super::daemon::Daemon;
use super::http::Answer;
use super::over::Over;
use super::process;
use super::setup::Setup;

/// Without a duration.
const SHORT: Duration = Duration::from_secs(6);
/// From here on there is enough to judge.
const JUDGED: Duration = Duration::from_secs(60);
const SAMPLES: u32 = 40;
/// Callers of the plugin that has to answer always.
const CALLERS: usize = 4;
/// Most that the median of the last quarter may be above that of the quarter before it: a few in a
/// hundred of a small process, and connections that happen to be open.
const DAEMON_GROWTH_KIB: u64 = 4096;
const LAUNCHER_GROWTH_KIB: u64 = 512;
const DESCRIPTOR_GROWTH: u64 = 16;

#[test]
fn what_daemon_and_launcher_take_does_not_grow_under_long_load() {
    if !super::can_run() {
        return;
    }
    let wanted = std::env::var("SOAK_DURATION").unwrap_or_default();
    let duration = duration(&wanted).unwrap_or(SHORT);
    let daemon = Setup::new()
        .hello()
        .plugin("crashing", "goatflow-g4")
        .plugin("reloaded", "goatflow-g3")
        .plugin("switched", "goatflow-g4")
        .start();
    tell(&format!("soak: {duration:?}"));
    tell("    time   daemon KiB  fds   launcher KiB  fds    requests  failed   events");
    let load = Load::default();
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        let _over = Over(&load.is_over);
        for _ in 0..CALLERS {
            scope.spawn(|| load.ask(&daemon));
        }
        scope.spawn(|| load.host_calls(&daemon));
        scope.spawn(|| load.happenings(&daemon));
        let start = Instant::now();
        for at in 1..=SAMPLES {
            let next = start + duration * at / SAMPLES;
            std::thread::sleep(next.saturating_duration_since(Instant::now())); // a sample's time
            let sample = Sample::take(&daemon);
            tell(&format!(
                "{:>7.0}s {:>12} {:>4} {:>14} {:>4} {:>11} {:>7} {:>8}",
                start.elapsed().as_secs_f64(),
                sample.daemon_kib,
                sample.daemon_descriptors,
                sample.launcher_kib,
                sample.launcher_descriptors,
                load.asked.load(Ordering::Relaxed),
                load.failed.load(Ordering::Relaxed),
                load.happened.count(),
            ));
            samples.push(sample);
        }
    });
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "hello has failed");
    tell(&format!("soak: {:?}", load.happened.each()));
    load.happened.assert_each();
    let mut grown = Vec::new();
    for (what, bound, of) in [
        (
            "daemon's memory, KiB",
            DAEMON_GROWTH_KIB,
            (|s| s.daemon_kib) as fn(&Sample) -> u64,
        ),
        ("daemon's descriptors", DESCRIPTOR_GROWTH, |s| {
            s.daemon_descriptors
        }),
        ("launcher's memory, KiB", LAUNCHER_GROWTH_KIB, |s| {
            s.launcher_kib
        }),
        ("launcher's descriptors", DESCRIPTOR_GROWTH, |s| {
            s.launcher_descriptors
        }),
    ] {
        let (_, later) = samples.split_at(samples.len() / 2);
        let (third, last) = later.split_at(later.len() / 2);
        let (third, last) = (median(third, of), median(last, of));
        let is_flat = last <= third + bound;
        let verdict = if is_flat { "flat" } else { "GROWS" };
        tell(&format!(
            "soak: {what}: {third} in the third quarter, {last} in the last, at most {bound} more: {verdict}"
        ));
        if !is_flat {
            grown.push(what);
        }
    }
    if duration >= JUDGED {
        assert!(grown.is_empty(), "{grown:?}");
    } else {
        tell("soak: too short to judge what it takes: make soak");
    }
}

/// What both processes take at one moment.
struct Sample {
    daemon_kib: u64,
    daemon_descriptors: u64,
    launcher_kib: u64,
    launcher_descriptors: u64,
}

impl Sample {
    fn take(daemon: &Daemon) -> Self {
        let memory = |pid| {
            let text = process::field(pid, "VmRSS").unwrap();
            text.trim_end_matches(" kB").parse().unwrap()
        };
        let descriptors = |pid| match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(entries) => entries.count() as u64,
            // A process that may not be looked into: root's to see.
            Err(error) => {
                let is_users = !nix::unistd::geteuid().is_root();
                assert!(is_users, "descriptors of {pid}: {error}");
                0
            }
        };
        let (own, launcher) = (daemon.pid(), daemon.launcher_pid());
        Self {
            daemon_kib: memory(own),
            daemon_descriptors: descriptors(own),
            launcher_kib: memory(launcher),
            launcher_descriptors: descriptors(launcher),
        }
    }
}

fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// What is asked and done meanwhile.
#[derive(Default)]
struct Load {
    asked: AtomicU64,
    failed: AtomicU64,
    happened: Happened,
    is_over: AtomicBool,
}

/// What was done and answered as it should be.
#[derive(Debug, Default)]
struct Happened {
    crashes: AtomicU64,
    floods: AtomicU64,
    reloads: AtomicU64,
    disabled: AtomicU64,
    enabled: AtomicU64,
    host_calls: AtomicU64,
}

impl Happened {
    fn each(&self) -> [(&'static str, u64); 6] {
        [
            ("crashes", &self.crashes),
            ("floods", &self.floods),
            ("reloads", &self.reloads),
            ("disabled", &self.disabled),
            ("enabled", &self.enabled),
            ("host calls", &self.host_calls),
        ]
        .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
    }

    fn count(&self) -> u64 {
        self.each().iter().map(|(_, count)| count).sum()
    }

    fn assert_each(&self) {
        for (what, count) in self.each() {
            assert!(count > 0, "no {what}");
        }
    }
}

/// Counts what was answered with `status`.
fn count(count: &AtomicU64, answer: io::Result<Answer>, status: u16) {
    if answer.is_ok_and(|answer| answer.status == status) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Load {
    /// Asks the plugin that nothing happens to.
    fn ask(&self, daemon: &Daemon) {
        while !self.is_over.load(Ordering::Relaxed) {
            let path = "/api/plugins/hello/greeting?name=Ada";
            let answer = daemon.http().get(path).try_send();
            self.asked.fetch_add(1, Ordering::Relaxed);
            if !answer.is_ok_and(|answer| answer.status == 200) {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(2)); // a client's pace
        }
    }

    /// Has a plugin ask its host, refused and not.
    fn host_calls(&self, daemon: &Daemon) {
        while !self.is_over.load(Ordering::Relaxed) {
            for method in ["cache_get", "config_get", "no_such_method"] {
                let arguments = json!({"method": method, "args": {"key": "app.name"}, "n": 20});
                // Refused while it is switched off.
                let answer = daemon.call("switched", "host_parallel", &arguments);
                count(&self.happened.host_calls, Ok(answer), 200);
            }
            std::thread::sleep(Duration::from_millis(20)); // a client's pace
        }
    }

    /// Crashes, reloads and switches, one after the other.
    fn happenings(&self, daemon: &Daemon) {
        let post = |path: &str| {
            let path = format!("/api/pinfold/v1/plugins/{path}");
            daemon.admin().post(&path).try_send()
        };
        let happened = &self.happened;
        let flood = json!({"stream": "fd2", "bytes": 65536, "line": 80});
        while !self.is_over.load(Ordering::Relaxed) {
            // Both are refused while it is down after the last time.
            let answer = daemon.call("crashing", "flood", &flood);
            count(&happened.floods, Ok(answer), 200);
            let answer = daemon.call("crashing", "exit", &json!({"code": 5}));
            count(&happened.crashes, Ok(answer), 502);
            if daemon.plugin("crashing")["state"] == "failed" {
                // It has crashed too often, and waits for somebody.
                post("crashing/reload").unwrap();
            }
            count(&happened.reloads, post("reloaded/reload"), 200);
            count(&happened.disabled, post("switched/disable"), 200);
            count(&happened.enabled, post("switched/enable"), 200);
            std::thread::sleep(Duration::from_millis(200)); // an operator's pace
        }
    }
}

/// `90`, `90s`, `10m` or `1h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match text.strip_prefix(digits)? {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    if text.is_empty() {
        return None;
    }
    let count: u64 = digits
        .parse()
        .unwrap_or_else(|_| panic!("DURATION={text}: a number with s, m or h is expected"));
    Some(Duration::from_secs(count * unit))
}
