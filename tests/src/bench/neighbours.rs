//! Plugins under an even load, beside one that does nothing, and beside the same that does its worst.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::daemon::{Daemon, Installation, prepare};
use super::load::{Found, Load, Pace};
use super::record::Results;
use super::section::{
    About, Better, Case, Effort, Plot, Role, Section, Subject, Turn, Values, measure, without_root,
};
use super::{crowd, gateway, memory};
use crate::go_fixture;

const LOUD: &str = "hostile neighbour";
const QUIET: &str = "quiet neighbour";
/// The neighbour, which has its acts by name.
const FIXTURE: &str = "goatflow-torment";
const NEIGHBOUR: &str = "neighbour";
/// All of its acts.
const EVERYTHING: &[&str] = &["cpu", "memory", "fork", "output", "host"];
/// What the report calls it, beside how many others, and what the neighbour does. The first is what was asked for.
const KINDS: [(&str, u64, &[&str]); 7] = [
    ("beside 299 others", 299, EVERYTHING),
    ("all at once", 1, EVERYTHING),
    ("processor", 1, &["cpu"]),
    ("memory", 1, &["memory"]),
    ("processes", 1, &["fork"]),
    ("output", 1, &["output"]),
    ("host calls", 1, &["host"]),
];
/// In place of the 299 in a try.
const FEW: u64 = 19;
/// Its limits, and what it may ask for. Rates are the defaults.
const POLICY: &str = "\
[permissions]
db = [{ database = 'main', tables = ['items'], access = 'read' }]
cache = 'readwrite'
[limits]
cpu = '20%'
memory = '128MiB'
processes = 64
";
/// What it takes of its memory again and again; the rest is the program's own.
const CHURNED_MIB: u64 = 88;
/// The part of the capacity that is asked for.
const PART: f64 = 0.2;
/// Once it does its worst, before anything is counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// What other virtual machines may take of the processors, in percent, for a measurement to count. It is repeated while
/// they take more, and after so many times the one counts in which they took least.
const TAKEN_PERCENT: f64 = 1.0;
const TIMES: u32 = 8;

/// The section.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Requests a second that are asked of so many others: the same throughout a run.
    rates: Mutex<BTreeMap<u64, f64>>,
}

impl Section for Neighbours {
    fn about(&self) -> About {
        let root = without_root();
        let less = |key, title, unit, compared| measure(key, title, unit, Better::Less, compared);
        About {
            name: "neighbours",
            title: "A hostile neighbour",
            question: "How much longer do other plugins' answers take while one does its worst?",
            method: "Three hundred jailed plugins in one Pinfold, or two, of which one is the neighbour. The others \
                     are asked in turn: two hundred and ninety-nine of the small plugin of [Hundreds of plugins at \
                     once](#hundreds-of-plugins-at-once), or one with the whole library. How many requests a second \
                     the gateway answers for them is found with as many connections as there are in its section, \
                     once in a run; then it \
                     is asked for a fifth of that, at equal distances, whether or not earlier requests \
                     were answered, and a request's time begins when it was due. The neighbour has `cpu = \
                     \"20%\"`, 128 MiB and 64 processes, and rates of host calls as by default. It does \
                     nothing, or at once: spins on two threads for each processor; takes the memory that it \
                     may have, and gives it back; forks until it is refused, and ends its children; writes \
                     to its four outputs; sends host calls that were encoded beforehand, and reads no answer; \
                     or one of these. It does so for a second before anything is counted. Shares are percent \
                     of one processor; the load is one thread, and has the priority before all others, so that \
                     what is measured is Pinfold and not the load. A measurement in which other virtual \
                     machines took more than 1 % of the processors is repeated, up to 8 times, until one has \
                     less; if none has, the one with least counts.",
            subjects: vec![
                Subject::new(LOUD, Role::Ours).absent_for(root),
                Subject::new(QUIET, Role::Peer).absent_for(root),
            ],
            measures: vec![
                less("p50_us", "p50", "µs", true),
                less("p99_us", "p99", "µs", true),
                less("max_us", "slowest", "µs", false),
                measure("rate", "requests", "/s", Better::More, false),
                less("daemon", "the daemon's share", "%", false),
                less("others", "the others'", "%", false),
                less("neighbour", "the neighbour's", "%", false),
                less("load", "the load's", "%", false),
                less("taken", "taken by other machines", "%", false),
            ],
            plots: vec![Plot::bars(
                "p99",
                "Time within which 99 of 100 requests are answered, µs",
                "p99_us",
            )],
        }
    }

