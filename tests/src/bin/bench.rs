//! `make bench`: our host and a Go host on the same Go plugin binary, in turns.
//!
//! Each round measures every subject once, with 1, 8 and 64 callers; what is printed is the median
//! of the rounds, the ratio to the Go host first. Times on a busy machine vary by a tenth and more:
//! this is a first look, not a verdict.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::process::ExitCode;

use pinfold_tests::bench::{Load, Subject, report};

/// Rounds, of which the median counts.
const ROUNDS: usize = 5;
const CALLERS: [usize; 3] = [1, 8, 64];
/// Bytes of JSON text in each call.
const PAYLOAD_BYTES: usize = 100;
/// How long each measurement lasts.
const SECONDS: f64 = 2.0;

fn main() -> ExitCode {
    let subjects = match Subject::all() {
        Ok(subjects) => subjects,
        Err(error) => {
            println!("bench: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut figures = Vec::new();
    for round in 1..=ROUNDS {
        for callers in CALLERS {
            let load = Load {
                callers,
                payload_bytes: PAYLOAD_BYTES,
                seconds: SECONDS,
            };
            for subject in &subjects {
                match subject.measure(load) {
                    Ok(figure) => figures.push((subject.name(), callers, figure)),
                    Err(error) => {
                        println!("bench: {}: {error:#}", subject.name());
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
        println!("round {round} of {ROUNDS} done");
    }
    println!("{}", report::report(&CALLERS, &figures));
    ExitCode::SUCCESS
}
