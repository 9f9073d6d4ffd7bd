//! Reload: from a new program in the old one's place to its first answer.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::daemon::{Daemon, Installation, prepare};
use super::gateway::{self, FIXTURE, PLUGIN};
use super::request::Server;
use super::section::{
    About, Better, Case, Effort, Plot, Role, Section, Subject, Turn, Values, measure, without_root,
};
use super::wrk::{self, Target};
use crate::go_fixture;

const OURS: &str = "Pinfold";
const SECOND: &str = "goatflow-bench-v2";
/// Connections of the load.
const CONNECTIONS: u64 = 8;
/// How long there is load: longer than a reload takes.
const LOAD: Duration = Duration::from_secs(6);
/// For the new version to answer.
const LIMIT: Duration = Duration::from_secs(60);
/// Between a question which version there is and the next.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// The section.
#[derive(Debug)]
pub(super) struct Reload;

/// What whoever asks for the version saw.
struct Seen {
    /// From the moving-in to the first answer of the new version.
    after: Duration,
    asked: u32,
    failed: u32,
}

impl Section for Reload {
    fn about(&self) -> About {
        let root = without_root();
        let measure = |key, title, unit, better| measure(key, title, unit, better, false);
        About {
            name: "reload",
            title: "Reload",
            question: "How long does a plugin's new program take to serve, and does a request fail \
                       meanwhile?",
            method: "A new program is renamed onto the old one in the plugin directory. A client asks \
                     for the plugin's version every millisecond, each time on a new connection, until \
                     the new version answers; beside it there is nobody, or wrk with 8 connections. \
                     Half a second of the time is `discovery.debounce`, for which files have to stay \
                     as they are. Every question and request from before the moving-in until after the \
                     first new answer counts. A host in Go has nothing of the kind.",
            subjects: vec![Subject::new(OURS, Role::Ours).absent_for(root)],
            measures: vec![
                measure(
                    "reload_ms",
                    "until the new version answers",
                    "ms",
                    Better::Less,
                ),
                measure("failed", "failed requests", "number", Better::Less),
                measure("requests", "requests in all", "number", Better::More),
            ],
            plots: vec![Plot::bars(
                "time",
                "From a new program in its place to its first answer, ms",
                "reload_ms",
            )],
        }
    }

    fn cases(&self, _effort: &Effort) -> Vec<Case> {
        vec![
            Case::new("idle", &[("connections", 0)]),
            Case::new("under wrk", &[("connections", CONNECTIONS)]),
        ]
    }

    fn prepare(&self) -> anyhow::Result<()> {
        wrk::version()?;
        prepare(&[FIXTURE, SECOND]);
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let daemon = Installation::new()?
            .plugin(PLUGIN, &go_fixture(FIXTURE), &[])?
            .start(turn.group)?;
        // Not in the plugin directory: it would be a change of its own.
        let new = daemon.path("new");
        fs::copy(go_fixture(SECOND), &new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        let (seen, load) = match turn.case.count("connections") {
            0 => (switch(&daemon, &new)?, None),
            connections => {
                let target = Target {
                    address: daemon.address(),
                    path: gateway::path(PLUGIN, "open"),
                    token: None,
                    connections,
                };
                std::thread::scope(|scope| {
                    let load = scope.spawn(|| wrk::run(&target, LOAD));
                    // Not before the load has begun.
                    std::thread::sleep(LOAD / 6);
                    let seen = switch(&daemon, &new)?;
                    let is_over = load.is_finished();
                    let load = load.join().ok().context("wrk's thread panicked")??;
                    ensure!(!is_over, "the load ended before the reload did");
                    anyhow::Ok((seen, Some(load)))
                })?
            }
        };
        daemon.stop()?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of requests are far below 2^52"
        )]
        let (failed, requests) = load.map_or((0.0, 0.0), |found| {
            (found.failed as f64, found.requests as f64)
        });
        Ok(Values::from([
            ("reload_ms".to_owned(), seen.after.as_secs_f64() * 1e3),
            ("failed".to_owned(), f64::from(seen.failed) + failed),
            ("requests".to_owned(), f64::from(seen.asked) + requests),
        ]))
    }
}

/// Moves the new program in, and asks until it answers.
fn switch(daemon: &Daemon, new: &Path) -> anyhow::Result<Seen> {
    ensure!(
        version(daemon.address())?.as_deref() == Some("bench"),
        "the first version does not answer"
    );
    fs::rename(new, daemon.program(PLUGIN))?;
    let moved = Instant::now();
    let (mut asked, mut failed) = (0, 0);
    loop {
        asked += 1;
        match version(daemon.address()) {
            Ok(Some(version)) if version == "bench-v2" => {
                let after = moved.elapsed();
                return Ok(Seen {
                    after,
                    asked,
                    failed,
                });
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => failed += 1,
        }
        ensure!(
            moved.elapsed() < LIMIT,
            "the new version did not answer within {LIMIT:?}"
        );
        std::thread::sleep(ASK_EVERY);
    }
}

/// The version that answers; `None` where the answer is no good one.
fn version(address: SocketAddr) -> anyhow::Result<Option<String>> {
    let answer = Server::Tcp(address).get(&format!("/api/plugins/{PLUGIN}/version"))?;
    let version = answer.json().ok();
    Ok(version.and_then(|version| version.as_str().map(str::to_owned)))
}
