//! What plugins ask of the host, folded before it waits for anything: a plugin that calls its host
//! without end fills its own place here and no queue, and every call of it is counted.
//!
//! The actions of a plugin (`http.request`, `db.query`) are apart, and in each of them what was allowed and what
//! was refused: calls of one that are ever different take no place of the others' records, and hold none back.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pinfold_policy::PluginId;
use tokio::sync::Notify;

use super::Entry;

/// Different records of one action and decision of a plugin that are told apart at once. Past it the subject
/// and what the missing permission is for are left out, and what remains is counted.
const TOLD_APART: usize = 64;
/// Different kinds of missing permissions that are told apart of those: there are fewer.
const KINDS: usize = 16;

/// What one record of a plugin takes of the time: ten a second. The trail keeps a number of records for all plugins
/// together, so that one whose calls are ever different would soon have taken the place of all others'.
const EACH: Duration = Duration::from_millis(100);
/// How many records of one plugin may come at once, as the time in which they are allowed.
const BURST: Duration = Duration::from_secs(30);

/// Records that an action without any keeps room for.
const KEPT_CAPACITY: usize = 4;

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
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// As many as services have methods.
    actions: Vec<Action>,
    /// Whose record was taken last.
    last: usize,
    /// When all records that were taken will have been allowed.
    paid: Option<Instant>,
}

/// What was asked by one method.
#[derive(Debug)]
struct Action {
    service: &'static str,
    method: &'static str,
    /// Few: a look-up goes through them, those that came first and are likely to come often first.
    records: VecDeque<Record>,
}

#[derive(Debug)]
struct Record {
    subject: Cow<'static, str>,
    decision: &'static str,
    permission: Option<String>,
    count: i64,
}

impl HostCalls {
    pub(super) fn new(plugin: &PluginId, fold: &Arc<Fold>) -> Self {
        let own = Own {
            actor: format!("plugin:{plugin}"),
            counts: Mutex::default(),
        };
        Self {
            own: Arc::new(own),
            fold: Arc::clone(fold),
        }
    }

    /// Counts a call; never waits, and loses no count.
    pub(crate) fn record(&self, call: &HostCall<'_>) {
        let mut counts = self.own.counts();
        let permission = call.permission.as_deref();
        let known = counts
            .of(call)
            .find(&call.subject, call.decision, permission);
        if let Some(known) = known {
            known.count += 1;
            return;
        }
        let was_empty = counts.actions.iter().all(|one| one.records.is_empty());
        counts.of(call).add(call);
        if was_empty {
            // While the counts are held: whoever counts the next call then knows that it will be taken.
            self.fold.wait_with(Arc::clone(&self.own));
        }
    }
}

impl Counts {
    fn of(&mut self, call: &HostCall<'_>) -> &mut Action {
        let is_of = |one: &Action| one.method == call.method && one.service == call.service;
        let at = self.actions.iter().position(is_of);
        let at = at.unwrap_or_else(|| {
            self.actions.push(Action {
                service: call.service,
                method: call.method,
                records: VecDeque::new(),
            });
            self.actions.len() - 1
        });
        &mut self.actions[at]
    }

    /// Takes as many records as are allowed by `now`, or `all`: one of each action in turn, so that one of which
    /// there are ever more holds back no other.
    fn take(&mut self, now: Instant, all: bool) -> Vec<(&'static str, &'static str, Record)> {
        let from = self.paid.map_or(now, |paid| paid.max(now));
        let mut room = match all {
            true => usize::MAX,
            false => allowed(from.saturating_duration_since(now)),
        };
        let mut taken = Vec::new();
        let mut empty = 0;
        while room > 0 && empty < self.actions.len() {
            self.last = (self.last + 1) % self.actions.len();
            let action = &mut self.actions[self.last];
            match action.records.pop_front() {
                Some(record) => {
                    taken.push((action.service, action.method, record));
                    (room, empty) = (room - 1, 0);
                }
                None => empty += 1,
            }
        }
        for action in &mut self.actions {
            if action.records.is_empty() {
                action.records.shrink_to(KEPT_CAPACITY);
            }
        }
        let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        let paid = from.checked_add(EACH.saturating_mul(count));
        // What an end forces out is no debt of the instances after it.
        self.paid = paid.min(now.checked_add(BURST));
        taken
    }
}

/// How many records may come where those before them will have been allowed `ahead` of now.
fn allowed(ahead: Duration) -> usize {
    let left = BURST.saturating_sub(ahead).as_millis() / EACH.as_millis();
    usize::try_from(left).unwrap_or(usize::MAX)
}

impl Action {
    fn find(
        &mut self,
        subject: &str,
        decision: &str,
        permission: Option<&str>,
    ) -> Option<&mut Record> {
        self.records.iter_mut().find(|known| {
            known.subject == subject
                && known.decision == decision
                && known.permission.as_deref() == permission
        })
    }

    /// Counts a call that is not known.
    fn add(&mut self, call: &HostCall<'_>) {
        let of_decision = |known: &&Record| known.decision == call.decision;
        let records = self.records.iter().filter(of_decision).count();
        if records < TOLD_APART {
            return self.push(
                call.subject.clone().into_owned().into(),
                call.decision,
                call.permission.as_deref(),
            );
        }
        let kind = call.permission.as_deref().map(kind);
        let kind = match records < TOLD_APART + KINDS {
            true => kind.as_deref(),
            false => None,
        };
        match self.find(OTHERS, call.decision, kind) {
            Some(known) => known.count += 1,
            None => self.push(OTHERS.into(), call.decision, kind),
        }
    }

    fn push(&mut self, subject: Cow<'static, str>, decision: &'static str, missing: Option<&str>) {
        self.records.push_back(Record {
            subject,
            decision,
            permission: missing.map(str::to_owned),
            count: 1,
        });
    }
}

