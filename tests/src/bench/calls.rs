//! Calls per second and how long a call takes.

pub(super) mod load;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::limit::Limit;
use super::ours::{self, How};
use super::process::{Pace, Process};
use super::record::Results;
use super::section::{
    About, Better, Case, Effort, Form, Plot, Role, Section, Subject, Turn, Values, measure,
    without_root,
};
use crate::{binary, go_fixture};

/// The section.
#[derive(Debug)]
pub(super) struct Calls;

pub(super) const GO: &str = "Go host";
pub(super) const UNJAILED: &str = "Pinfold, unjailed";
pub(super) const JAILED: &str = "Pinfold, jailed";
pub(super) const LIMIT: &str = "limit";

const CALLERS: [u64; 3] = [1, 8, 64];
const PAYLOADS: [(u64, &str); 2] = [(100, "100 B"), (64 << 10, "64 KiB")];
/// Callers run this long before anything counts.
pub(super) const WARM: Duration = Duration::from_millis(500);

/// What a subject that is this program is told.
#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    /// How the plugin is started by a host of ours; `None` for the limit, which starts it itself.
    how: Option<How>,
    plugin: PathBuf,
    callers: usize,
    payload_bytes: usize,
    seconds: f64,
}

impl Section for Calls {
    fn about(&self) -> About {
        About {
            name: "calls",
            title: "Calls",
            question: "How many calls of a plugin can a host make, how long does one take, and \
                what does it cost?",
            method: "Each host starts the same Go plugin, registers and initialises it, and calls \
                its function `echo` from 1, 8 or 64 callers, each of which waits for its reply \
                before it calls again. The callers run half a second before anything counts. \
                Processor time is that of the host and the plugin together, of the whole control \
                group, divided by the calls. The limit is a host of one thread with requests \
                encoded beforehand that answers every read with one write: it knows no deadlines, \
                no errors and no types, and decodes nothing but lengths and numbers of calls.",
            subjects: vec![
                Subject::new(GO, Role::Peer),
                Subject::new(UNJAILED, Role::Ours),
                Subject::new(JAILED, Role::Ours).absent_for(without_root()),
                Subject::new(LIMIT, Role::Limit),
            ],
            measures: vec![
                measure(
                    "calls_per_second",
                    "calls",
                    "per second",
                    Better::More,
                    true,
                ),
                measure("p50_us", "p50", "µs", Better::Less, true),
                measure("p99_us", "p99", "µs", Better::Less, true),
                measure("cpu_us", "processor time a call", "µs", Better::Less, true),
            ],
            plots: plots(),
        }
    }

    fn cases(&self, effort: &Effort) -> Vec<Case> {
        let mut cases = Vec::new();
        for (bytes, text) in PAYLOADS {
            for callers in CALLERS {
                if effort.quick && callers == 8 {
                    continue;
                }
                let plural = if callers == 1 { "" } else { "s" };
                cases.push(Case::new(
                    format!("{text}, {callers} caller{plural}"),
                    &[("callers", callers), ("bytes", bytes)],
                ));
            }
        }
        cases
    }

    fn prepare(&self) -> anyhow::Result<()> {
        drop((go_fixture("hello"), go_fixture("host")));
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let (callers, payload_bytes) = (turn.case.count("callers"), turn.case.count("bytes"));
        let plugin = go_fixture("hello");
        let seconds = turn.effort.seconds;
        let command = if turn.subject == GO {
            let mut command = turn.group.command(go_fixture("host"));
            command
                .arg("-pace")
                .args(["-callers", &callers.to_string()])
                .args(["-payload", &payload_bytes.to_string()])
                .args(["-seconds", &seconds.to_string()])
                .args(["-warm", &WARM.as_secs_f64().to_string()])
                .arg(plugin);
            command
        } else {
            let spec = Spec {
                how: how(turn.subject),
                plugin,
                callers,
                payload_bytes,
                seconds,
            };
            turn.group.subject("calls", &serde_json::to_string(&spec)?)
        };
        let mut process = Process::start(turn.subject, command)?;
        let (mut values, used) = process.drive(turn.group, seconds)?;
        process.end()?;
        let calls = values.remove("calls").context("calls were counted")?;
        if let Some(used) = used {
            values.insert("cpu_us".to_owned(), used.as_secs_f64() * 1e6 / calls);
        }
        Ok(values)
    }

