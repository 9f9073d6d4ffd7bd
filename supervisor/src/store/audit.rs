//! The audit trail: who did what and whether it was allowed.
//!
//! What an administrator does is committed before it is answered. What plugins do is collected for
//! at most [`GROUP_DELAY`] and written together, repeats folded into a count, so that a flood
//! fills no disk: each plugin's by itself, so that one that floods costs no other its records, and
//! clients' by where the shared parts of a record lie, where what does not fit is counted and said.
//! What cannot be written (a full disk, a locked file) is kept, within a bound, until it can; how many
//! records were beyond that bound is then a record too.
//!
//! Every record is chained to the one before ([`chain`]) and goes to the log too: what is altered or
//! removed later does not fit what was logged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use pinfold_gateway::AuditRecord;
use pinfold_policy::{Generation, PluginId};
use sqlx::SqliteConnection;
use tokio_util::sync::CancellationToken;

use super::{Obstacle, Store, StoreError, failed};

pub(crate) mod afterwards;
pub(crate) mod chain;
mod ends;
mod fold;
mod group;
mod noted;
pub(crate) mod reader;
mod requests;
mod rows;
mod starts;
mod told;
mod verify;

use self::chain::Part;
use self::fold::Fold;
pub(crate) use self::fold::{HostCall, HostCalls, OTHERS};
use self::group::Group;
use self::noted::Noted;
use self::requests::Requests;
use self::rows::Appender;
pub(crate) use self::rows::{LOST, TRIM, chain_earlier};
pub(crate) use self::starts::Start;
pub(super) use self::told::Told;

/// Longest time from a record to its place on the disk.
const GROUP_DELAY: Duration = Duration::from_millis(100);
/// Time between two attempts while records cannot be written.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Records kept of each part; older ones are removed.
const KEPT_RECORDS: i64 = 200_000;

/// The start of an instance, or an attempt at one. The detail of one that was made begins with the
/// [`instance`] and a comma.
pub(crate) const PLUGIN_START: &str = "plugin.start";
/// The end of an instance. What it asked of the host is written with it at the latest. The subject is
/// the [`instance`].
pub(crate) const PLUGIN_END: &str = "plugin.end";

/// What the trail calls an instance in its start and its end. Who reads the trail matches it: nothing else
/// tells which end is of which start.
pub(crate) fn instance(generation: Generation) -> String {
    format!("generation {generation}")
}

/// One thing that was done or refused. Equal ones are folded into a count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// `plugin:hello`, `user:ann`, `uid:0 pid:17`, `pinfoldd`.
    pub(crate) actor: String,
    /// `hostapi.db.query`, `http.call`, `admin.token.create`.
    pub(crate) action: String,
    /// Tables, a key, a route, a plugin; never values.
    pub(crate) subject: String,
    /// `allow`, `deny`, `limit` or `error`.
    pub(crate) decision: &'static str,
    /// The plugin that it is about.
    pub(crate) plugin: Option<String>,
    /// The permission that was missing.
    pub(crate) permission: Option<String>,
    /// Why, or what else there is to say.
    pub(crate) detail: Option<String>,
    /// Request on whose behalf.
    pub(crate) request_id: Option<String>,
}

impl Entry {
    /// What an administrator did.
    pub(crate) fn admin(actor: String, action: &str, subject: String) -> Self {
        let action = action.to_owned();
        Self {
            actor,
            action,
            subject,
            decision: "allow",
            plugin: None,
            permission: None,
            detail: None,
            request_id: None,
        }
    }

    /// What the daemon did by itself.
    pub(crate) fn of_daemon(action: &str, subject: String) -> Self {
        Self::admin("pinfoldd".into(), action, subject)
    }

    /// The same, about a plugin.
    pub(crate) fn about(self, plugin: &PluginId) -> Self {
        Self {
            plugin: Some(plugin.to_string()),
            ..self
        }
    }
}

/// Where the data path leaves its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    requests: Arc<Requests>,
    folded: Arc<Fold>,
    noted: Arc<Noted>,
}

impl Trail {
    /// Where the calls of one plugin are counted: equal ones are folded before they wait.
    pub(crate) fn of_plugin(&self, plugin: &PluginId) -> Arc<HostCalls> {
        Arc::new(HostCalls::new(plugin, &self.folded))
    }

    /// Counts a decision of the gateway. Never waits.
    pub(crate) fn request(&self, record: AuditRecord) {
        self.requests.record(record);
    }

    /// Takes what was decided about a plugin, with its time. Never waits.
    pub(crate) fn note(&self, entry: Entry) {
        self.noted.push(Utc::now(), entry);
    }
}

/// Writes what the trail collects.
pub(crate) struct Writer {
    store: Store,
    trail: Trail,
}

/// A trail and its writer.
pub(crate) fn trail(store: &Store) -> (Trail, Writer) {
    let trail = Trail::default();
    let writer = Writer {
        store: store.clone(),
        trail: trail.clone(),
    };
    (trail, writer)
}

