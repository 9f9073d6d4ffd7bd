//! How long it takes from the launch of a staged plugin to its first reply.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::calls::{GO, JAILED, UNJAILED, arguments, how};
use super::ours::{self, How};
use super::process::{Pace, Process};
use super::record::Results;
use super::section::{
    About, Better, Case, Effort, Plot, Role, Section, Subject, Turn, Values, measure, without_root,
};
use crate::go_fixture;

/// The section.
#[derive(Debug)]
pub(super) struct Start;

/// In each round, one after the other.
const STARTS: u64 = 15;
const STARTS_OF_A_TRY: u64 = 3;
/// Of text in the first call.
const PAYLOAD_BYTES: usize = 64;
/// The only case.
const CASE: &str = "start";

/// What a subject that is this program is told.
#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    how: How,
    plugin: PathBuf,
    starts: usize,
}

impl Section for Start {
    fn about(&self) -> About {
        About {
            name: "start",
            title: "Start",
            question: "How long does it take from the launch of a plugin to its first reply, and \
                what does the jail add?",
            method: "One host starts the same Go plugin 15 times in each round, one after the \
                other: from before the process exists, over handshake, registration and \
                initialisation, to the reply to a first call. The plugin's files were staged \
                before, and the one before it has been ended. Processor time is that of the \
                whole control group, from the first launch to the last end, a start.",
            subjects: vec![
                Subject::new(GO, Role::Peer),
                Subject::new(UNJAILED, Role::Ours),
                Subject::new(JAILED, Role::Ours).absent_for(without_root()),
            ],
            measures: vec![
                measure("p50_ms", "p50", "ms", Better::Less, true),
                measure("max_ms", "slowest of a round", "ms", Better::Less, false),
                measure("cpu_ms", "processor time a start", "ms", Better::Less, true),
            ],
            plots: vec![Plot::bars("p50", "Launch to first reply", "p50_ms")],
        }
    }

    fn cases(&self, effort: &Effort) -> Vec<Case> {
        let starts = if effort.quick {
            STARTS_OF_A_TRY
        } else {
            STARTS
        };
        vec![Case::new(CASE, &[("starts", starts)])]
    }

    fn prepare(&self) -> anyhow::Result<()> {
        drop((go_fixture("hello"), go_fixture("host")));
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let starts = turn.case.count("starts");
        let plugin = go_fixture("hello");
        let command = match how(turn.subject) {
            Some(how) => {
                let spec = Spec {
                    how,
                    plugin,
                    starts,
                };
                turn.group.subject("start", &serde_json::to_string(&spec)?)
            }
            None => {
                let mut command = turn.group.command(go_fixture("host"));
                command
                    .args(["-pace", "-starts", &starts.to_string()])
                    .args(["-payload", &PAYLOAD_BYTES.to_string()])
                    .arg(plugin);
                command
            }
        };
        let mut process = Process::start(turn.subject, command)?;
        let (figures, used) = process.drive(turn.group, 0.0)?;
        process.end()?;
        let figure = |key: &str| {
            figures
                .get(key)
                .copied()
                .with_context(|| format!("no {key}"))
        };
        let mut values = Values::from([
            ("p50_ms".to_owned(), figure("start_p50_us")? / 1000.0),
            ("max_ms".to_owned(), figure("start_max_us")? / 1000.0),
        ]);
        if let Some(used) = used {
            let each = used.as_secs_f64() * 1e3 / figure("starts")?;
            values.insert("cpu_ms".to_owned(), each);
        }
        Ok(values)
    }

    fn serve(&self, spec: &str) -> anyhow::Result<()> {
        let spec: Spec = serde_json::from_str(spec).context("understand the subject")?;
        let arguments = arguments(PAYLOAD_BYTES);
        let mut host = ours::Host::new(&spec.how, spec.plugin)?;
        ours::runtime()?.block_on(async {
            let mut times = Vec::with_capacity(spec.starts);
            let pace = Pace::ready()?;
            for _ in 0..spec.starts {
                let begin = Instant::now();
                let plugin = host.start().await?;
                ours::echo(&plugin.client(), &arguments).await?;
                times.push(begin.elapsed().as_secs_f64() * 1e6);
                plugin.end().await?;
            }
            pace.done(|| {
                times.sort_by(f64::total_cmp);
                let middle = times.get((times.len() - 1) / 2).copied();
                #[expect(clippy::cast_precision_loss, reason = "a small number of starts")]
                let starts = times.len() as f64;
                anyhow::Ok(Values::from([
                    ("starts".to_owned(), starts),
                    ("start_p50_us".to_owned(), middle.context("it was started")?),
                    (
                        "start_max_us".to_owned(),
                        times.last().copied().unwrap_or_default(),
                    ),
                ]))
            })
        })
    }

    fn remarks(&self, results: &Results<'_>) -> Vec<String> {
        let of = |subject, key| results.spread(subject, CASE, key);
        let (Some(jailed), Some(unjailed)) = (of(JAILED, "p50_ms"), of(UNJAILED, "p50_ms")) else {
            return Vec::new();
        };
        let mut remarks = vec![format!(
            "The jail adds {:.1} ms at the median.",
            jailed.median - unjailed.median
        )];
        if let Some(slowest) = of(JAILED, "max_ms") {
            remarks.push(format!(
                "The slowest of all jailed starts took {:.1} ms, {:.1} ms more than the median \
                 without a jail.",
                slowest.max,
                slowest.max - unjailed.median
            ));
        }
        remarks
    }
}
