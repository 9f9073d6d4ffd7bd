//! Memory of the daemon and its launcher, and what more plugins do to it and to all else.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::daemon::{Daemon, Installation, prepare};
use super::gateway::{self, GoGateway};
use super::record::Results;
use super::section::{
    About, Better, Case, Effort, Form, Plot, Role, Section, Subject, Turn, Values, measure,
    without_root,
};
use super::wrk::Target;
use crate::go_fixture;

const OURS: &str = "Pinfold";
const GO: &str = "Go net/http";
/// The plugin: a small one, for what is staged lies in memory and has a limit.
pub(super) const FIXTURE: &str = "crowd";
const PLUGINS: [u64; 3] = [1, 50, 200];
/// From the last that happened until a process counts as idle.
pub(super) const SETTLE: Duration = Duration::from_secs(3);
/// How often memory is looked at under load.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// The section.
#[derive(Debug)]
pub(super) struct Memory;

impl Section for Memory {
    fn about(&self) -> About {
        let root = without_root();
        let lines = |file, title, measure| Plot {
            file,
            title,
            measure,
            only: &[],
            along: Some("plugins"),
            axis: "plugins",
            form: Form::Lines,
            logarithmic: false,
        };
        About {
            name: "memory",
            title: "Memory, and growth with plugins",
            question: "How much memory do the daemon and the launcher take, and what do more plugins \
                       change?",
            method: "Copies of one plugin under other names, each in a jail; a plugin of 6 MB without \
                     go-plugin, for the launcher keeps at most 2 GiB staged, and two hundred of the \
                     library's size are more. Resident (RSS) and \
                     proportional (PSS) memory from `/proc`, in MB of 10⁶ bytes, without the plugins': \
                     3 s after the last plugin serves, at most while `wrk -c64` loads one plugin of \
                     them, and 3 s after that. Requests are those of the same load, on the public \
                     route. A start is that of one more plugin among the others that run, by the \
                     administration, until it serves; it is staged anew. The Go host, with one plugin \
                     and its HTTP listener, is a process without a launcher.",
            subjects: vec![
                Subject::new(OURS, Role::Ours).absent_for(root),
                Subject::new(GO, Role::Peer),
            ],
            measures: vec![
                measure("daemon_rss", "idle, RSS", "MB", Better::Less, true),
                measure("daemon_pss", "idle, PSS", "MB", Better::Less, false),
                measure("launcher_rss", "launcher, RSS", "MB", Better::Less, false),
                measure("launcher_pss", "launcher, PSS", "MB", Better::Less, false),
                measure("loaded_rss", "under wrk, RSS", "MB", Better::Less, true),
                measure(
                    "loaded_launcher_rss",
                    "launcher under wrk, RSS",
                    "MB",
                    Better::Less,
                    false,
                ),
                measure("after_rss", "after wrk, RSS", "MB", Better::Less, false),
                measure("requests_per_second", "requests", "/s", Better::More, false),
                measure("p99_us", "p99", "µs", Better::Less, false),
                measure(
                    "start_ms",
                    "one more plugin's start",
                    "ms",
                    Better::Less,
                    false,
                ),
                measure(
                    "all_s",
                    "start of the daemon until all serve",
                    "s",
                    Better::Less,
                    false,
                ),
            ],
            plots: vec![
                lines(
                    "idle",
                    "Resident memory of the daemon, idle, MB",
                    "daemon_rss",
                ),
                lines(
                    "requests",
                    "Requests a second, by number of plugins",
                    "requests_per_second",
                ),
                lines(
                    "p99",
                    "99 of 100 requests are answered within, µs",
                    "p99_us",
                ),
                lines("start", "Start of one more plugin, ms", "start_ms"),
            ],
        }
    }

    fn cases(&self, effort: &Effort) -> Vec<Case> {
        let counts = if effort.quick {
            &PLUGINS[..2]
        } else {
            &PLUGINS
        };
        let case = |count: &u64| Case::new(plural(*count), &[("plugins", *count)]);
        counts.iter().map(case).collect()
    }

    fn applies(&self, subject: &str, case: &Case) -> bool {
        subject == OURS || case.get("plugins") == 1
    }

    fn prepare(&self) -> anyhow::Result<()> {
        super::wrk::version()?;
        prepare(&[FIXTURE, "host"]);
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        if turn.subject == GO {
            return go(turn);
        }
        let count = turn.case.count("plugins");
        let mut installation = Installation::new()?;
        for number in 0..count {
            installation = installation.plugin(&name(number), &go_fixture(FIXTURE), &[])?;
        }
        let daemon = installation.start(turn.group)?;
        let mut values = ours(turn, &daemon)?;
        let last = name(count - 1);
        daemon.switch(&last, "disable")?;
        let begin = Instant::now();
        daemon.switch(&last, "enable")?;
        let start = begin.elapsed();
        daemon.serves(&last)?;
        values.insert("start_ms".to_owned(), start.as_secs_f64() * 1e3);
        values.insert("all_s".to_owned(), daemon.started_within.as_secs_f64());
        daemon.stop()?;
        Ok(values)
    }

