//! Requests a second through gateways in front of one Go plugin.

mod limit;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::daemon::{Installation, prepare};
use super::group::Group;
use super::process::{LIMIT, Process};
use super::record::Results;
use super::request::Server;
use super::section::{
    About, Better, Case, Effort, Plot, Role, Section, Subject, Turn, Values, measure, without_root,
};
use super::wrk::{self, Target};
use crate::{go_fixture, scratch};

const GO: &str = "Go net/http";
const FULL: &str = "Pinfold";
const BARE: &str = "Pinfold, public route";
const EPOLL: &str = "limit (epoll)";

/// Name of the section.
const NAME: &str = "gateway";
/// The plugin: the subject of the goatflow dialect, with routes to measure.
pub(super) const FIXTURE: &str = "goatflow-bench";
/// What it is called in Pinfold.
pub(super) const PLUGIN: &str = "bench";
/// Bytes of text in each request.
const TEXT_BYTES: usize = 100;
/// Of wrk, each with one request under way.
pub(super) const CONNECTIONS: usize = 64;
/// Before anything is counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// The section.
#[derive(Debug)]
pub(super) struct Gateway;

impl Section for Gateway {
    fn about(&self) -> About {
        let root = without_root();
        About {
            name: NAME,
            title: "Gateway",
            question: "How many requests does a gateway pass to a plugin, and how long do they take?",
            method: "`wrk -t2 -c64 --latency`, on the same processors, sends GET requests with 100 B in \
                     the query; the plugin sends its arguments back. A whole Pinfold runs, the plugin \
                     jailed: with a token on a route that needs a user (token, permission, limit, \
                     audit), and on a public route without one, which is as bare as Pinfold's gateway \
                     gets: limit and audit stay. Both write the access log to a file, as by default. \
                     Go's `net/http` makes the same arguments and the same answers for the same plugin, \
                     and checks and writes nothing. The limit finds the end of a request's head and \
                     sends a pre-encoded call, on one thread. Processor time is that of the whole \
                     group, the plugin in it, without wrk.",
            subjects: vec![
                Subject::new(FULL, Role::Ours).absent_for(root),
                Subject::new(BARE, Role::Ours).absent_for(root),
                Subject::new(GO, Role::Peer),
                Subject::new(EPOLL, Role::Limit),
            ],
            measures: vec![
                measure("requests_per_second", "requests", "/s", Better::More, true),
                measure("p50_us", "p50", "µs", Better::Less, false),
                measure("p99_us", "p99", "µs", Better::Less, true),
                measure(
                    "processor_us",
                    "processor time of a request",
                    "µs",
                    Better::Less,
                    true,
                ),
            ],
            plots: vec![
                Plot::bars(
                    "requests",
                    "Requests a second through a gateway",
                    "requests_per_second",
                ),
                Plot::bars(
                    "p99",
                    "Time within which 99 of 100 requests are answered, µs",
                    "p99_us",
                ),
            ],
        }
    }

    fn cases(&self, _effort: &Effort) -> Vec<Case> {
        let connections = CONNECTIONS as u64;
        vec![Case::new(
            format!("{CONNECTIONS} connections"),
            &[("connections", connections)],
        )]
    }

    fn prepare(&self) -> anyhow::Result<()> {
        wrk::version()?;
        prepare(&[FIXTURE, "host"]);
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        match turn.subject {
            GO => {
                let mut host = GoGateway::start(turn.group, FIXTURE)?;
                let values = drive(turn, &target(&mut host.process)?)?;
                host.stop()?;
                Ok(values)
            }
            EPOLL => {
                let program = go_fixture(FIXTURE);
                let spec = program.to_str().context("a path in UTF-8")?;
                let mut limit = Process::start(EPOLL, turn.group.subject(NAME, spec))?;
                let values = drive(turn, &target(&mut limit)?)?;
                limit.end()?;
                Ok(values)
            }
            subject => {
                let daemon = Installation::new()?
                    .plugin(PLUGIN, &go_fixture(FIXTURE), &[])?
                    .start(turn.group)?;
                let token = (subject == FULL).then(|| daemon.token()).transpose()?;
                let route = if token.is_some() { "echo" } else { "open" };
                let target = Target {
                    address: daemon.address(),
                    path: path(PLUGIN, route),
                    token,
                    connections: CONNECTIONS,
                };
                let values = drive(turn, &target)?;
                daemon.stop()?;
                Ok(values)
            }
        }
    }

