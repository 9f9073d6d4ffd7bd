//! What plugins ask of the host, folded before it waits for anything: a plugin that calls its host
//! without end fills its own place here and no queue, and every call of it is counted.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinfold_policy::PluginId;
use tokio::sync::Notify;

use super::Entry;

/// Different records of one plugin that are told apart within one group. Past it the subject and the
/// missing permission are left out, and what remains is counted.
const RECORDS_PER_PLUGIN: usize = 64;

/// What one record of a plugin takes of the time: ten a second. The trail keeps a number of records for all plugins
/// together, so that one whose calls are ever different would soon have taken the place of all others'.
const EACH: Duration = Duration::from_millis(100);
/// How many records of one plugin may come at once, as the time in which they are allowed.
const BURST: Duration = Duration::from_secs(30);

/// The subject of records that are no longer told apart.
pub(crate) const OTHERS: &str = "(others)";

/// One call of the host, as it is told apart from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostCall<'a> {
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    pub(crate) decision: &'static str,
    pub(crate) subject: Cow<'a, str>,
    pub(crate) permission: Option<Cow<'a, str>>,
}

impl HostCall<'_> {
    fn kept(&self) -> HostCall<'static> {
        let owned = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        HostCall {
            service: self.service,
            method: self.method,
            decision: self.decision,
            subject: owned(&self.subject),
            permission: self.permission.as_ref().map(owned),
        }
    }

    fn entry(self, actor: &str) -> Entry {
        Entry {
            actor: actor.to_owned(),
            action: format!("hostapi.{}.{}", self.service, self.method),
            subject: self.subject.into_owned(),
            decision: self.decision,
            plugin: actor.strip_prefix("plugin:").map(str::to_owned),
            permission: self.permission.map(Cow::into_owned),
            detail: None,
            request_id: None,
        }
    }
}

/// The calls of one plugin since they were last taken, each with how often it was made. Plugins share
/// no lock here but once for each group.
#[derive(Debug)]
pub(crate) struct HostCalls {
    own: Arc<Own>,
    fold: Arc<Fold>,
}

#[derive(Debug)]
struct Own {
    actor: String,
    /// Few: a look-up goes through them, those that came first and are likely to come often first.
    counts: Mutex<Vec<(HostCall<'static>, i64)>>,
    /// When all records that were taken will have been allowed.
    paid: Mutex<Option<Instant>>,
}

impl HostCalls {
    pub(super) fn new(plugin: &PluginId, fold: &Arc<Fold>) -> Self {
        let own = Own {
            actor: format!("plugin:{plugin}"),
            counts: Mutex::default(),
            paid: Mutex::default(),
        };
        Self {
            own: Arc::new(own),
            fold: Arc::clone(fold),
        }
    }