    fn cases(&self, effort: &Effort) -> Vec<Case> {
        let count = if effort.quick { 1 } else { KINDS.len() };
        (0_u64..)
            .zip(KINDS)
            .take(count)
            .map(|(number, (label, others, _))| {
                let (label, others) = match effort.quick {
                    true => (format!("beside {FEW} others"), FEW),
                    false => (label.to_owned(), others),
                };
                Case::new(label, &[("kind", number), ("others", others)])
            })
            .collect()
    }

    fn prepare(&self) -> anyhow::Result<()> {
        prepare(&[gateway::FIXTURE, memory::FIXTURE, FIXTURE]);
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let others: Vec<String> = (0..turn.case.count("others")).map(crowd::name).collect();
        // Three hundred with the whole library are more than the launcher keeps staged.
        let fixture = match others.len() {
            1 => gateway::FIXTURE,
            _ => memory::FIXTURE,
        };
        let mut installation =
            Installation::new()?.plugin_under(POLICY, NEIGHBOUR, &go_fixture(FIXTURE), &[])?;
        for other in &others {
            installation = installation.plugin(other, &go_fixture(fixture), &[])?;
        }
        let daemon = installation.start(turn.group)?;
        let paths: Vec<String> = others
            .iter()
            .map(|other| gateway::path(other, "open"))
            .collect();
        let mut load = Load::new(daemon.address(), gateway::CONNECTIONS, &paths)?;
        let lasting = Duration::from_secs_f64(turn.effort.seconds);
        load.run(Pace::Closed, WARM_UP)?;
        let rate = self.rate(turn, &mut load)?;
        let processes = Processes::find(&daemon)?;
        if turn.subject == LOUD {
            let (_, _, acts) = KINDS
                .get(turn.case.count("kind"))
                .context("a kind of this section")?;
            let told = daemon.call(
                NEIGHBOUR,
                "torment",
                &json!({ "acts": acts, "mib": CHURNED_MIB }),
            )?;
            ensure!(told == json!(acts), "the neighbour answered {told}");
        }
        load.run(Pace::Rate(rate), WARM_UP)?;
        let (taken, mut values) = least_taken(|| {
            let (begin, before) = (Instant::now(), processes.times()?);
            let found = load.run(Pace::Rate(rate), lasting)?;
            let (took, after) = (begin.elapsed(), processes.times()?);
            let mut values = figures(found);
            for (name, time) in after {
                let share = (time - before[name]).as_secs_f64() / took.as_secs_f64();
                values.insert(name.to_owned(), share * 100.0);
            }
            Ok(values)
        })?;
        // One that was ended has done nothing.
        daemon.serves(NEIGHBOUR)?;
        ensure!(
            processes == Processes::find(&daemon)?,
            "a plugin was started again under the load"
        );
        daemon.stop()?;
        values.insert("rate".to_owned(), rate);
        values.insert("taken".to_owned(), taken);
        Ok(values)
    }

    fn remarks(&self, results: &Results<'_>) -> Vec<String> {
        let remark = |case: &Case| {
            let ratio = results.ratio(LOUD, QUIET, &case.label, "p99_us")?;
            let median = |subject| results.median(subject, &case.label, "p99_us");
            let asked = match case.get("kind") {
                0 => " Asked: below 2.",
                _ => "",
            };
            Some(format!(
                "{}: p99 {:.0} µs without and {:.0} µs with it, {:.2} ({:.2} to {:.2}) times.{asked}",
                case.label,
                median(QUIET)?,
                median(LOUD)?,
                ratio.median,
                ratio.min,
                ratio.max,
            ))
        };
        results.cases().iter().filter_map(remark).collect()
    }
}

