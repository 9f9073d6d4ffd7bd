//! Looks at the plugin directory, which may lie on a file system that does not answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// One look at a time: one that gets no answer holds a thread until it does, and others would hold more.
#[derive(Debug)]
pub(super) struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Looks {
    /// What `look` gives, unless that takes longer than `limit`. It then goes on by itself, and the next one
    /// waits for its end.
    pub(super) async fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let turns = Arc::clone(&self.0);
        let looked = async {
            // Closed by nobody.
            let turn = turns.acquire_owned().await.ok();
            let looking = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                look()
            });
            looking.await.map_err(io::Error::other)
        };
        tokio::time::timeout(limit, looked)
            .await
            .unwrap_or_else(|_| {
                let text = format!("no answer within {} s", limit.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_look_without_an_answer_is_given_up_and_no_other_begins_before_it_has_one() {
        let looks = Looks::default();
        let limit = Duration::from_millis(50);
        let (answer, answered) = mpsc::sync_channel::<()>(1);
        let hung = looks.within(limit, move || answered.recv());
        assert_eq!(hung.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let has_begun = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&has_begun);
        let next = looks.within(limit, move || begun.store(true, Ordering::Relaxed));
        assert_eq!(next.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        answer.send(()).unwrap();
        let last = looks.within(Duration::from_secs(60), || 3);
        assert_eq!(last.await.unwrap(), 3);
        assert!(!has_begun.load(Ordering::Relaxed));
    }
}
