//! Instruction counts that are committed, and how those of now compare with them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How many instructions a work-load may have more than its baseline, in hundredths of that. The
/// counts themselves repeat within one hundredth.
pub const TOLERANCE_PERCENT: u64 = 10;

/// What is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Baseline {
    /// What it was made with.
    pub made_with: MadeWith,
    /// Instructions of doing each work-load once.
    pub instructions: BTreeMap<String, u64>,
}

/// What counts depend on beside the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MadeWith {
    /// The compiler: which instructions there are.
    pub rustc: String,
    /// What counts them, and what processor it shows the program.
    pub valgrind: String,
    /// The C library: its allocator, and how it copies memory.
    pub libc: String,
    /// Architecture, and what libraries that look for it find beyond that.
    pub processor: String,
}

/// One work-load, then and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Within the tolerance.
    Same,
    /// More than the tolerance allows: a failure.
    More,
    /// Less by the tolerance or more: the baseline should follow.
    Less,
    /// The baseline lacks it: a failure.
    New,
    /// Only the baseline has it: a failure.
    Gone,
}

impl Change {
    fn between(before: Option<u64>, now: Option<u64>) -> Self {
        match (before, now) {
            (None, _) => Self::New,
            (_, None) => Self::Gone,
            (Some(before), Some(now)) if now * 100 > before * (100 + TOLERANCE_PERCENT) => {
                Self::More
            }
            (Some(before), Some(now)) if now * 100 <= before * (100 - TOLERANCE_PERCENT) => {
                Self::Less
            }
            _ => Self::Same,
        }
    }

    /// Whether the check fails for it.
    #[must_use]
    pub fn fails(self) -> bool {
        matches!(self, Self::More | Self::New | Self::Gone)
    }
}

impl MadeWith {
    /// What differs, in words; nothing where counts can be compared.
    fn differences(&self, now: &Self) -> Vec<String> {
        [
            ("compiler", &self.rustc, &now.rustc),
            ("valgrind", &self.valgrind, &now.valgrind),
            ("C library", &self.libc, &now.libc),
            ("processor", &self.processor, &now.processor),
        ]
        .into_iter()
        .filter(|(_, before, now)| before != now)
        .map(|(what, before, now)| format!("{what}: the baseline's {before}, here {now}"))
        .collect()
    }
}

/// How counts compare, for a person; and whether that is a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// A line for each work-load, then what to do.
    pub report: String,
    /// Whether one of them [fails](Change::fails).
    pub failed: bool,
}

/// Compares the counts of now with the baseline, which is in the file `name`.
#[must_use]
pub fn compare(baseline: &Baseline, now: &Baseline, name: &str) -> Comparison {
    let mut names: Vec<_> = baseline.instructions.keys().collect();
    names.extend(now.instructions.keys());
    names.sort();
    names.dedup();
    let (mut report, mut verdicts) = (String::new(), String::new());
    let mut failed = false;
    for load in names {
        let before = baseline.instructions.get(load).copied();
        let count = now.instructions.get(load).copied();
        let change = Change::between(before, count);
        failed |= change.fails();
        report += &line(load, before, count);
        verdicts += &verdict(load, before, count, change);
    }
    report += &verdicts;
    let differences = baseline.made_with.differences(&now.made_with);
    if !differences.is_empty() {
        report +=
            "bench-check: the baseline was made with something else, which changes counts too:\n";
        for difference in differences {
            report += &format!("  {difference}\n");
        }
        if failed {
            report += "  To tell which it is: count the commit before the change with what is here (make bench-count),\n  \
                       and compare with that.\n";
        }
    }
    if failed {
        report += &format!(
            "bench-check: failed. To accept the counts of now: make bench-accept, and commit {name} with the reason.\n"
        );
    }
    Comparison { report, failed }
}

/// `work-load  now  baseline  change`
fn line(load: &str, before: Option<u64>, now: Option<u64>) -> String {
    let number = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
    let mut line = format!("{load:30} {:>12} {:>12}", number(now), number(before));
    if let (Some(before), Some(now)) = (before, now) {
        write!(line, " {:>8}", percent(before, now)).ok();
    }
    line + "\n"
}