/// A permission without what it is for, which the plugin chooses: `config:read:…` of `config:read:a.b`.
fn kind(permission: &str) -> Cow<'_, str> {
    let end = permission.match_indices(':').nth(1);
    match end.and_then(|(end, _)| permission.get(..=end)) {
        Some(kind) => Cow::Owned(format!("{kind}…")),
        None => Cow::Borrowed(permission),
    }
}

impl Own {
    /// Takes what was counted and is allowed; what is left goes on being counted.
    fn take(&self, now: Instant, all: bool) -> (Vec<(Entry, i64)>, bool) {
        let mut counts = self.counts();
        let taken = counts.take(now, all);
        let is_left = counts.actions.iter().any(|one| !one.records.is_empty());
        drop(counts);
        let entry = |(service, method, record): (&str, &str, Record)| {
            let entry = Entry {
                actor: self.actor.clone(),
                action: format!("hostapi.{service}.{method}"),
                subject: record.subject.into_owned(),
                decision: record.decision,
                plugin: Some(self.plugin().to_owned()),
                permission: record.permission,
                detail: None,
                request_id: None,
            };
            (entry, record.count)
        };
        (taken.into_iter().map(entry).collect(), is_left)
    }

    fn plugin(&self) -> &str {
        let actor = &self.actor;
        actor.strip_prefix("plugin:").unwrap_or(actor)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
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

    /// Takes of each plugin's records as many as it may have had by `now`, and all of those that are `due` by
    /// their names, those of plugins with few first: where not all find a place, those that asked for most lose.
    /// What is left counts as there: [`filled`](Self::filled) does not wait for it.
    pub(super) fn take(&self, now: Instant, due: impl Fn(&str) -> bool) -> Vec<(Entry, i64)> {
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        let mut taken = Vec::new();
        for own in waiting {
            let (entries, is_left) = own.take(now, due(own.plugin()));
            taken.push(entries);
            if is_left {
                self.wait_with(own);
            }
        }
        taken.sort_by_key(Vec::len);
        taken.into_iter().flatten().collect()
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
        fold.take(Instant::now(), |_| true).into_iter()
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
        assert!(flood.len() <= TOLD_APART + 2, "{}", flood.len());
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
    fn what_is_refused_without_end_takes_no_place_of_other_records() {
        let fold = Arc::new(Fold::default());
        let calls = plugin("flood", &fold);
        let refused = |service, subject: String, permission: String| HostCall {
            service,
            permission: Some(permission.into()),
            ..call(subject, "deny")
        };
        for n in 0..1_000 {
            calls.record(&refused("cache", n.to_string(), "cache:read".into()));
            calls.record(&refused(
                "config",
                n.to_string(),
                format!("config:read:{n}"),
            ));
        }
        calls.record(&call("after".into(), "allow"));
        let of_table = refused("db", "main".into(), "db:read:main/users".into());
        calls.record(&of_table);
        let taken: Vec<_> = all_of(&fold).collect();
        let found = |action: &str, subject: &str| {
            let mut found = taken.iter().filter(|(entry, _)| {
                (entry.action.as_str(), entry.subject.as_str()) == (action, subject)
            });
            let (entry, count) = found.next().unwrap();
            assert!(found.next().is_none());
            (entry.decision, entry.permission.as_deref(), *count)
        };
        assert_eq!(found("hostapi.cache.get", "after"), ("allow", None, 1));
        let table = ("deny", Some("db:read:main/users"), 1);
        assert_eq!(found("hostapi.db.get", "main"), table);
        let told_apart = ("deny", Some("config:read:63"), 1);
        assert_eq!(found("hostapi.config.get", "63"), told_apart);
        // What was missing is told as far as it is not the plugin's to choose.
        let others = |permission| ("deny", Some(permission), 936);
        assert_eq!(found("hostapi.cache.get", OTHERS), others("cache:read"));
        assert_eq!(found("hostapi.config.get", OTHERS), others("config:read:…"));
    }

    #[test]
    fn kinds_of_missing_permissions_are_bounded_whatever_they_are() {
        let fold = Arc::new(Fold::default());
        let calls = plugin("flood", &fold);
        for n in 0..1_000 {
            calls.record(&HostCall {
                permission: Some(format!("a:{n}:b").into()),
                ..call(n.to_string(), "deny")
            });
        }
        let taken: Vec<_> = all_of(&fold).collect();
        assert_eq!(taken.len(), TOLD_APART + KINDS + 1);
        assert_eq!(taken.iter().map(|(_, count)| count).sum::<i64>(), 1_000);
    }

    #[test]
    fn actions_that_are_flooded_hold_no_other_back() {
        const FLOODED: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let fold = Arc::new(Fold::default());
        let calls = plugin("flood", &fold);
        let start = Instant::now();
        let mut hosts = 0;
        // Half a minute of groups.
        for group in 0..300_u32 {
            for (method, n) in FLOODED
                .into_iter()
                .flat_map(|one| (0..10).map(move |n| (one, n)))
            {
                let subject = format!("{group}-{n}");
                calls.record(&HostCall {
                    method,
                    ..call(subject, "deny")
                });
            }
            if group.is_multiple_of(20) {
                calls.record(&HostCall {
                    service: "http",
                    ..call(group.to_string(), "allow")
                });
            }
            for (entry, _) in fold.take(start + EACH * group, |_| false) {
                if entry.action == "hostapi.http.get" {
                    let asked: u32 = entry.subject.parse().unwrap();
                    assert!(group - asked <= 11, "{asked} waited until {group}");
                    hosts += 1;
                }
            }
        }
        assert_eq!(hosts, 15);
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