    fn remarks(&self, results: &Results<'_>) -> Vec<String> {
        let mut remarks = Vec::new();
        for case in results.cases() {
            let of = |other, key| results.ratio(FULL, other, &case.label, key);
            if let (Some(requests), Some(p99)) = (of(GO, "requests_per_second"), of(GO, "p99_us")) {
                remarks.push(format!(
                    "With everything on, {:.2} ({:.2} to {:.2}) of Go's requests and {:.2} of its p99. \
                     Asked: at least 1.25, and a lower p99.",
                    requests.median, requests.min, requests.max, p99.median
                ));
            }
            if let Some(limit) = of(EPOLL, "requests_per_second") {
                remarks.push(format!(
                    "{:.2} ({:.2} to {:.2}) of the limit's requests. The aim is 0.85.",
                    limit.median, limit.min, limit.max
                ));
            }
        }
        remarks
    }

    fn serve(&self, spec: &str) -> anyhow::Result<()> {
        // As Pinfold and the Go gateway make them of the request.
        let arguments = serde_json::json!({
            "_method": "GET",
            "_path": format!("/api/plugins/{PLUGIN}/open"),
            "text": "x".repeat(TEXT_BYTES),
        });
        limit::serve(Path::new(spec), arguments.to_string().as_bytes())
    }
}

/// Go's `net/http` with the plugin, which takes its name, and with it its routes, from its file.
pub(super) struct GoGateway {
    pub(super) process: Process,
    _directory: TempDir,
}

impl GoGateway {
    pub(super) fn start(group: &Group, fixture: &str) -> anyhow::Result<Self> {
        let directory = scratch();
        let program = directory.path().join(PLUGIN);
        std::os::unix::fs::symlink(go_fixture(fixture), &program)?;
        let mut command = group.command(go_fixture("host"));
        command.args(["-listen", "127.0.0.1:0"]).arg(program);
        Ok(Self {
            process: Process::start(GO, command)?,
            _directory: directory,
        })
    }

    /// Ends it with its plugin.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.process.id())?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        self.process.end()
    }
}

/// The public route of a program that says first where it listens.
pub(super) fn target(host: &mut Process) -> anyhow::Result<Target> {
    let line = host.line(LIMIT)?;
    let address = line
        .parse()
        .with_context(|| format!("no address: {line}"))?;
    Ok(Target {
        address,
        path: path(PLUGIN, "open"),
        token: None,
        connections: CONNECTIONS,
    })
}

/// Path and query of a request that says so much.
pub(super) fn path(plugin: &str, route: &str) -> String {
    let text = "x".repeat(TEXT_BYTES);
    format!("/api/plugins/{plugin}/{route}?text={text}")
}

/// The load, and what it cost.
pub(super) fn drive(turn: &Turn<'_>, target: &Target) -> anyhow::Result<Values> {
    check(target)?;
    wrk::good(target, WARM_UP)?;
    let before = turn.group.processor_time().ok();
    let found = wrk::good(target, Duration::from_secs_f64(turn.effort.seconds))?;
    let after = turn.group.processor_time().ok();
    let mut values = Values::from([
        ("requests_per_second".to_owned(), found.per_second),
        ("p50_us".to_owned(), found.p50_us),
        ("p99_us".to_owned(), found.p99_us),
    ]);
    if let Some((before, after)) = before.zip(after) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of requests are far below 2^52"
        )]
        let requests = found.requests as f64;
        let used = after.saturating_sub(before).as_secs_f64() * 1e6;
        values.insert("processor_us".to_owned(), used / requests);
    }
    Ok(values)
}

/// One request, whose answer has to be what the plugin was sent.
fn check(target: &Target) -> anyhow::Result<()> {
    let server = Server::Tcp(target.address);
    let answer = server.send("GET", &target.path, target.token.as_deref(), None)?;
    let body = answer.json()?;
    let Value::String(text) = &body["text"] else {
        bail!("the gateway answered {body}");
    };
    ensure!(
        text.len() == TEXT_BYTES && body["_method"] == "GET",
        "the gateway answered {body}"
    );
    Ok(())
}
