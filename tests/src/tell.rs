//! Lines for whoever reads along.

use std::io::Write;

/// Prints a line on standard error, past the test harness, which keeps what tests print from
/// whoever reads along.
pub fn tell(line: &str) {
    // Nobody may be reading.
    writeln!(std::io::stderr(), "{line}").ok();
}
