//! The audit trail: who did what and whether it was allowed.
//!
//! What an administrator does is committed before it is answered. What plugins do is collected for
//! at most [`GROUP_DELAY`] and written together, repeats folded into a count, so that a flood
//! fills no disk: each plugin's by itself, so that one that floods costs no other its records, and
//! clients' by where the shared parts of a record lie, where what does not fit is counted and said.
//! What cannot be written (a full disk, a locked file) is kept, within a bound, until it can.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use pinfold_gateway::AuditRecord;
use pinfold_policy::PluginId;
use sqlx::SqliteConnection;
use tokio_util::sync::CancellationToken;

use super::{Obstacle, Store, StoreError, failed};

mod fold;
mod requests;

use self::fold::Fold;
pub(crate) use self::fold::{HostCall, HostCalls};
use self::requests::Requests;

/// Longest time from a record to its place on the disk.
const GROUP_DELAY: Duration = Duration::from_millis(100);
/// Time between two attempts while records cannot be written.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Different records kept while they cannot be written: all that are gathered at once.
const KEPT_UNWRITTEN: usize = 32_768;
/// Records kept of what plugins and clients do, and as many of what administrators do; older ones
/// are removed. Apart, or a plugin could flush what an administrator did out of the trail.
const KEPT_RECORDS: i64 = 200_000;
/// How many records are written between two looks at what is too many.
const TRIM_EVERY: i64 = 1_000;

/// One thing that was done or refused. Equal ones are folded into a count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// `plugin:hello`, `token:NAME`, `uid:0`.
    pub(crate) actor: String,
    /// `hostapi.db.query`, `http.call`, `admin.token.create`.
    pub(crate) action: String,
    /// Tables, a key, a route, a plugin; never values.
    pub(crate) subject: String,
    /// `allow`, `deny`, `limit` or `error`.
    pub(crate) decision: &'static str,
    /// The permission that was missing.
    pub(crate) permission: Option<String>,
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
            permission: None,
            request_id: None,
        }
    }
}

/// Where the data path leaves its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    requests: Arc<Requests>,
    folded: Arc<Fold>,
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
        let mut group: HashMap<Entry, i64> = HashMap::new();
        let mut is_failing = false;
        loop {
            let ending = tokio::select! {
                () = trail.requests.filled() => false,
                () = trail.folded.filled() => false,
                () = stop.cancelled() => true,
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
            let mut lost = trail.requests.lost();
            for (entry, count) in trail.requests.take().chain(trail.folded.take()) {
                if group.len() < KEPT_UNWRITTEN || group.contains_key(&entry) {
                    *group.entry(entry).or_default() += count;
                } else {
                    lost = lost.saturating_add(count.unsigned_abs());
                }
            }
            if lost > 0 {
                tracing::warn!(lost, "audit records dropped");
            }
            match store.write_audit(&group).await {
                Ok(()) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!(records = group.len(), "audit records written after all");
                    }
                    group.clear();
                }
                Err(error) => {
                    // Said once: it goes on until somebody acts.
                    if !std::mem::replace(&mut is_failing, true) || ending {
                        tracing::error!(
                            error = %crate::chain::Chain(&error),
                            hint = error.obstacle().map(Obstacle::hint),
                            records = group.len(),
                            "audit records not written, kept to be tried again"
                        );
                    }
                }
            }
            if ending {
                return;
            }
        }
    }
}

impl Store {
    /// Commits one record before it returns: for what an administrator does.
    pub(crate) async fn audit(&self, entry: Entry) -> Result<(), StoreError> {
        self.write_audit(&HashMap::from([(entry, 1)])).await
    }

    async fn write_audit(&self, group: &HashMap<Entry, i64>) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let operation = "write the audit trail";
        let mut transaction = self.begin(operation).await?;
        let mut newest = 0;
        for (entry, count) in group {
            newest = insert(&mut transaction, entry, *count).await?;
        }
        let written = i64::try_from(group.len()).unwrap_or(i64::MAX);
        if newest % TRIM_EVERY < written {
            trim(&mut transaction, KEPT_RECORDS)
                .await
                .map_err(failed(operation))?;
        }
        transaction.commit().await.map_err(failed(operation))
    }
}

/// Adds a record inside a transaction, and gives its number.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    entry: &Entry,
    count: i64,
) -> Result<i64, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO audit (time, actor, action, subject, decision, permission, request_id, count)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(Utc::now().to_rfc3339())
    .bind(&entry.actor)
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(entry.decision)
    .bind(&entry.permission)
    .bind(&entry.request_id)
    .bind(count)
    .execute(&mut *connection)
    .await
    .map_err(failed("write the audit trail"))?;
    Ok(inserted.last_insert_rowid())
}

/// Removes what is older than the newest `kept` records, and of administrators' what is older than
/// the newest `kept` of theirs.
async fn trim(connection: &mut SqliteConnection, kept: i64) -> Result<(), sqlx::Error> {
    const OTHERS: &str = "DELETE FROM audit WHERE action NOT GLOB 'admin.*'
         AND number <= (SELECT max(number) FROM audit) - ?";
    const ADMINISTRATORS: &str = "DELETE FROM audit WHERE action GLOB 'admin.*'
         AND number <= (SELECT number FROM audit WHERE action GLOB 'admin.*'
                        ORDER BY number DESC LIMIT 1 OFFSET ?)";
    for sql in [OTHERS, ADMINISTRATORS] {
        sqlx::query(sql)
            .bind(kept)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
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
        for (kept, left) in [(10, "admin:3 others:10"), (2, "admin:2 others:2")] {
            trim(&mut connection, kept).await.unwrap();
            let counted: String = sqlx::query_scalar(
                "SELECT 'admin:' || sum(action GLOB 'admin.*')
                     || ' others:' || sum(action NOT GLOB 'admin.*') FROM audit",
            )
            .fetch_one(&mut *connection)
            .await
            .unwrap();
            assert_eq!(counted, left);
        }
    }

    fn entry(subject: &str) -> Entry {
        Entry {
            actor: "plugin:hello".into(),
            action: "hostapi.cache.get".into(),
            subject: subject.into(),
            decision: "allow",
            permission: None,
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
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT subject, sum(count) FROM audit GROUP BY subject ORDER BY 1")
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
