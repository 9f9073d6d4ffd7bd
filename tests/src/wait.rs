//! Waiting for what has no event to wait on.

use std::time::{Duration, Instant};

/// How long a test waits for anything. Only a test that fails waits so long: enough for a machine that is
/// emulated, and busy.
pub const LIMIT: Duration = Duration::from_secs(300);

/// How many times slower than most this machine is, as `PINFOLD_TEST_SLOWNESS` says.
///
/// # Panics
///
/// Where that is no number.
#[must_use]
pub fn slowness() -> u32 {
    std::env::var("PINFOLD_TEST_SLOWNESS").map_or(1, |text| {
        text.parse()
            .expect("PINFOLD_TEST_SLOWNESS is a whole number")
    })
}

/// So many seconds, or more on a machine that is slower than most: for what is to be done in time, and for what is
/// not to be done and is waited for in vain.
#[must_use]
pub fn stretched(seconds: u32) -> Duration {
    Duration::from_secs(1) * seconds * slowness()
}

/// [`stretched`], as a deadline in configuration.
#[must_use]
pub fn deadline(seconds: u32) -> String {
    format!("{}s", stretched(seconds).as_secs())
}

/// Asks again and again until there is an answer, and gives it back. For what happens in another
/// process and can only be looked at; where there is an event (a channel, a descriptor, an exit), wait
/// on that.
///
/// # Panics
///
/// When there is none within [`LIMIT`], naming `what`.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
