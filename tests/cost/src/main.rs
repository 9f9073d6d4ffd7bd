//! `cost check`: the instruction counts of now against the committed ones. `make bench-check` builds and runs it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is what it is for"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use pinfold_cost::WorkLoad;
use pinfold_cost::baseline::{Baseline, compare};
use pinfold_cost::count::{count, do_counted, made_with};

const USAGE: &str = "\
cost check     compare instruction counts with the baseline
cost accept    make those of now the baseline
cost count     print them
cost run NAME  do one work-load: what is counted under callgrind
";

/// The baseline, from the repository's top.
const BASELINE: &str = "docs/performance/instructions.json";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments {
        ["check"] => check(),
        ["accept"] => accept(),
        ["count"] => now().and_then(|now| print(&now)),
        ["run", name] => match WorkLoad::named(name) {
            Some(load) => {
                do_counted(load);
                Ok(ExitCode::SUCCESS)
            }
            None => Err(anyhow::anyhow!("there is no work-load {name:?}")),
        },
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("cost: {error:#}");
        ExitCode::FAILURE
    })
}

fn check() -> anyhow::Result<ExitCode> {
    let path = baseline_path();
    let text = fs::read_to_string(&path).with_context(|| {
        format!("{BASELINE} is the baseline; where there is none yet: make bench-accept")
    })?;
    let baseline: Baseline =
        serde_json::from_str(&text).with_context(|| format!("read {BASELINE}"))?;
    let compared = compare(&baseline, &now()?, BASELINE);
    print!("{}", compared.report);
    Ok(if compared.failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn accept() -> anyhow::Result<ExitCode> {
    let now = now()?;
    let path = baseline_path();
    let text = serde_json::to_string_pretty(&now).context("write the counts as JSON")?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    print(&now)
}

fn now() -> anyhow::Result<Baseline> {
    Ok(Baseline {
        made_with: made_with(),
        instructions: count(WorkLoad::ALL)?,
    })
}

fn print(counts: &Baseline) -> anyhow::Result<ExitCode> {
    let text = serde_json::to_string_pretty(counts).context("write the counts as JSON")?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(BASELINE)
}
