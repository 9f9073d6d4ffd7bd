//! The tables of a section.

use std::fmt::Write as _;

use super::number::{ratio, spread};
use crate::bench::record::{Measured, Results};
use crate::bench::section::{About, Better, Role, Section, Subject};

/// What was measured, and on what.
pub(super) fn machine(measured: &Measured) -> String {
    let mut text = "\n| | |\n|---|---|\n".to_owned();
    for (name, value) in &measured.machine.facts {
        line(&mut text, &format!("| {name} | {value} |"));
    }
    let (rounds, seconds) = (measured.rounds, measured.effort.seconds);
    line(
        &mut text,
        &format!("| rounds | {rounds}, {seconds} s of load each |"),
    );
    text
}

/// Heading, question, ratios, remarks and figures. `elsewhere` is of a section that was measured
/// in another run than the first one, and says so.
pub(super) fn section(
    section: &dyn Section,
    about: &About,
    measured: &Measured,
    elsewhere: bool,
) -> String {
    let results = Results::new(measured);
    let mut text = format!("\n## {}\n\n{}\n", about.title, wrapped(about.question));
    if elsewhere {
        text.push_str("\nOther than above, this was measured on:\n");
        text.push_str(&machine(measured));
    }
    for (role, words) in [(Role::Peer, "to"), (Role::Limit, "as a part of")] {
        if let Some(other) = about.subjects.iter().find(|one| one.role == role) {
            text.push_str(&ratios(about, &results, other, words));
        }
    }
    let remarks = section.remarks(&results);
    if !remarks.is_empty() {
        text.push('\n');
        for remark in remarks {
            line(&mut text, &wrapped(&format!("* {remark}")));
        }
    }
    text.push_str(&figures(about, &results, measured.rounds));
    for (subject, reason) in &measured.absent {
        line(&mut text, &format!("\nNot measured: {subject} ({reason})."));
    }
    for failure in &measured.failures {
        line(
            &mut text,
            &format!(
                "\n**Failed** in round {}: {}, {}: {}",
                failure.round, failure.subject, failure.case, failure.reason
            ),
        );
    }
    line(&mut text, &format!("\n{}", wrapped(about.method)));
    text
}

/// Each subject's figures as parts of one subject's.
fn ratios(about: &About, results: &Results<'_>, other: &Subject, words: &str) -> String {
    // The peer is shown beside ours as a part of the limit too, but a peer to itself says nothing.
    let compared: Vec<&Subject> = about
        .subjects
        .iter()
        .filter(|one| one.name != other.name)
        .collect();
    let measures = about.measures.iter().filter(|one| one.compared);
    let mut text = format!("\nRatios {words} {}:\n\n| |", other.name);
    for subject in &compared {
        write!(text, " {} |", subject.name).expect("a string takes what is written");
    }
    line(
        &mut text,
        &format!("\n|---|{}", "---|".repeat(compared.len())),
    );
    let mut any = false;
    for measure in measures {
        let better = match measure.better {
            Better::More => "more is better",
            Better::Less => "less is better",
        };
        for case in results.cases() {
            let found: Vec<_> = compared
                .iter()
                .map(|one| results.ratio(one.name, other.name, &case.label, measure.key))
                .collect();
            if found.iter().all(Option::is_none) {
                continue;
            }
            any = true;
            write!(text, "| {}, {} ({better}) |", case.label, measure.title)
                .expect("a string takes what is written");
            for found in found {
                write!(text, " {} |", ratio(found)).expect("a string takes what is written");
            }
            text.push('\n');
        }
    }
    if any { text } else { String::new() }
}

/// Every figure.
fn figures(about: &About, results: &Results<'_>, rounds: usize) -> String {
    let mut text = match rounds {
        1 => "\nFigures of one round:\n\n".to_owned(),
        _ => format!("\nFigures, medians of {rounds} rounds (least to most):\n\n"),
    };
    text.push_str("| | |");
    for measure in &about.measures {
        write!(text, " {}, {} |", measure.title, measure.unit)
            .expect("a string takes what is written");
    }
    line(
        &mut text,
        &format!("\n|---|---|{}", "---|".repeat(about.measures.len())),
    );
    for case in results.cases() {
        for subject in &about.subjects {
            let found: Vec<_> = about
                .measures
                .iter()
                .map(|one| results.spread(subject.name, &case.label, one.key))
                .collect();
            if found.iter().all(Option::is_none) {
                continue;
            }
            write!(text, "| {} | {} |", case.label, subject.name)
                .expect("a string takes what is written");
            for found in found {
                write!(text, " {} |", spread(found)).expect("a string takes what is written");
            }
            text.push('\n');
        }
    }
    text
}

/// Prose in lines as long as those of the other pages; a list's go on below its first word.
fn wrapped(prose: &str) -> String {
    const LONGEST: usize = 120;
    let indent = if prose.starts_with("* ") { "  " } else { "" };
    let mut text = String::new();
    let mut length = 0;
    for word in prose.split_whitespace() {
        let letters = word.chars().count();
        if length > 0 && length + 1 + letters > LONGEST {
            text.push('\n');
            text.push_str(indent);
            length = indent.len();
        } else if length > 0 {
            text.push(' ');
            length += 1;
        }
        text.push_str(word);
        length += letters;
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
