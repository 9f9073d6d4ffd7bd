//! Host calls: round trips from a Go plugin to its host and back.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::daemon::{Installation, prepare};
use super::gateway::{FIXTURE, PLUGIN};
use super::section::{
    About, Better, Case, Effort, Plot, Role, Section, Subject, Turn, Values, measure, without_root,
};
use crate::go_fixture;

const OURS: &str = "Pinfold";
const GO: &str = "Go host";
const METHODS: [&str; 2] = ["cache_get", "db_query"];
const CALLERS: [u64; 2] = [1, 8];
const FUNCTION: &str = "host_loop";

/// The section.
#[derive(Debug)]
pub(super) struct HostCalls;

/// What the plugin's loop answers.
#[derive(Debug, Deserialize)]
struct Loop {
    calls: u32,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Section for HostCalls {
    fn about(&self) -> About {
        let root = without_root();
        About {
            name: "host-calls",
            title: "Host calls",
            question: "How many calls of the host does a plugin make in a second?",
            method: "A function of the Go plugin asks its host again and again, from 1 and from 8 \
                     goroutines, over the connection that the host has opened to it. Pinfold checks, \
                     counts and audits each call; `cache_get` finds 100 B, and `db_query` reads two \
                     rows of a table from SQLite. The Go host answers the first from a map and the \
                     second with two rows that are always the same: it has neither permissions nor a \
                     database.",
            subjects: vec![
                Subject::new(OURS, Role::Ours).absent_for(root),
                Subject::new(GO, Role::Peer),
            ],
            measures: vec![
                measure("calls_per_second", "host calls", "/s", Better::More, true),
                measure("p50_us", "p50", "µs", Better::Less, false),
                measure("p99_us", "p99", "µs", Better::Less, true),
            ],
            plots: vec![Plot::bars(
                "calls",
                "Host calls a second",
                "calls_per_second",
            )],
        }
    }

    fn cases(&self, _effort: &Effort) -> Vec<Case> {
        let mut cases = Vec::new();
        for (number, method) in (0_u64..).zip(METHODS) {
            for callers in CALLERS {
                let s = if callers == 1 { "" } else { "s" };
                cases.push(Case::new(
                    format!("{method}, {callers} caller{s}"),
                    &[("method", number), ("callers", callers)],
                ));
            }
        }
        cases
    }

    fn prepare(&self) -> anyhow::Result<()> {
        prepare(&[FIXTURE, "host"]);
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let arguments = arguments(turn.case, turn.effort);
        let answer = if turn.subject == GO {
            go(turn, &arguments)?
        } else {
            let daemon = Installation::new()?
                .plugin(PLUGIN, &go_fixture(FIXTURE), &[])?
                .start(turn.group)?;
            let answer = daemon.call(PLUGIN, FUNCTION, &arguments)?;
            daemon.stop()?;
            answer
        };
        let found: Loop = serde_json::from_value(answer)?;
        Ok(Values::from([
            (
                "calls_per_second".to_owned(),
                f64::from(found.calls) / found.seconds,
            ),
            ("p50_us".to_owned(), found.p50_us),
            ("p99_us".to_owned(), found.p99_us),
        ]))
    }
}

fn arguments(case: &Case, effort: Effort) -> Value {
    // Base64 of 100 bytes: what the contract has for a value.
    let value = "eHh4".repeat(33) + "eA==";
    let (before, method, args) = if case.get("method") == 0 {
        (
            json!({ "method": "cache_set", "args": { "key": "k", "value": value, "ttl": 3600 } }),
            "cache_get",
            json!({ "key": "k" }),
        )
    } else {
        (
            Value::Null,
            "db_query",
            json!({ "query": "SELECT id, name FROM items WHERE id <= ?", "args": [2] }),
        )
    };
    json!({
        "method": method,
        "args": args,
        "before": before,
        "n": case.get("callers"),
        "ms": Duration::from_secs_f64(effort.seconds).as_millis(),
    })
}

fn go(turn: &Turn<'_>, arguments: &Value) -> anyhow::Result<Value> {
    let mut command: Command = turn.group.command(go_fixture("host"));
    let output = command
        .args(["-call", FUNCTION, "-args", &arguments.to_string()])
        .arg(go_fixture(FIXTURE))
        .stdin(Stdio::null())
        .output()
        .context("start the Go host")?;
    ensure!(
        output.status.success(),
        "the Go host failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("read what the plugin answered")
}
