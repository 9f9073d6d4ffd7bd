//! What a load has left in the heap goes back to the system once nothing is under way.
//!
//! The allocator's heaps shrink at their ends alone: after 64 callers with bodies of 64 KiB some forty
//! megabytes stay with the daemon, of which hardly one is used.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::meters::Meters;

/// How often the heap is looked at: a moment after a load, and still nothing beside one.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What the heap must have grown by, in bytes, for giving back to be worth its while.
const WORTH_BYTES: u64 = 4 * 1024 * 1024;

/// Gives back what is not used, now and then, until `stop` is cancelled.
pub(crate) async fn keep_small(meters: Arc<Meters>, stop: CancellationToken) {
    let mut ticks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Some(mut least) = anonymous_bytes() else {
        return;
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = anonymous_bytes().unwrap_or(0);
        least = least.min(now);
        if now.saturating_sub(least) < WORTH_BYTES || meters.in_flight() > 0 {
            continue;
        }
        // It takes locks that others allocate under, and some milliseconds.
        let given_back = tokio::task::spawn_blocking(pinfold_sandbox::heap::give_back);
        given_back.await.unwrap_or_default();
        least = anonymous_bytes().unwrap_or(now);
        tracing::debug!(
            before_bytes = now,
            after_bytes = least,
            "unused memory given back"
        );
    }
}

/// This process's memory that is no file's; `None` where the kernel does not tell.
fn anonymous_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    anonymous_pages(&text)?.checked_mul(page_bytes)
}

/// Resident pages without those of files: proc_pid_statm(5).
fn anonymous_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split(' ').skip(1);
    let mut next = || fields.next()?.trim().parse::<u64>().ok();
    next()?.checked_sub(next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_files_do_not_count() {
        assert_eq!(anonymous_pages("9000 500 120 30 0 70 0\n"), Some(380));
        assert_eq!(anonymous_pages("9000 500"), None);
        assert!(anonymous_bytes().unwrap() > 100_000);
    }
}