impl Neighbours {
    /// A fifth of what such others answer, which is found where it is not known yet.
    fn rate(&self, turn: &Turn<'_>, load: &mut Load) -> anyhow::Result<f64> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let others = turn.case.get("others");
        if let Some(rate) = rates.get(&others) {
            return Ok(*rate);
        }
        let lasting = Duration::from_secs_f64(turn.effort.seconds);
        let (_, found) = least_taken(|| load.run(Pace::Closed, lasting))?;
        let rate = found.per_second() * PART;
        rates.insert(others, rate);
        Ok(rate)
    }
}

/// Measures until other machines take little of the processors, [`TIMES`] at most. Gives what they took in percent, and
/// what was measured, where they took least.
fn least_taken<T>(mut measure: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<(f64, T)> {
    let mut once = || {
        let before = Ticks::read()?;
        let measured = measure()?;
        anyhow::Ok((Ticks::read()?.taken_since(before), measured))
    };
    let mut least = once()?;
    for _ in 1..TIMES {
        if least.0 <= TAKEN_PERCENT {
            break;
        }
        let again = once()?;
        if again.0 < least.0 {
            least = again;
        }
    }
    Ok(least)
}

/// Ticks of all processors since the machine began: proc_stat(5).
#[derive(Clone, Copy)]
struct Ticks {
    all: u64,
    /// Those that another virtual machine had.
    taken: u64,
}

impl Ticks {
    fn read() -> anyhow::Result<Self> {
        let path = "/proc/stat";
        let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
        // user, nice, system, idle, iowait, irq, softirq, steal; what guests have is in user.
        let line = text.lines().next().context(path)?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context(path)?;
        Ok(Self {
            all: ticks.iter().sum(),
            taken: *ticks.get(7).context(path)?,
        })
    }

    /// In percent.
    fn taken_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.taken.saturating_sub(before.taken) as f64 / all as f64 * 100.0
    }
}

fn figures(mut found: Found) -> Values {
    Values::from([
        ("p50_us".to_owned(), found.within_us(0.50)),
        ("p99_us".to_owned(), found.within_us(0.99)),
        ("max_us".to_owned(), found.within_us(1.0)),
        ("load".to_owned(), found.own_percent()),
    ])
}

/// Whose processor time is looked at.
#[derive(PartialEq, Eq)]
struct Processes {
    daemon: u32,
    neighbour: u32,
    others: Vec<u32>,
}

impl Processes {
    fn find(daemon: &Daemon) -> anyhow::Result<Self> {
        let path = format!("/api/pinfold/v1/plugins/{NEIGHBOUR}");
        let neighbour = daemon.admin().get(&path)?.json()?["pid"].as_u64();
        let neighbour = u32::try_from(neighbour.context("the neighbour has no process")?)?;
        let plugins = daemon.jails()?.into_iter().map(|(_, plugin)| plugin);
        let mut others: Vec<u32> = plugins.filter(|plugin| *plugin != neighbour).collect();
        others.sort_unstable();
        Ok(Self {
            daemon: daemon.pid(),
            neighbour,
            others,
        })
    }

    /// What each has used, by the names of the shares.
    fn times(&self) -> anyhow::Result<BTreeMap<&'static str, Duration>> {
        let others: anyhow::Result<Vec<Duration>> =
            self.others.iter().map(|pid| time(*pid)).collect();
        Ok(BTreeMap::from([
            ("daemon", time(self.daemon)?),
            ("neighbour", time(self.neighbour)?),
            ("others", others?.into_iter().sum()),
        ]))
    }
}

/// The processor time of a process, with its children's that have ended: proc_pid_stat(5).
fn time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // After the name, which is in parentheses and may hold anything, the state is field 3.
    let (_, rest) = text.rsplit_once(") ").with_context(|| path.clone())?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks: u64 = fields
        .get(11..15)
        .context(path)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(tick * u32::try_from(ticks)?)
}
