//! The report: ratios first, then figures, then drawings, the same for every section.
//!
//! What people wrote stands in `performance/notes.md` beside the report and is copied into it, so
//! that it outlives the next run.

mod notes;
mod number;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

pub(super) use number::number;

use super::plot;
use super::record::{Measured, Record, Results};
use super::section::{About, Section};
use super::sections;
use crate::repository;
use notes::Notes;

const HEAD: &str = "\
# Performance

<!-- Written by `make bench`, from performance/figures.json and performance/notes.md. Change those. -->

Pinfold is measured against what it replaces, a Go host, and against the least work that could do the same, the limit.
In each section all drive the same Go plugin binary, each in a control group of its own with the same processors and no
quota, in turns that begin with another subject each round. A figure is the median of the rounds; in parentheses is the
range. Jailed plugins have the limit `cpu = \"200%\"`, which on two processors is none. A ratio is that of the medians;
its range is that of the ratios within a round.

`make bench` runs all of it and writes this page; `target/release/bench --help` has less and more.
";

/// Writes `performance.md` into a directory and its drawings into `performance/`, and answers the
/// text.
///
/// # Errors
/// Where a file cannot be written, or a figure not be drawn.
pub fn write(directory: &Path, record: &Record) -> anyhow::Result<String> {
    let notes = notes(directory)?;
    let mut text = HEAD.to_owned();
    let measured: Vec<(Box<dyn Section>, About, &Measured)> = sections::all()
        .into_iter()
        .filter_map(|section| {
            let about = section.about();
            let found = record.sections.iter().find(|one| one.name == about.name)?;
            Some((section, about, found))
        })
        .collect();
    if let Some((_, _, first)) = measured.first() {
        text.push_str(&tables::machine(first));
    }
    text.push_str(&notes.part("summary"));
    for (section, about, found) in &measured {
        let elsewhere = measured
            .first()
            .is_some_and(|(_, _, first)| first.machine != found.machine);
        text.push_str(&tables::section(&**section, about, found, elsewhere));
        let results = Results::new(found);
        for one in &about.plots {
            let Some(svg) = plot::draw(about, one, &results)? else {
                continue;
            };
            let name = format!("performance/{}-{}.svg", about.name, one.file);
            let path = directory.join(&name);
            fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
            text.push_str(&format!("\n![{}]({name})\n", one.title));
        }
        text.push_str(&notes.part(about.name));
    }
    let names: Vec<&str> = measured.iter().map(|(_, about, _)| about.name).collect();
    text.push_str(&notes.rest(&names));
    let path = directory.join("performance.md");
    fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
    Ok(text)
}

/// Those beside the report, or the repository's own.
fn notes(directory: &Path) -> anyhow::Result<Notes> {
    let beside = directory.join("performance/notes.md");
    let own = repository().join("docs/performance/notes.md");
    match [beside, own].into_iter().find(|path| path.exists()) {
        None => Ok(Notes::default()),
        Some(path) => {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            Ok(Notes::parse(&text))
        }
    }
}
