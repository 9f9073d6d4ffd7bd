//! How often a peer is refused, and when it is read from again.
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many refusals may come at once, as the time in which they are allowed.
const BURST: Duration = Duration::from_secs(1);
/// Whoever has to wait does so until as many are allowed as in this time: not for each by itself, and with few others
/// between them, which come as fast.
const AT_ONCE: Duration = Duration::from_millis(5);

/// Counts refusals against a rate. Refusing is little work, but a peer that goes on all the same can ask for it as fast
/// as it can write: it has to be slower than this side is.
#[derive(Debug)]
pub(super) struct Refusals {
    /// What one takes of the time; zero without a rate.
    each: Duration,
    /// When all that were counted will have been allowed.
    paid: Mutex<Instant>,
}

impl Refusals {
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Self {
            each: per_second
                .and_then(|rate| Duration::from_secs(1).checked_div(rate.max(1)))
                .unwrap_or_default(),
            paid: Mutex::new(Instant::now()),
        }
    }

    /// Counts one.
    pub(super) fn count(&self) {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*paid).max(Instant::now());
        *paid = from.checked_add(self.each).unwrap_or(from);
    }

    /// Waits while there were too many.
    pub(super) async fn allowed(&self) {
        if self.each.is_zero() {
            return;
        }
        let paid = *self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = paid.saturating_duration_since(Instant::now());
        if ahead > BURST {
            let over = ahead.saturating_sub(BURST);
            tokio::time::sleep(over.saturating_add(AT_ONCE)).await;
        }
    }
}