    /// Counts a call; never waits, and loses no count.
    pub(crate) fn record(&self, call: &HostCall<'_>) {
        let mut counts = self.own.counts();
        if count(&mut counts, call) {
            return;
        }
        let was_empty = counts.is_empty();
        if counts.len() < RECORDS_PER_PLUGIN {
            counts.push((call.kept(), 1));
        } else {
            let others = HostCall {
                service: call.service,
                method: call.method,
                decision: call.decision,
                subject: OTHERS.into(),
                permission: None,
            };
            // Methods and decisions are few: this ends.
            if !count(&mut counts, &others) {
                counts.push((others, 1));
            }
        }
        if was_empty {
            // While the counts are held: whoever counts the next call then knows that it will be taken.
            self.fold.wait_with(Arc::clone(&self.own));
        }
    }
}

/// Counts `call` where one like it is there.
fn count(counts: &mut [(HostCall<'static>, i64)], call: &HostCall<'_>) -> bool {
    let known = counts.iter_mut().find(|(known, _)| known == call);
    known.map(|(_, count)| *count += 1).is_some()
}

impl Own {
    /// Takes what was counted, unless there were too many records: then it goes on being counted.
    fn take(&self, now: Instant, all: bool) -> Option<Vec<(HostCall<'static>, i64)>> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid.map_or(now, |paid| paid.max(now));
        if !all && from.saturating_duration_since(now) > BURST {
            return None;
        }
        let counts = std::mem::take(&mut *self.counts());
        let taken = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        *paid = from.checked_add(EACH.saturating_mul(taken));
        Some(counts)
    }

    fn plugin(&self) -> &str {
        let actor = &self.actor;
        actor.strip_prefix("plugin:").unwrap_or(actor)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Vec<(HostCall<'static>, i64)>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those whose calls wait to be taken.
#[derive(Debug, Default)]
pub(super) struct Fold {
    waiting: Mutex<Vec<Arc<Own>>>,
    filled: Notify,
}

impl Fold {
    fn wait_with(&self, own: Arc<Own>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(own);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Takes what is there of the plugins that have not had too many records by `now`, and of those that are `due` by
    /// their names in any case. What is left counts as there: [`filled`](Self::filled) does not wait for it.
    pub(super) fn take(
        &self,
        now: Instant,
        due: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (Entry, i64)> {
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        let mut taken = Vec::new();
        for own in waiting {
            match own.take(now, due(own.plugin())) {
                Some(counts) => taken.push((own, counts)),
                None => self.wait_with(own),
            }
        }
        taken.into_iter().flat_map(|(own, counts)| {
            let entry = move |(call, count): (HostCall<'_>, i64)| (call.entry(&own.actor), count);
            counts.into_iter().map(entry)
        })
    }

    /// Waits until there is something.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(subject: String, decision: &'static str) -> HostCall<'static> {
        HostCall {
            service: "cache",
            method: "get",
            decision,
            subject: subject.into(),
            permission: None,
        }
    }

    fn plugin(name: &str, fold: &Arc<Fold>) -> HostCalls {
        HostCalls::new(&name.parse().unwrap(), fold)
    }

    fn all_of(fold: &Fold) -> impl Iterator<Item = (Entry, i64)> {
        fold.take(Instant::now(), |_| true)
    }

    #[test]
    fn a_plugin_whose_calls_are_ever_different_has_no_more_records_for_it() {
        let fold = Arc::new(Fold::default());
        let (flooding, quiet) = (plugin("flood", &fold), plugin("quiet", &fold));
        let start = Instant::now();
        let (mut records, mut calls) = (0, 0);
        let mut quiet_records = 0;
        // Ten minutes of a group each second.
        for second in 0..600 {
            for n in 0..100 {
                flooding.record(&call(format!("{second}-{n}"), "allow"));
            }
            quiet.record(&call("one".into(), "allow"));
            for (entry, count) in fold.take(start + Duration::from_secs(second), |_| false) {
                if entry.actor == "plugin:flood" {
                    records += 1;
                    calls += count;
                } else {
                    quiet_records += 1;
                }
            }
        }
        assert!((6_000..=6_400).contains(&records), "{records}");
        assert_eq!(quiet_records, 600, "each group has one of its own");
        let left: i64 = all_of(&fold).map(|(_, count)| count).sum();
        assert_eq!(calls + left, 60_000, "none is lost");
    }

    #[test]
    fn a_flood_is_counted_in_bounded_room_and_leaves_others_alone() {
        let fold = Arc::new(Fold::default());
        let (flooding, quiet) = (plugin("flood", &fold), plugin("quiet", &fold));
        for n in 0..100_000 {
            flooding.record(&call(n.to_string(), "deny"));
            flooding.record(&call("same".into(), "limit"));
        }
        quiet.record(&call("one".into(), "allow"));
        let taken: Vec<_> = all_of(&fold).collect();
        let of = |actor: &str| {
            let records = taken.iter().filter(|(entry, _)| entry.actor == actor);
            records.collect::<Vec<_>>()
        };
        let flood = of("plugin:flood");
        assert!(flood.len() <= RECORDS_PER_PLUGIN + 2, "{}", flood.len());
        assert_eq!(flood.iter().map(|(_, count)| count).sum::<i64>(), 200_000);
        let same = flood.iter().find(|(entry, _)| entry.subject == "same");
        assert_eq!(same.unwrap().1, 100_000);
        let quiet = of("plugin:quiet");
        assert_eq!(
            (quiet.len(), quiet[0].0.subject.as_str(), quiet[0].1),
            (1, "one", 1)
        );
        assert_eq!(quiet[0].0.action, "hostapi.cache.get");
        assert_eq!(all_of(&fold).count(), 0);
    }

    #[test]
    fn calls_recorded_while_others_are_taken_are_all_counted() {
        let fold = Arc::new(Fold::default());
        let callers: Vec<_> = ["a", "b"].map(|name| plugin(name, &fold)).into();
        let taken: i64 = std::thread::scope(|scope| {
            let recording: Vec<_> = callers
                .iter()
                .map(|calls| {
                    scope.spawn(|| {
                        for n in 0..10_000 {
                            calls.record(&call((n % 7).to_string(), "allow"));
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            while !recording.iter().all(|one| one.is_finished()) {
                taken += all_of(&fold).map(|(_, count)| count).sum::<i64>();
            }
            taken
        });
        assert_eq!(
            taken + all_of(&fold).map(|(_, count)| count).sum::<i64>(),
            20_000
        );
    }
}