    fn serve(&self, spec: &str) -> anyhow::Result<()> {
        let spec: Spec = serde_json::from_str(spec).context("understand the subject")?;
        match &spec.how {
            Some(how) => drive_ours(how, &spec),
            None => drive_limit(&spec),
        }
    }

    fn remarks(&self, results: &Results<'_>) -> Vec<String> {
        let mut remarks = Vec::new();
        for case in results.cases() {
            let of = |key| results.ratio(JAILED, UNJAILED, &case.label, key);
            if let (Some(calls), Some(p99)) = (of("calls_per_second"), of("p99_us")) {
                remarks.push(format!(
                    "{}: jailed to unjailed {:.2} ({:.2} to {:.2}) in calls, {:.2} in p99.",
                    case.label, calls.median, calls.min, calls.max, p99.median
                ));
            }
        }
        remarks
    }
}

fn drive_ours(how: &How, spec: &Spec) -> anyhow::Result<()> {
    let arguments = arguments(spec.payload_bytes);
    let mut host = ours::Host::new(how, spec.plugin.clone())?;
    ours::runtime()?.block_on(async {
        let plugin = host.start().await?;
        let mut load = load::Load::new(plugin.client(), arguments, spec.callers, spec.seconds);
        load.run(WARM).await?;
        let pace = Pace::ready()?;
        let lasted = load.run(Duration::from_secs_f64(spec.seconds)).await?;
        pace.done(|| load.figures(lasted))?;
        plugin.end().await
    })
}

fn drive_limit(spec: &Spec) -> anyhow::Result<()> {
    let arguments = arguments(spec.payload_bytes);
    // One thread notes the times of all callers.
    let times = load::room(1, spec.seconds);
    let mut limit = Limit::start(&spec.plugin, &arguments, spec.callers, times)?;
    limit.run(WARM)?;
    let pace = Pace::ready()?;
    let lasted = limit.run(Duration::from_secs_f64(spec.seconds))?;
    pace.done(|| load::figures(limit.times().to_vec(), lasted))
}

/// How a subject of ours starts plugins; `None` for what is not ours.
pub(super) fn how(subject: &str) -> Option<How> {
    match subject {
        UNJAILED => Some(How::Unjailed),
        JAILED => Some(How::Jailed {
            launcher: binary("pinfold-launcher"),
        }),
        _ => None,
    }
}

/// What echo is called with: text in JSON, as Go's host does.
pub(super) fn arguments(payload_bytes: usize) -> Vec<u8> {
    format!(r#"{{"text":"{}"}}"#, "x".repeat(payload_bytes)).into_bytes()
}

fn plots() -> Vec<Plot> {
    let plot = |file, title, measure, only, logarithmic| Plot {
        file,
        title,
        measure,
        only,
        along: Some("callers"),
        axis: "callers",
        form: Form::Bars,
        logarithmic,
    };
    const SMALL: &[(&str, u64)] = &[("bytes", 100)];
    const LARGE: &[(&str, u64)] = &[("bytes", 64 << 10)];
    vec![
        plot(
            "small",
            "Calls with 100 B",
            "calls_per_second",
            SMALL,
            false,
        ),
        plot(
            "small-p99",
            "p99 of a call with 100 B",
            "p99_us",
            SMALL,
            true,
        ),
        plot(
            "large",
            "Calls with 64 KiB",
            "calls_per_second",
            LARGE,
            false,
        ),
        plot(
            "large-p99",
            "p99 of a call with 64 KiB",
            "p99_us",
            LARGE,
            true,
        ),
    ]
}
