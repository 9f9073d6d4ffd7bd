//! `make bench`: hosts of the same Go plugin, ours, Go's and the least work there is, in turns.
//!
//! Without a command it measures, keeps the figures and writes the report. `render` writes the
//! report again from kept figures. `enter` and `subject` are what it starts itself: a program
//! within a control group, and a host of ours that is measured.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the report is what it is for")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use pinfold_tests::bench::group::{self, Groups};
use pinfold_tests::bench::record::Record;
use pinfold_tests::bench::section::{Effort, Section};
use pinfold_tests::bench::{report, rounds, sections};
use pinfold_tests::{repository, target_dir, tell};

/// Measures Pinfold, a Go host and the limit on the same Go plugin, in turns, and writes
/// docs/performance.md.
#[derive(Debug, Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write the report again from kept figures, without measuring.
    Render(Place),
    /// Name the sections and what each asks.
    List,
    /// Enter control groups, and become a program.
    #[command(hide = true)]
    Enter {
        #[arg(long)]
        group: Vec<PathBuf>,
        #[arg(last = true)]
        program: Vec<OsString>,
    },
    /// Be a subject of a section.
    #[command(hide = true)]
    Subject { section: String, spec: String },
}

#[derive(Debug, Args)]
struct Run {
    /// Rounds, of which the median counts; 5, or 1 with --quick, where none are named.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Seconds of each measurement under load; 3, or 0.5 with --quick, where none are named.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Measure only these sections; figures of the others are kept as they are.
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    only: Vec<String>,
    /// A try: one short round, fewer cases, and the report below target/bench.
    #[arg(long)]
    quick: bool,
    /// Run without control groups, where none can be made; processor time is then unknown.
    #[arg(long)]
    without_groups: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The directory that performance.md and performance/ are written to: docs, or target/bench
    /// for --quick.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Where all figures are kept: performance/figures.json beside the report.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let command = Command::parse();
    let result = match command.what {
        None => measure(&command.run),
        Some(What::Render(place)) => render(&place),
        Some(What::List) => {
            for section in sections::all() {
                let about = section.about();
                println!("{:12} {}", about.name, about.question);
            }
            Ok(())
        }
        Some(What::Enter { group, program }) => Err(group::enter(&group, &program)),
        Some(What::Subject { section, spec }) => subject(&section, &spec),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(run: &Run) -> anyhow::Result<()> {
    let (rounds, seconds) = if run.quick { (1, 0.5) } else { (5, 3.0) };
    let effort = Effort {
        rounds: run.rounds.unwrap_or(rounds).into(),
        seconds: run.seconds.unwrap_or(seconds),
        quick: run.quick,
    };
    ensure!(
        effort.seconds > 0.0 && effort.seconds <= 600.0,
        "--seconds is between 0 and 600"
    );
    let files = run.place.files(run.quick)?;
    let chosen = chosen(&run.only)?;
    let program = std::env::current_exe().context("find this program")?;
    let groups = if run.without_groups {
        Groups::none(program)
    } else {
        Groups::discover(program).context(
            "make control groups (as root, or in a group that is delegated; or --without-groups)",
        )?
    };
    group::remove_at_signal()?;
    // A part of the sections joins what is kept of the others.
    let mut record = match files.json.exists() && !run.only.is_empty() {
        true => Record::load(&files.json)?,
        false => Record::default(),
    };
    let measured = rounds::run(
        &chosen,
        effort,
        &groups,
        |line| tell(&format!("bench: {line}")),
        |so_far| {
            let mut record = record.clone();
            so_far
                .sections
                .iter()
                .cloned()
                .for_each(|one| record.put(one));
            record.save(&files.json)
        },
    )?;
    let failures: usize = measured.sections.iter().map(|one| one.failures.len()).sum();
    measured
        .sections
        .into_iter()
        .for_each(|one| record.put(one));
    record.save(&files.json)?;
    files.write(&record)?;
    ensure!(
        failures == 0,
        "{failures} measurements failed; the report names them"
    );
    Ok(())
}

fn render(place: &Place) -> anyhow::Result<()> {
    let files = place.files(false)?;
    files.write(&Record::load(&files.json)?)
}

fn subject(section: &str, spec: &str) -> anyhow::Result<()> {
    let sections = sections::all();
    let found = sections.iter().find(|one| one.about().name == section);
    found
        .with_context(|| format!("there is no section {section}"))?
        .serve(spec)
}

/// The sections of these names, or all.
fn chosen(only: &[String]) -> anyhow::Result<Vec<Box<dyn Section>>> {
    let mut sections = sections::all();
    let names: Vec<&str> = sections.iter().map(|one| one.about().name).collect();
    for name in only {
        if !names.contains(&&**name) {
            bail!("there is no section {name}: {}", names.join(", "));
        }
    }
    sections.retain(|one| only.is_empty() || only.iter().any(|name| name == one.about().name));
    Ok(sections)
}

/// Where everything is written.
struct Files {
    report: PathBuf,
    json: PathBuf,
}

impl Place {
    fn files(&self, quick: bool) -> anyhow::Result<Files> {
        let report = match &self.report {
            Some(report) => report.clone(),
            None if quick => target_dir().join("bench"),
            None => repository().join("docs"),
        };
        let plots = report.join("performance");
        std::fs::create_dir_all(&plots).with_context(|| format!("make {}", plots.display()))?;
        let json = match &self.json {
            Some(json) => json.clone(),
            None => plots.join("figures.json"),
        };
        Ok(Files { report, json })
    }
}

impl Files {
    /// Writes the report, and prints its text.
    fn write(&self, record: &Record) -> anyhow::Result<()> {
        println!("{}", report::write(&self.report, record)?);
        Ok(())
    }
}
