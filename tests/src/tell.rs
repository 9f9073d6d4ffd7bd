//! Lines for whoever reads along.

use std::io::Write;

/// Prints a line on standard error, past the test harness, which keeps what tests print from
/// whoever reads along. One write: tests run beside each other.
pub fn tell(line: &str) {
    // Nobody may be reading.
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .ok();
}
