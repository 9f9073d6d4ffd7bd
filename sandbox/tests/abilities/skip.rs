//! Tests that cannot run here say so by name, so that nobody takes them for passed.

use std::io::Write as _;

/// Says that `test` is skipped and why; fails where the run promises the ability
/// (`PINFOLD_TEST_REQUIRE`, names with commas). The caller returns.
#[track_caller]
pub(crate) fn skip(test: &str, ability: &str, reason: &str) {
    let promised = std::env::var("PINFOLD_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !promised.split(',').any(|one| one.trim() == ability),
        "{test}: {ability} is promised, but {reason}"
    );
    tell(&format!("skipped: {test}: {reason}\n"));
}

/// Prints lines past the test harness, which keeps what a passed test prints with eprintln from
/// whoever reads along. One write: tests run beside each other.
pub(crate) fn tell(lines: &str) {
    // Nobody may be reading.
    std::io::stderr().write_all(lines.as_bytes()).ok();
}
