//! What the gateway decided, folded before it waits for anything. A request counts one up under a
//! lock that two threads hardly ever want at once, and copies no text: what is equal is told by
//! where the shared parts of a record lie, and becomes text when it is written.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinfold_gateway::{Actor, AuditRecord, Decision, RoutePattern};
use tokio::sync::Notify;

use super::Entry;
use crate::recorder::actor_text;

/// Parts that are locked apart: more than a machine of this kind has busy threads.
const PARTS: usize = 16;
/// Different records of one part within one group; further ones are lost, and counted as such.
const RECORDS_PER_PART: usize = 2048;

/// Where actor, method, route and decision of a record lie. Two records that differ in this may
/// still say the same.
type Key = [usize; 4];

/// The first record with a key, which keeps in place what the key stands for, and how many there were.
type Part = HashMap<Key, (AuditRecord, i64)>;

thread_local! {
    /// The part that this thread uses.
    static OWN_PART: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % PARTS)
    };
}

/// Records since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Requests {
    parts: [Mutex<Part>; PARTS],
    lost: AtomicU64,
    filled: Notify,
}

impl Requests {
    /// Counts a record; never waits.
    pub(super) fn record(&self, record: AuditRecord) {
        let Some(part) = self.parts.get(OWN_PART.get()) else {
            return;
        };
        let mut part = lock(part);
        let key = key(&record);
        if let Some((_, count)) = part.get_mut(&key) {
            *count += 1;
            return;
        }
        if part.len() >= RECORDS_PER_PART {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = part.is_empty();
        part.insert(key, (record, 1));
        drop(part);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> impl Iterator<Item = (Entry, i64)> {
        let parts = self.parts.iter();
        let taken = parts.map(|part| std::mem::take(&mut *lock(part)));
        let taken = taken.flat_map(Part::into_values);
        taken.map(|(record, count)| (entry(&record), count))
    }

    /// Takes the number of those that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Waits until there is something.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(record: &AuditRecord) -> Key {
    let actor = match &record.actor {
        Actor::Anonymous => 0,
        Actor::User(user) => Arc::as_ptr(user).addr(),
        // Odd, as no address of a user is.
        Actor::Process { uid, .. } => usize::try_from(*uid).unwrap_or(0) * 2 + 1,
    };
    let route = match &record.route {
        None => 0,
        Some(RoutePattern::Plugin(route)) => Arc::as_ptr(route).addr(),
        Some(pattern) => pattern.as_str().as_ptr().addr(),
    };
    let decision = match record.decision {
        Decision::Allow => 0,
        Decision::Deny { code } => code.as_ptr().addr(),
    };
    [actor, record.method.as_ptr().addr(), route, decision]
}

fn entry(record: &AuditRecord) -> Entry {
    let (decision, permission) = match record.decision {
        Decision::Allow => ("allow", None),
        Decision::Deny { code } => ("deny", Some(code.to_owned())),
    };
    let route = record.route.as_ref();
    let route = route.map_or("no route", RoutePattern::as_str);
    let method = record.method;
    let subject = match &record.plugin {
        Some((plugin, _)) => format!("{method} {route} ({plugin})"),
        None => format!("{method} {route}"),
    };
    Entry {
        actor: actor_text(&record.actor),
        action: "http.request".into(),
        subject,
        decision,
        plugin: record.plugin.as_ref().map(|(plugin, _)| plugin.to_string()),
        permission,
        detail: None,
        // Not kept: equal requests of one user are to be folded into a count.
        request_id: None,
    }
}

#[cfg(test)]
mod tests {
    use pinfold_policy::{Generation, Route, RouteMethod, User};

    use super::*;

    fn user(id: &str) -> Actor {
        Actor::User(Arc::new(User {
            id: id.into(),
            login: id.into(),
            roles: vec![],
        }))
    }

    fn record(actor: &Actor, route: &Arc<Route>, decision: Decision) -> AuditRecord {
        AuditRecord {
            request_id: "r".into(),
            actor: actor.clone(),
            method: "GET",
            route: Some(RoutePattern::Plugin(Arc::clone(route))),
            plugin: Some(("hello".parse().unwrap(), Generation(1))),
            decision,
        }
    }

    fn route(path: String) -> Arc<Route> {
        Arc::new(Route {
            method: RouteMethod::Get,
            path,
            handler: "h".into(),
            middleware: vec![],
            description: String::new(),
        })
    }

    #[test]
    fn equal_requests_are_counted_and_others_told_apart() {
        let requests = Requests::default();
        let (ann, bob) = (user("ann"), user("bob"));
        let (one, other) = (route("/one".into()), route("/other".into()));
        let deny = Decision::Deny { code: "no" };
        for _ in 0..3 {
            requests.record(record(&ann, &one, Decision::Allow));
            requests.record(record(&ann, &other, Decision::Allow));
        }
        requests.record(record(&bob, &one, Decision::Allow));
        requests.record(record(&bob, &one, deny));
        requests.record(AuditRecord {
            route: None,
            plugin: None,
            ..record(&Actor::Anonymous, &one, deny)
        });
        let mut taken: Vec<_> = requests
            .take()
            .map(|(e, n)| format!("{} {} {} {n}", e.actor, e.subject, e.decision))
            .collect();
        taken.sort();
        assert_eq!(
            taken,
            [
                "anonymous GET no route deny 1",
                "user:ann GET /one (hello) allow 3",
                "user:ann GET /other (hello) allow 3",
                "user:bob GET /one (hello) allow 1",
                "user:bob GET /one (hello) deny 1",
            ]
        );
        assert_eq!((requests.take().count(), requests.lost()), (0, 0));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_as_lost() {
        let requests = Requests::default();
        let ann = user("ann");
        let routes: Vec<_> = (0..RECORDS_PER_PART + 5)
            .map(|n| route(n.to_string()))
            .collect();
        for _ in 0..2 {
            for route in &routes {
                requests.record(record(&ann, route, Decision::Allow));
            }
        }
        assert_eq!(requests.lost(), 10);
        assert_eq!(requests.take().count(), RECORDS_PER_PART);
    }
}