impl Writer {
    /// Writes until `stop`, and then what is left.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self { store, trail } = self;
        let mut group = Group::default();
        let mut is_failing = false;
        let mut heads = tokio::time::interval(told::HEADS_EVERY);
        loop {
            let ending = tokio::select! {
                () = trail.requests.filled() => false,
                () = trail.folded.filled() => false,
                () = trail.noted.filled() => false,
                () = stop.cancelled() => true,
                // At once, and then again and again.
                _ = heads.tick() => {
                    store.tell_heads().await;
                    continue;
                }
                // What could not be written is tried again, whether or not there is more.
                () = tokio::time::sleep(RETRY_DELAY), if is_failing => false,
            };
            if !ending {
                let delay = if is_failing { RETRY_DELAY } else { GROUP_DELAY };
                // Gather; an end of the daemon need not wait for it.
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = stop.cancelled() => {}
                }
            }
            let lost = group.gather(&trail, Instant::now(), ending);
            if lost > 0 {
                tracing::warn!(lost, "audit records dropped");
            }
            match store.write_group(&group).await {
                Ok(()) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!(
                            records = group.records(),
                            "audit records written after all"
                        );
                    }
                    group = Group::default();
                }
                Err(error) => {
                    // Said once: it goes on until somebody acts.
                    if !std::mem::replace(&mut is_failing, true) || ending {
                        tracing::error!(
                            error = %crate::chain::Chain(&error),
                            hint = error.obstacle().map(Obstacle::hint),
                            records = group.records(),
                            "audit records not written, kept to be tried again"
                        );
                    }
                }
            }
            // What there was no room for is the next group.
            if ending && (is_failing || trail.noted.is_empty()) {
                store.tell_heads().await;
                return;
            }
        }
    }
}

/// What fails where the trail cannot be written, and where it cannot be read.
const OPERATION: &str = "write the audit trail";
const OPERATION_READ: &str = "read the audit trail";

impl Store {
    /// Commits one record before it returns: for what an administrator does.
    pub(crate) async fn audit(&self, entry: Entry) -> Result<(), StoreError> {
        let mut transaction = self.begin(OPERATION).await?;
        let told = insert(&mut transaction, &entry).await?;
        transaction.commit().await.map_err(failed(OPERATION))?;
        told.tell();
        Ok(())
    }

    async fn write_group(&self, group: &Group) -> Result<(), StoreError> {
        if group.records() == 0 {
            return Ok(());
        }
        let mut transaction = self.begin(OPERATION).await?;
        let told = group.write(&mut transaction).await;
        let told = told.map_err(failed(OPERATION))?;
        transaction.commit().await.map_err(failed(OPERATION))?;
        told.tell();
        Ok(())
    }
}

/// Adds a record inside a transaction. What it gives is told once that is committed.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    entry: &Entry,
) -> Result<Told, StoreError> {
    let part = Part::of_action(&entry.action);
    let append = async {
        let mut appender = Appender::begin(connection).await?;
        appender.append(part, Utc::now(), entry, 1).await
    };
    let head = append.await.map_err(failed(OPERATION))?;
    let mut told = Told::default();
    told.push(head, entry, 1);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use pinfold_gateway::{Actor, Decision};

    use super::*;

    #[tokio::test]
    async fn a_flood_does_not_flush_out_what_administrators_did() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        for n in 0..3 {
            let admin = Entry::admin("uid:0".into(), "admin.token.create", n.to_string());
            store.audit(admin).await.unwrap();
        }
        for n in 0..20 {
            store.audit(entry(&n.to_string())).await.unwrap();
        }
        let mut connection = store.pool.acquire().await.unwrap();
        for (kept, left) in [(10, "admin:3 others:10"), (2, "admin:2 others:0")] {
            let mut appender = Appender::begin(&mut connection).await.unwrap();
            appender.trim(kept).await.unwrap();
            let counted: String = sqlx::query_scalar(
                "SELECT 'admin:' || sum(action GLOB 'admin.*')
                     || ' others:' || sum(action GLOB 'hostapi.*') FROM audit",
            )
            .fetch_one(&mut *connection)
            .await
            .unwrap();
            assert_eq!(counted, left);
            let none = std::collections::BTreeMap::new();
            verify::verify(&mut connection, &none, kept).await.unwrap();
        }
    }

    fn entry(subject: &str) -> Entry {
        Entry {
            actor: "plugin:hello".into(),
            action: "hostapi.cache.get".into(),
            subject: subject.into(),
            decision: "allow",
            plugin: None,
            permission: None,
            detail: None,
            request_id: None,
        }
    }

    #[tokio::test]
    async fn repeats_are_folded_and_nothing_is_lost_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        let (trail, writer) = trail(&store);
        for n in 0..101 {
            trail.request(AuditRecord {
                request_id: "r".into(),
                actor: Actor::Anonymous,
                method: if n == 0 { "PUT" } else { "GET" },
                route: None,
                plugin: None,
                decision: Decision::Allow,
            });
        }
        let calls = trail.of_plugin(&"hello".parse().unwrap());
        for _ in 0..1_000 {
            calls.record(&HostCall {
                service: "cache",
                method: "get",
                decision: "allow",
                subject: "c".into(),
                permission: None,
            });
        }
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT subject, sum(count) FROM audit WHERE part = 1 GROUP BY subject ORDER BY 1",
        )
        .fetch_all(&store.pool)
        .await
        .unwrap();
        assert_eq!(
            rows,
            [
                ("GET no route".to_owned(), 100),
                ("PUT no route".to_owned(), 1),
                ("c".to_owned(), 1_000)
            ]
        );
    }
}
