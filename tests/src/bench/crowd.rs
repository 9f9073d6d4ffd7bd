//! Hundreds of jailed plugins at once: whether all answer, and what each takes.

use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::daemon::{Daemon, Installation, prepare};
use super::memory::{FIXTURE, SETTLE, resident};
use super::record::Results;
use super::request::Server;
use super::section::{
    About, Better, Case, Effort, Plot, Role, Section, Subject, Turn, Values, measure, without_root,
};
use crate::go_fixture;

const OURS: &str = "Pinfold";
/// Plugins of a try, and of the real thing.
const PLUGINS: (u64, u64) = (20, 300);

/// The section.
#[derive(Debug)]
pub(super) struct Crowd;

impl Section for Crowd {
    fn about(&self) -> About {
        let less = |key, title, unit| measure(key, title, unit, Better::Less, false);
        About {
            name: "crowd",
            title: "Hundreds of plugins at once",
            question: "Do hundreds of jailed plugins answer at once, and what does each take?",
            method: "Copies of one small plugin, each with a name, a jail and staged files of its own, are there \
                     when the daemon starts, as root with its own launcher. Once all are ready each is \
                     called through the gateway, one after the other, and its answer compared with what it \
                     was sent: one that does not answer fails the section. Memory is proportional (PSS, \
                     `smaps_rollup`), 3 s after that. For each plugin is what the whole process has, divided \
                     by their number. A plugin's own includes those pages of its staged program that it uses, \
                     which lie in memory.",
            subjects: vec![Subject::new(OURS, Role::Ours).absent_for(without_root())],
            measures: vec![
                measure("asked", "asked", "plugins", Better::More, false),
                measure("answered", "answered", "plugins", Better::More, false),
                less("ready_s", "all ready", "s"),
                less("answer_ms", "an answer, mean", "ms"),
                less("daemon_mb", "daemon", "MB"),
                less("launcher_mb", "launcher", "MB"),
                less("daemon_kib", "daemon, for each plugin", "KiB"),
                less("launcher_kib", "launcher, for each plugin", "KiB"),
                less("reaper_kib", "a reaper", "KiB"),
                less("plugin_kib", "a plugin", "KiB"),
                less("daemon_files", "daemon, open", "files"),
                less("launcher_files", "launcher, open", "files"),
            ],
            plots: vec![Plot::bars(
                "ready",
                "Start of the daemon until all plugins serve, s",
                "ready_s",
            )],
        }
    }

    fn cases(&self, effort: &Effort) -> Vec<Case> {
        let count = if effort.quick { PLUGINS.0 } else { PLUGINS.1 };
        vec![Case::new(format!("{count} plugins"), &[("plugins", count)])]
    }

    /// Minutes each, and its figures do not vary.
    fn rounds(&self, effort: &Effort) -> usize {
        effort.rounds.min(2)
    }

    fn prepare(&self) -> anyhow::Result<()> {
        prepare(&[FIXTURE]);
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let count = turn.case.count("plugins");
        let mut installation = Installation::new()?;
        for one in 0..count {
            installation = installation.plugin(&name(one), &go_fixture(FIXTURE), &[])?;
        }
        let daemon = installation.start(turn.group)?;
        let begin = Instant::now();
        let silent: Vec<String> = (0..count)
            .filter_map(|one| answer(&daemon, &name(one)).err())
            .map(|error| format!("{error:#}"))
            .collect();
        let took = begin.elapsed();
        let answered = count - silent.len();
        ensure!(
            silent.is_empty(),
            "of {count} plugins that were asked {answered} answered: {}",
            silent.first().map_or("", String::as_str)
        );
        let mut values = memory(&daemon, count)?;
        for (key, value) in [
            ("asked", number(count)),
            ("answered", number(answered)),
            ("ready_s", daemon.started_within.as_secs_f64()),
            ("answer_ms", took.as_secs_f64() * 1e3 / number(count)),
        ] {
            values.insert(key.to_owned(), value);
        }
        daemon.stop()?;
        Ok(values)
    }

    fn remarks(&self, results: &Results<'_>) -> Vec<String> {
        let remark = |case: &Case| {
            let median = |key| results.median(OURS, &case.label, key);
            Some(format!(
                "{:.0} of {:.0} jailed plugins answered at once. Each takes {:.0} KiB of the daemon, {:.0} \
                 KiB of the launcher and {:.0} KiB as its reaper, beside its own {:.0} KiB (PSS).",
                median("answered")?,
                median("asked")?,
                median("daemon_kib")?,
                median("launcher_kib")?,
                median("reaper_kib")?,
                median("plugin_kib")?,
            ))
        };
        results.cases().iter().filter_map(remark).collect()
    }
}

/// The name of one of many plugins.
pub(super) fn name(number: usize) -> String {
    format!("crowd-{number:03}")
}

#[expect(clippy::cast_precision_loss, reason = "numbers of plugins")]
fn number(count: usize) -> f64 {
    count as f64
}

/// One request for this plugin, whose answer has to be what this plugin was sent.
fn answer(daemon: &Daemon, plugin: &str) -> anyhow::Result<()> {
    let path = format!("/api/plugins/{plugin}/open");
    let server = Server::Tcp(daemon.address());
    let answer = server.get(&format!("{path}?text={plugin}-was-asked"))?;
    let body = answer.json()?;
    ensure!(
        body["text"] == format!("{plugin}-was-asked") && body["_path"] == path,
        "{plugin} answered {body}"
    );
    Ok(())
}

fn open_files(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/fd");
    Ok(number(std::fs::read_dir(&path).context(path)?.count()))
}

/// What the processes take, 3 s after what happened last.
fn memory(daemon: &Daemon, count: usize) -> anyhow::Result<Values> {
    std::thread::sleep(SETTLE);
    let jails = daemon.jails()?;
    ensure!(
        jails.len() == count,
        "{count} plugins serve, and {} processes are in jails",
        jails.len()
    );
    // Both MB of 10⁶ bytes and KiB, as the memory section has them.
    let kib = |mb: f64| mb * 1e6 / 1024.0;
    let (own, launcher) = (
        resident(daemon.pid())?.pss,
        resident(daemon.launcher_pid())?.pss,
    );
    let (mut reapers, mut plugins) = (0.0, 0.0);
    for (reaper, plugin) in jails {
        reapers += resident(reaper).context("a reaper")?.pss;
        plugins += resident(plugin).context("a plugin")?.pss;
    }
    let each = |mb: f64| kib(mb) / number(count);
    let values = [
        ("daemon_mb", own),
        ("launcher_mb", launcher),
        ("daemon_kib", each(own)),
        ("launcher_kib", each(launcher)),
        ("reaper_kib", each(reapers)),
        ("plugin_kib", each(plugins)),
        ("daemon_files", open_files(daemon.pid())?),
        ("launcher_files", open_files(daemon.launcher_pid())?),
    ];
    Ok(values.map(|(key, value)| (key.to_owned(), value)).into())
}
