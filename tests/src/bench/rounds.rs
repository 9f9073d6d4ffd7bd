//! Turns: in each round every subject is measured once with each case, and who begins goes round.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::group::Groups;
use super::machine::Machine;
use super::record::{Failure, Measured, Reading, Record};
use super::section::{About, Case, Effort, Section, Turn};

/// What starting and ending a subject takes, before it is known better.
const AROUND: Duration = Duration::from_millis(1500);

/// A turn that is to be taken.
struct Planned {
    section: usize,
    case: usize,
    subject: &'static str,
    round: usize,
}

/// Measures these sections. `tell` gets a line for each turn, `keep` the record after each round.
///
/// # Errors
/// Where nothing can be prepared, no group can be made, or `keep` fails. A subject that fails is a
/// part of the record.
pub fn run(
    sections: &[Box<dyn Section>],
    effort: Effort,
    groups: &Groups,
    mut tell: impl FnMut(&str),
    mut keep: impl FnMut(&Record) -> anyhow::Result<()>,
) -> anyhow::Result<Record> {
    let abouts: Vec<About> = sections.iter().map(|one| one.about()).collect();
    for (section, about) in sections.iter().zip(&abouts) {
        tell(&format!("{}: building", about.name));
        section
            .prepare()
            .with_context(|| format!("prepare the section {}", about.name))?;
    }
    let machine = Machine::look(groups)?;
    let mut record = Record {
        sections: sections
            .iter()
            .zip(&abouts)
            .map(|(section, about)| empty(&**section, about, &machine, effort))
            .collect(),
    };
    let plan = plan(sections, &abouts, &record, effort);
    let mut times = Times::new(effort);
    for (number, turn) in plan.iter().enumerate() {
        let (Some(section), Some(measured), Some(about)) = (
            sections.get(turn.section),
            record.sections.get_mut(turn.section),
            abouts.get(turn.section),
        ) else {
            continue;
        };
        let Some(case) = measured.cases.get(turn.case).cloned() else {
            continue;
        };
        tell(&format!(
            "round {} of {}, {} left: {}, {}, {}",
            turn.round,
            effort.rounds,
            minutes(times.of(plan.get(number..).unwrap_or_default())),
            about.name,
            case.label,
            turn.subject,
        ));
        let begin = Instant::now();
        let result = measure(&**section, turn, &case, effort, groups);
        times.took(turn, begin.elapsed());
        let (round, subject, case) = (turn.round, turn.subject.to_owned(), case.label);
        match result {
            Ok(values) => measured.readings.push(Reading {
                round,
                subject,
                case,
                values,
            }),
            Err(error) => {
                let reason = format!("{error:#}");
                tell(&format!("failed: {reason}"));
                measured.failures.push(Failure {
                    round,
                    subject,
                    case,
                    reason,
                });
            }
        }
        if plan
            .get(number + 1)
            .is_none_or(|next| next.round != turn.round)
        {
            keep(&record)?;
        }
    }
    Ok(record)
}

fn measure(
    section: &dyn Section,
    turn: &Planned,
    case: &Case,
    effort: Effort,
    groups: &Groups,
) -> anyhow::Result<super::section::Values> {
    let group = groups.make()?;
    let values = section.measure(&Turn {
        subject: turn.subject,
        case,
        effort,
        round: turn.round,
        group: &group,
    })?;
    group.remove()?;
    Ok(values)
}

fn empty(section: &dyn Section, about: &About, machine: &Machine, effort: Effort) -> Measured {
    Measured {
        name: about.name.to_owned(),
        machine: machine.clone(),
        effort,
        rounds: section.rounds(&effort),
        cases: section.cases(&effort),
        absent: about
            .subjects
            .iter()
            .filter_map(|subject| Some((subject.name.to_owned(), subject.absent.clone()?)))
            .collect(),
        readings: Vec::new(),
        failures: Vec::new(),
    }
}

/// All turns in their order.
fn plan(
    sections: &[Box<dyn Section>],
    abouts: &[About],
    record: &Record,
    effort: Effort,
) -> Vec<Planned> {
    let mut plan = Vec::new();
    for round in 1..=effort.rounds {
        for (index, ((section, about), measured)) in sections
            .iter()
            .zip(abouts)
            .zip(&record.sections)
            .enumerate()
        {
            if round > measured.rounds {
                continue;
            }
            for (number, case) in measured.cases.iter().enumerate() {
                let mut present: Vec<&'static str> = about
                    .subjects
                    .iter()
                    .filter(|one| one.absent.is_none() && section.applies(one.name, case))
                    .map(|one| one.name)
                    .collect();
                let first = (round - 1) % present.len().max(1);
                present.rotate_left(first);
                plan.extend(present.into_iter().map(|subject| Planned {
                    section: index,
                    case: number,
                    subject,
                    round,
                }));
            }
        }
    }
    plan
}

/// How long turns take, from how long they took.
struct Times {
    known: HashMap<(usize, usize, &'static str), Duration>,
    guess: Duration,
}

impl Times {
    fn new(effort: Effort) -> Self {
        Self {
            known: HashMap::new(),
            guess: AROUND + Duration::from_secs_f64(effort.seconds),
        }
    }

    fn took(&mut self, turn: &Planned, time: Duration) {
        self.known
            .insert((turn.section, turn.case, turn.subject), time);
    }

    fn of(&self, turns: &[Planned]) -> Duration {
        turns
            .iter()
            .map(|turn| {
                self.known
                    .get(&(turn.section, turn.case, turn.subject))
                    .copied()
                    .unwrap_or(self.guess)
            })
            .sum()
    }
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}
