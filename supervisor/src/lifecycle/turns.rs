//! Turns: how many plugins are being started at the same time.
//!
//! Hundreds that are started together would each be within their deadlines only if the machine were
//! that fast: what each waits for is mostly the processor time of the others. So they take turns, and
//! a deadline begins with a plugin's turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a start counts. One that takes longer waits for something, most likely in vain: it goes
/// on, and no longer keeps others from theirs.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// Starts for each processor: of one, parts are the launcher's, the kernel's and the daemon's, in
/// turns, and beyond a few nothing is won.
const EACH_PROCESSOR: usize = 4;

/// The turns of one daemon, taken in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// So many at the same time; 0 is four for each processor.
    pub(crate) fn new(at_once: u16) -> Self {
        let at_once = match at_once {
            0 => std::thread::available_parallelism().map_or(1, usize::from) * EACH_PROCESSOR,
            at_once => at_once.into(),
        };
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Waits for a turn; whoever gives up waiting loses their place.
    pub(super) async fn wait(&self) -> Turn {
        // Closed by nobody.
        Turn {
            _permit: Arc::clone(&self.0).acquire_owned().await.ok(),
        }
    }
}

/// A turn. The next one begins when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Does the work. The turn ends with it, or before that when it is long.
    pub(super) async fn lasts<T>(self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let over = tokio::time::timeout(TURN_LIMIT, &mut work).await;
        drop(self);
        match over {
            Ok(outcome) => outcome,
            Err(_) => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn no_more_than_allowed_start_at_the_same_time_and_all_do() {
        let turns = Arc::new(Turns::new(3));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut starts = JoinSet::new();
        for _ in 0..50 {
            let (turns, now, most) = (Arc::clone(&turns), Arc::clone(&now), Arc::clone(&most));
            starts.spawn(async move {
                let start = async {
                    let others = now.fetch_add(1, Ordering::Relaxed);
                    most.fetch_max(others + 1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::Relaxed);
                };
                turns.wait().await.lasts(start).await;
            });
        }
        let done = starts.join_all().await.len();
        assert_eq!((done, most.load(Ordering::Relaxed)), (50, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_keeps_others_from_starting_for_its_turn_only() {
        let turns = Turns::new(1);
        let answer = Arc::new(Notify::new());
        let answered = Arc::clone(&answer);
        let turn = turns.wait().await;
        let first = tokio::spawn(async move { turn.lasts(answered.notified()).await });
        let begin = tokio::time::Instant::now();
        turns.wait().await.lasts(async {}).await;
        assert_eq!(begin.elapsed(), TURN_LIMIT);
        answer.notify_one();
        first.await.unwrap();
    }
}
