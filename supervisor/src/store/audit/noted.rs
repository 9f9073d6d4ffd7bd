//! What is decided about plugins, in its order: starts that were refused, ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::Entry;

/// Records that wait to be written: some for each of as many plugins as there may be. Further ones
/// are lost, and counted as such.
const NOTED_LIMIT: usize = 4096;

/// Records since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Noted {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<(DateTime<Utc>, Entry)>,
    lost: u64,
}

impl Noted {
    /// Keeps a record until it is written; never waits.
    pub(super) fn push(&self, time: DateTime<Utc>, entry: Entry) {
        let mut waiting = self.waiting();
        if waiting.records.len() >= NOTED_LIMIT {
            waiting.lost = waiting.lost.saturating_add(1);
            return;
        }
        waiting.records.push((time, entry));
        drop(waiting);
        self.filled.notify_one();
    }

    /// Takes what is there, as far as there is room for it, and gives how many were lost.
    pub(super) fn take(&self, into: &mut Vec<(DateTime<Utc>, Entry)>) -> u64 {
        let mut waiting = self.waiting();
        let room = NOTED_LIMIT.saturating_sub(into.len());
        let taken = waiting.records.len().min(room);
        into.extend(waiting.records.drain(..taken));
        let lost = std::mem::take(&mut waiting.lost);
        let is_left = !waiting.records.is_empty();
        drop(waiting);
        if is_left {
            self.filled.notify_one();
        }
        lost
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting().records.is_empty()
    }

    /// Waits until there is something.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_keeps_its_order() {
        let noted = Noted::default();
        for number in 0..NOTED_LIMIT + 3 {
            noted.push(
                Utc::now(),
                Entry::of_daemon("plugin.end", number.to_string()),
            );
        }
        let mut taken = Vec::new();
        assert_eq!(noted.take(&mut taken), 3);
        assert_eq!(taken.len(), NOTED_LIMIT);
        assert!(
            taken
                .iter()
                .map(|(_, entry)| &entry.subject)
                .eq(&(0..NOTED_LIMIT)
                    .map(|number| number.to_string())
                    .collect::<Vec<_>>())
        );
        // Where none can be written, none is taken either.
        noted.push(Utc::now(), Entry::of_daemon("plugin.end", "late".into()));
        assert_eq!((noted.take(&mut taken), taken.len()), (0, NOTED_LIMIT));
        assert!(!noted.is_empty());
        taken.clear();
        assert_eq!((noted.take(&mut taken), taken.len()), (0, 1));
        assert!(noted.is_empty());
    }
}
