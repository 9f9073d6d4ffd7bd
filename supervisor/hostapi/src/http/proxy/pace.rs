//! How often a jail is refused before its proxy lets it wait.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What one refusal takes of the time: a thousand a second, as many as of host calls.
const EACH: Duration = Duration::from_millis(1);
/// How many may come at once, as the time in which they are allowed.
const BURST: Duration = Duration::from_secs(1);
/// Whoever has to wait does so until as many are allowed as in this time.
const AT_ONCE: Duration = Duration::from_millis(5);

/// Counts what the proxy refuses one jail, over all its connections. Refusing is little work, but a program that asks
/// again and again can do so as fast as it can write.
#[derive(Debug)]
pub(super) struct Pace {
    /// When all that were counted will have been allowed.
    paid: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            paid: Mutex::new(Instant::now()),
        }
    }

    /// Counts a refusal.
    pub(super) fn refused(&self) {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*paid).max(Instant::now());
        *paid = from.checked_add(EACH).unwrap_or(from);
    }

    /// Waits while there were too many. It comes before what may be refused next, not after what was: a client that
    /// goes away without its answer is slowed too.
    pub(super) async fn allowed(&self) {
        let paid = *self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = paid.saturating_duration_since(Instant::now());
        if ahead > BURST {
            let over = ahead.saturating_sub(BURST);
            tokio::time::sleep(over.saturating_add(AT_ONCE)).await;
        }
    }
}