    fn remarks(&self, results: &Results<'_>) -> Vec<String> {
        let median = |count: u64, key: &str| results.median(OURS, &plural(count), key);
        let slope = |count: u64, key: &str| -> Option<f64> {
            #[expect(clippy::cast_precision_loss, reason = "a number of plugins")]
            let further = (count - 1) as f64;
            // MB of 10⁶ bytes into KiB.
            Some((median(count, key)? - median(1, key)?) * 1e6 / 1024.0 / further)
        };
        let mut remarks = Vec::new();
        for count in PLUGINS.into_iter().skip(1) {
            if let Some((daemon, launcher)) =
                slope(count, "daemon_rss").zip(slope(count, "launcher_rss"))
            {
                remarks.push(format!(
                    "Each further idle plugin, from 1 to {count}: {daemon:.0} KiB in the daemon and \
                     {launcher:.0} KiB in the launcher (RSS). Asked: at most 150 KiB."
                ));
            }
        }
        if let Some((idle, loaded)) = median(1, "daemon_rss").zip(median(1, "loaded_rss")) {
            remarks.push(format!(
                "With one plugin the daemon has {idle:.1} MB idle and at most {loaded:.1} MB under \
                 wrk. Asked: at most 15 MB and 25 MB."
            ));
        }
        remarks
    }
}

fn plural(count: u64) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} plugin{s}")
}

fn name(number: usize) -> String {
    format!("bench-{number:03}")
}

fn ours(turn: &Turn<'_>, daemon: &Daemon) -> anyhow::Result<Values> {
    let plugin = name(0);
    let target = Target {
        address: daemon.address(),
        path: gateway::path(&plugin, "open"),
        token: None,
        connections: gateway::CONNECTIONS,
    };
    let launcher = daemon.launcher_pid();
    std::thread::sleep(SETTLE);
    let idle = resident(launcher)?;
    let mut values = Values::from([
        ("launcher_rss".to_owned(), idle.rss),
        ("launcher_pss".to_owned(), idle.pss),
    ]);
    values.extend(watch(turn, daemon.pid(), &target)?);
    values.insert("loaded_launcher_rss".to_owned(), resident(launcher)?.rss);
    Ok(values)
}

fn go(turn: &Turn<'_>) -> anyhow::Result<Values> {
    let mut host = GoGateway::start(turn.group, FIXTURE)?;
    let target = gateway::target(&mut host.process)?;
    std::thread::sleep(SETTLE);
    let values = watch(turn, host.process.id(), &target)?;
    host.stop()?;
    Ok(values)
}

/// What a process takes idle, under load and after it; with the load's own figures.
fn watch(turn: &Turn<'_>, pid: u32, target: &Target) -> anyhow::Result<Values> {
    let idle = resident(pid)?;
    let over = AtomicBool::new(false);
    let (driven, most) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0.0_f64;
            while !over.load(Ordering::Relaxed) {
                if let Ok(now) = resident_only(pid) {
                    most = most.max(now);
                }
                std::thread::sleep(SAMPLE_EVERY);
            }
            most
        });
        let driven = gateway::drive(turn, target);
        over.store(true, Ordering::Relaxed);
        let most = sampler.join().unwrap_or(f64::NAN);
        (driven, most)
    });
    let mut values = driven?;
    std::thread::sleep(SETTLE);
    values.extend([
        ("daemon_rss".to_owned(), idle.rss),
        ("daemon_pss".to_owned(), idle.pss),
        ("loaded_rss".to_owned(), most),
        ("after_rss".to_owned(), resident_only(pid)?),
    ]);
    Ok(values)
}

/// Memory of one process in MB of 10⁶ bytes.
pub(super) struct Resident {
    pub(super) rss: f64,
    /// Pages that others share count in part.
    pub(super) pss: f64,
}

/// Walks all its mappings: nothing to do under load.
pub(super) fn resident(pid: u32) -> anyhow::Result<Resident> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(Resident {
        rss: megabytes(&text, "Rss:").with_context(|| path.clone())?,
        pss: megabytes(&text, "Pss:").with_context(|| path.clone())?,
    })
}

fn resident_only(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    megabytes(&text, "VmRSS:").context(path)
}

/// A line such as `Rss:    123 kB`, where kB is 1024 bytes: proc(5).
fn megabytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