fn verdict(load: &str, before: Option<u64>, now: Option<u64>, change: Change) -> String {
    let (was, is) = (before.unwrap_or_default(), now.unwrap_or_default());
    let (then, here) = (grouped(was), grouped(is));
    let more = percent(was, is);
    match change {
        Change::Same => String::new(),
        Change::More => format!(
            "bench-check: {load}: {here} instructions, the baseline is {then}: {more}, and {TOLERANCE_PERCENT} % may be\n"
        ),
        Change::Less => format!(
            "bench-check: {load}: {here} instructions, the baseline is {then}: {more}. To keep what was won: make bench-accept\n"
        ),
        Change::New => {
            format!("bench-check: {load}: {here} instructions, and not in the baseline\n")
        }
        Change::Gone => {
            format!("bench-check: {load}: in the baseline, and there is no such work-load\n")
        }
    }
}

/// The change in hundredths, with one decimal.
fn percent(before: u64, now: u64) -> String {
    let (before, now) = (i128::from(before.max(1)), i128::from(now));
    let thousandths = (now - before) * 1000 / before;
    let sign = if thousandths < 0 { '-' } else { '+' };
    let size = thousandths.abs();
    format!("{sign}{}.{} %", size / 10, size % 10)
}

/// `1234567` as `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[(&str, u64)]) -> Baseline {
        Baseline {
            made_with: MadeWith {
                rustc: "rustc 1.95.0".to_owned(),
                valgrind: "valgrind-3.19.0".to_owned(),
                libc: "glibc 2.36".to_owned(),
                processor: "x86_64".to_owned(),
            },
            instructions: counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
        }
    }

    fn compared(before: &[(&str, u64)], now: &[(&str, u64)]) -> Comparison {
        compare(&of(before), &of(now), "counts.json")
    }

    #[test]
    fn ten_percent_more_pass_and_one_instruction_above_fails() {
        let passed = compared(&[("a", 1000)], &[("a", 1100)]);
        assert!(!passed.failed);
        assert!(!passed.report.contains("bench-check"), "{}", passed.report);
        let failed = compared(&[("a", 1000), ("b", 7)], &[("a", 1101), ("b", 7)]);
        assert!(failed.failed);
        assert!(
            failed.report.contains(
                "bench-check: a: 1,101 instructions, the baseline is 1,000: +10.1 %, and 10 % may be"
            ),
            "{}",
            failed.report
        );
        assert!(
            failed
                .report
                .contains("make bench-accept, and commit counts.json")
        );
    }

    #[test]
    fn ten_percent_less_pass_with_a_hint() {
        let hinted = compared(&[("a", 1000)], &[("a", 900)]);
        assert!(!hinted.failed);
        assert!(
            hinted
                .report
                .contains("-10.0 %. To keep what was won: make bench-accept")
        );
        assert!(
            !compared(&[("a", 1000)], &[("a", 901)])
                .report
                .contains("won")
        );
    }

    #[test]
    fn work_load_that_only_one_side_has_fails() {
        for (before, now, word) in [
            (&[][..], &[("a", 1)][..], "not in the baseline"),
            (&[("a", 1)][..], &[][..], "no such work-load"),
        ] {
            let compared = compared(before, now);
            assert!(
                compared.failed && compared.report.contains(word),
                "{}",
                compared.report
            );
        }
    }

    #[test]
    fn other_compiler_is_named_whether_it_fails_or_not() {
        let before = of(&[("a", 1000)]);
        for (count, fails) in [(1000, false), (2000, true)] {
            let mut now = of(&[("a", count)]);
            now.made_with.rustc = "rustc 1.99.0".to_owned();
            let compared = compare(&before, &now, "counts.json");
            assert_eq!(compared.failed, fails);
            assert!(
                compared
                    .report
                    .contains("compiler: the baseline's rustc 1.95.0, here rustc 1.99.0"),
                "{}",
                compared.report
            );
            assert!(!compared.report.contains("valgrind:"));
        }
    }
}
