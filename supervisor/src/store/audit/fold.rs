//! What plugins do, folded before it waits for anything: a plugin that calls its host without end
//! fills its own place here and no queue, and every call of it is counted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Entry;

/// Different records of one plugin that are told apart within one group. Past it the subject and the
/// missing permission are left out, and what remains is counted.
const RECORDS_PER_ACTOR: usize = 64;

/// The subject of records that are no longer told apart.
const OTHERS: &str = "(others)";

/// Records of one actor, each with how often it was left.
type Records = HashMap<Entry, i64>;

/// Records since they were last taken, by actor.
#[derive(Debug, Default)]
pub(super) struct Fold {
    by_actor: Mutex<HashMap<String, Records>>,
    filled: Notify,
}

impl Fold {
    /// Counts a record; never waits.
    pub(super) fn record(&self, mut entry: Entry) {
        let mut by_actor = self.by_actor();
        let was_empty = by_actor.is_empty();
        let records = match by_actor.get_mut(&entry.actor) {
            Some(records) => records,
            None => by_actor.entry(entry.actor.clone()).or_default(),
        };
        if let Some(count) = records.get_mut(&entry) {
            *count += 1;
            return;
        }
        if records.len() >= RECORDS_PER_ACTOR {
            // Actions and decisions are few: this ends.
            entry.subject = OTHERS.into();
            entry.permission = None;
        }
        *records.entry(entry).or_default() += 1;
        drop(by_actor);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> impl Iterator<Item = (Entry, i64)> {
        std::mem::take(&mut *self.by_actor())
            .into_values()
            .flatten()
    }

    /// Waits until there is something.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn by_actor(&self) -> MutexGuard<'_, HashMap<String, Records>> {
        self.by_actor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(actor: &str, subject: String, decision: &'static str) -> Entry {
        Entry {
            actor: actor.into(),
            action: "hostapi.cache.get".into(),
            subject,
            decision,
            permission: None,
            request_id: None,
        }
    }

    #[test]
    fn a_flood_is_counted_in_bounded_room_and_leaves_others_alone() {
        let fold = Fold::default();
        for n in 0..100_000 {
            fold.record(entry("plugin:flood", n.to_string(), "deny"));
            fold.record(entry("plugin:flood", "same".into(), "limit"));
        }
        fold.record(entry("plugin:quiet", "one".into(), "allow"));
        let taken: Vec<_> = fold.take().collect();
        let of = |actor: &str| {
            let records = taken.iter().filter(|(entry, _)| entry.actor == actor);
            records.collect::<Vec<_>>()
        };
        let flood = of("plugin:flood");
        assert!(flood.len() <= RECORDS_PER_ACTOR + 2, "{}", flood.len());
        assert_eq!(flood.iter().map(|(_, count)| count).sum::<i64>(), 200_000);
        let same = flood.iter().find(|(entry, _)| entry.subject == "same");
        assert_eq!(same.unwrap().1, 100_000);
        let quiet = of("plugin:quiet");
        assert_eq!(
            (quiet.len(), quiet[0].0.subject.as_str(), quiet[0].1),
            (1, "one", 1)
        );
        assert_eq!(fold.take().count(), 0);
    }
}
