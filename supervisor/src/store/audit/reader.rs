//! The trail as whoever looks after it reads it: beside a daemon that writes it, or without one. The
//! database is opened for reading alone.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use pinfold_policy::{Digest, PluginId};
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, QueryBuilder};

use super::afterwards::KnownRecords;
use super::rows::{Head, Row};
use super::verify::{self, Whole};
pub(crate) use super::verify::{BrokenTrail, Seen};
use super::{KEPT_RECORDS, OPERATION_READ};
use crate::store::{StoreError, failed, migrate};

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Only those after this number.
    pub(crate) after: i64,
    pub(crate) since: Option<DateTime<Utc>>,
    /// With `*` and `?`, as those of `action`.
    pub(crate) actor: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) plugin: Option<PluginId>,
    pub(crate) decision: Option<String>,
    /// Most; the latest are given.
    pub(crate) limit: u32,
}

/// A record, for whoever reads it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RecordView {
    pub(crate) number: i64,
    pub(crate) part: &'static str,
    pub(crate) time: String,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) decision: String,
    pub(crate) plugin: Option<String>,
    pub(crate) permission: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) count: i64,
    pub(crate) hash: Option<Digest>,
}

impl From<Row> for RecordView {
    fn from(row: Row) -> Self {
        Self {
            number: row.number,
            part: row.part.as_str(),
            time: row.time,
            actor: row.actor,
            action: row.action,
            subject: row.subject,
            decision: row.decision,
            plugin: row.plugin,
            permission: row.permission,
            detail: row.detail,
            request_id: row.request_id,
            count: row.count,
            hash: row.hash,
        }
    }
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct HeadView {
    pub(crate) part: &'static str,
    pub(crate) number: i64,
    pub(crate) hash: Digest,
}

impl From<Head> for HeadView {
    fn from(Head { part, number, hash }: Head) -> Self {
        Self {
            part: part.as_str(),
            number,
            hash,
        }
    }
}

/// An open trail.
pub(crate) struct Reader {
    connection: SqliteConnection,
    schema: i64,
}

impl Reader {
    /// Opens the file, which has to be there.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let unopened = |source| StoreError::Open {
            path: path.into(),
            source,
        };
        let mut connection = migrate::open_to_read(path).await.map_err(unopened)?;
        let found = migrate::schema(&mut connection).await.map_err(unopened)?;
        migrate::check_chained(path, &mut connection, found).await?;
        Ok(Self {
            connection,
            schema: found,
        })
    }

    /// The schema of its database.
    pub(crate) fn schema(&self) -> i64 {
        self.schema
    }

    /// Whether the trail is whole, and has the records that were seen before.
    pub(crate) async fn verify(
        &mut self,
        expected: &BTreeMap<i64, Seen>,
    ) -> Result<Whole, BrokenTrail> {
        // One moment of it, whatever is written meanwhile.
        let mut transaction = self.connection.begin().await?;
        let whole = verify::verify(&mut transaction, expected, KEPT_RECORDS).await?;
        transaction.rollback().await?;
        Ok(whole)
    }

    /// Where each chain ends.
    pub(crate) async fn heads(&mut self) -> Result<Vec<HeadView>, StoreError> {
        let heads = verify::heads(&mut self.connection).await;
        let heads = heads.map_err(failed(OPERATION_READ))?;
        Ok(heads.into_iter().map(HeadView::from).collect())
    }

    /// What of the acts that were written down before they were done is in the trail.
    pub(crate) async fn written_down(&mut self) -> Result<KnownRecords, StoreError> {
        let known = KnownRecords::read(&mut self.connection).await;
        known.map_err(failed(OPERATION_READ))
    }

    /// The records that are wanted, oldest first.
    pub(crate) async fn list(&mut self, wanted: &Wanted) -> Result<Vec<RecordView>, StoreError> {
        // Who follows the trail lists it for as long as he likes.
        let begun = migrate::begin_anew(&mut self.connection).await;
        begun.map_err(failed(OPERATION_READ))?;
        let mut query = QueryBuilder::new("SELECT * FROM audit WHERE number > ");
        query.push_bind(wanted.after);
        if let Some(since) = wanted.since {
            // All times are in UTC, and begin alike: their order is that of their texts.
            let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
            let since = since.trim_end_matches('Z').to_owned();
            query.push(" AND time >= ").push_bind(since);
        }
        if let Some(actor) = &wanted.actor {
            query.push(" AND actor GLOB ").push_bind(actor);
        }
        if let Some(action) = &wanted.action {
            query.push(" AND action GLOB ").push_bind(action);
        }
        if let Some(decision) = &wanted.decision {
            query.push(" AND decision = ").push_bind(decision);
        }
        if let Some(plugin) = &wanted.plugin {
            query.push(" AND (plugin = ").push_bind(plugin.as_str());
            // Records of a version that kept no plugin apart.
            query.push(" OR actor = ");
            query.push_bind(format!("plugin:{plugin}")).push(")");
        }
        query.push(" ORDER BY number DESC LIMIT ");
        query.push_bind(i64::from(wanted.limit));
        let rows = query
            .build()
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed(OPERATION_READ))?;
        let records = rows.iter().rev();
        let records = records.map(|row| Row::of(row).map(RecordView::from));
        records
            .collect::<Result<_, _>>()
            .map_err(failed(OPERATION_READ))
    }
}
