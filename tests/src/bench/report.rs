//! The figures as a table.

use std::fmt::Write as _;

use super::Figure;

/// Name of the subject that the others are held against.
const PEER: &str = "Go host";

/// A table of medians: for each number of callers and each subject its calls a second and times,
/// with the ratio to the Go host first.
#[must_use]
pub fn report(callers: &[usize], figures: &[(&'static str, usize, Figure)]) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for (subject, ..) in figures {
        if !subjects.contains(subject) {
            subjects.push(subject);
        }
    }
    let median = |subject: &str, of_callers: Option<usize>, value: fn(&Figure) -> f64| {
        let mut values: Vec<f64> = figures
            .iter()
            .filter(|(name, count, _)| {
                *name == subject && of_callers.is_none_or(|wanted| *count == wanted)
            })
            .map(|(.., figure)| value(figure))
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let mut text = String::from(
        "\ncalls a second on the same Go plugin, 100 B, medians (ratio: ours to the Go host's)\n\n\
         | callers | host | ratio | calls/s | p50 µs | p99 µs |\n|---|---|---|---|---|---|\n",
    );
    for &count in callers {
        let peer = median(PEER, Some(count), |figure| figure.calls_per_second);
        for subject in &subjects {
            let calls = median(subject, Some(count), |figure| figure.calls_per_second);
            let p50 = median(subject, Some(count), |figure| figure.p50_us);
            let p99 = median(subject, Some(count), |figure| figure.p99_us);
            writeln!(
                text,
                "| {count} | {subject} | {:.2} | {calls:.0} | {p50:.0} | {p99:.0} |",
                calls / peer
            )
            .expect("a string takes what is written");
        }
    }
    text.push_str("\nstart from launch to first reply (staging apart)\n\n| host | ratio | ms |\n|---|---|---|\n");
    let peer = median(PEER, None, |figure| figure.start_us);
    for subject in &subjects {
        let start = median(subject, None, |figure| figure.start_us);
        writeln!(
            text,
            "| {subject} | {:.2} | {:.2} |",
            start / peer,
            start / 1000.0
        )
        .expect("a string takes what is written");
    }
    text.push('\n');
    text.push_str(&machine());
    text
}

/// What it was measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "{cpus} × {model}, Linux {}\n",
        read("/proc/sys/kernel/osrelease").trim()
    )
}
