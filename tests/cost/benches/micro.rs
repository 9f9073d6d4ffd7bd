//! Times of the work-loads that `make bench-check` counts the instructions of.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use criterion::Criterion;
use pinfold_cost::WorkLoad;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    for load in WorkLoad::ALL {
        criterion.bench_function(load.name, |bencher| {
            let mut work = load.prepare();
            bencher.iter_custom(|times| {
                let begin = Instant::now();
                work(times);
                begin.elapsed()
            });
        });
    }
    criterion.final_summary();
}
