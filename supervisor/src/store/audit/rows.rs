//! Records as they lie in the database: appended to the chain of their part, and the oldest taken
//! away in a way that the chain tells of.

use chrono::{DateTime, SecondsFormat, Utc};
use pinfold_policy::Digest;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::Entry;
use super::chain::{self, BEGINNING, Fields, Part};
use super::ends;

/// What tells in a part that its oldest records were taken away: the subject is the last one's number,
/// the detail its hash.
pub(crate) const TRIM: &str = "audit.trim";
/// What tells from which number on every record is chained as it is written.
pub(crate) const CHAINED: &str = "audit.chained";
/// What tells in a part, which is its subject, how many of its records found no place.
pub(crate) const LOST: &str = "audit.lost";

/// The records that a part keeps, divided by this, are its surplus: how many more it may have before its oldest
/// are taken away. Without a surplus the records that say so, two each time, would be too many themselves the
/// next time, and take the place of all others in a part that is quiet. A hundredth of 200,000 is a thousand
/// times those two, and little room.
const SURPLUS_DIVISOR: i64 = 100;

/// A record as it lies in the database.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) number: i64,
    pub(crate) part: Part,
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
    /// Absent where what lies there is none.
    pub(crate) hash: Option<Digest>,
}

impl Row {
    /// Reads what [`COLUMNS`](Self::COLUMNS) name.
    pub(crate) fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let hash: Vec<u8> = row.try_get("hash")?;
        let part: i64 = row.try_get("part")?;
        let part = Part::ALL
            .into_iter()
            .find(|known| i64::from(known.number()) == part)
            .ok_or_else(|| sqlx::Error::ColumnDecode {
                index: "part".into(),
                source: format!("{part} is no part of the trail").into(),
            })?;
        Ok(Self {
            number: row.try_get("number")?,
            part,
            time: row.try_get("time")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            decision: row.try_get("decision")?,
            plugin: row.try_get("plugin")?,
            permission: row.try_get("permission")?,
            detail: row.try_get("detail")?,
            request_id: row.try_get("request_id")?,
            count: row.try_get("count")?,
            hash: hash.try_into().ok().map(Digest),
        })
    }

    /// What its hash covers.
    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields {
            number: self.number,
            time: &self.time,
            actor: &self.actor,
            action: &self.action,
            subject: &self.subject,
            decision: &self.decision,
            plugin: self.plugin.as_deref(),
            permission: self.permission.as_deref(),
            detail: self.detail.as_deref(),
            request_id: self.request_id.as_deref(),
            count: self.count,
        }
    }
}

/// The last record of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) part: Part,
    pub(crate) number: i64,
    pub(crate) hash: Digest,
}

/// The last record of a part; `None` where there is none yet.
pub(crate) async fn head(
    connection: &mut SqliteConnection,
    part: Part,
) -> Result<Option<Head>, sqlx::Error> {
    let found: Option<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT number, hash FROM audit WHERE part = ? ORDER BY number DESC LIMIT 1",
    )
    .bind(i64::from(part.number()))
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|(number, hash)| Head {
        part,
        number,
        // One that is no hash is found by who verifies; what follows it cannot fit it either way.
        hash: hash.try_into().map_or(BEGINNING, Digest),
    }))
}

/// Appends records inside a transaction that holds the lock of those who write: the ends of the
/// chains are read once.
pub(crate) struct Appender<'a> {
    connection: &'a mut SqliteConnection,
    next: i64,
    before: [Digest; Part::ALL.len()],
}

impl<'a> Appender<'a> {
    pub(crate) async fn begin(connection: &'a mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let mut before = [BEGINNING; Part::ALL.len()];
        let mut last = 0;
        for (part, before) in Part::ALL.into_iter().zip(&mut before) {
            if let Some(head) = head(connection, part).await? {
                *before = head.hash;
                last = last.max(head.number);
            }
        }
        Ok(Self {
            connection,
            next: last + 1,
            before,
        })
    }

    /// Appends one, and gives its number and hash.
    pub(crate) async fn append(
        &mut self,
        part: Part,
        time: DateTime<Utc>,
        entry: &Entry,
        count: i64,
    ) -> Result<Head, sqlx::Error> {
        let time = time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let number = self.next;
        let fields = Fields {
            number,
            time: &time,
            actor: &entry.actor,
            action: &entry.action,
            subject: &entry.subject,
            decision: entry.decision,
            plugin: entry.plugin.as_deref(),
            permission: entry.permission.as_deref(),
            detail: entry.detail.as_deref(),
            request_id: entry.request_id.as_deref(),
            count,
        };
        let Some(before) = self.before.get_mut(usize::from(part.number())) else {
            return Err(sqlx::Error::Protocol("a part without a place".into()));
        };
        let hash = chain::hash(part, *before, &fields);
        sqlx::query(
            "INSERT INTO audit (number, time, actor, action, subject, decision, permission,
                                request_id, count, part, plugin, detail, hash)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(number)
        .bind(&time)
        .bind(fields.actor)
        .bind(fields.action)
        .bind(fields.subject)
        .bind(fields.decision)
        .bind(fields.permission)
        .bind(fields.request_id)
        .bind(count)
        .bind(i64::from(part.number()))
        .bind(fields.plugin)
        .bind(fields.detail)
        .bind(hash.0.as_slice())
        .execute(&mut *self.connection)
        .await?;
        *before = hash;
        self.next += 1;
        Ok(Head { part, number, hash })
    }

    /// The newest record of a part beyond the newest `kept`: its number and hash.
    async fn beyond(
        &mut self,
        part: Part,
        kept: i64,
    ) -> Result<Option<(i64, Vec<u8>)>, sqlx::Error> {
        sqlx::query_as(
            "SELECT number, hash FROM audit WHERE part = ?
             ORDER BY number DESC LIMIT 1 OFFSET ?",
        )
        .bind(i64::from(part.number()))
        .bind(kept)
        .fetch_optional(&mut *self.connection)
        .await
    }

    /// Takes away what is older than the newest `kept` records of each part that has more than these and the
    /// surplus, and says so in it, with where the other one ends.
    pub(crate) async fn trim(&mut self, kept: i64) -> Result<(), sqlx::Error> {
        for part in Part::ALL {
            let with_surplus = kept + kept / SURPLUS_DIVISOR;
            if self.beyond(part, with_surplus).await?.is_none() {
                continue;
            }
            let Some((last, hash)) = self.beyond(part, kept).await? else {
                continue;
            };
            // Before anything goes: what was told last may be among it.
            let end = ends::to_tell(self.connection, part).await?;
            sqlx::query("DELETE FROM audit WHERE part = ? AND number <= ?")
                .bind(i64::from(part.number()))
                .bind(last)
                .execute(&mut *self.connection)
                .await?;
            let hash = hash.try_into().map_or(BEGINNING, Digest);
            let entry = Entry {
                detail: Some(hash.to_string()),
                ..Entry::of_daemon(TRIM, last.to_string())
            };
            self.append(part, Utc::now(), &entry, 1).await?;
            if let Some(end) = end {
                self.append(part, Utc::now(), &ends::entry(end), 1).await?;
            }
        }
        Ok(())
    }
}

/// Chains the records of a version that did not, in the order of their numbers, and says how many
/// they are.
pub(crate) async fn chain_earlier(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    /// Records read at once.
    const AT_ONCE: i64 = 1000;
    let mut before = [BEGINNING; Part::ALL.len()];
    let (mut last, mut chained) = (0, 0_u64);
    loop {
        let rows = sqlx::query("SELECT * FROM audit WHERE number > ? ORDER BY number LIMIT ?")
            .bind(last)
            .bind(AT_ONCE)
            .fetch_all(&mut *connection)
            .await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let row = Row::of(row)?;
            let Some(before) = before.get_mut(usize::from(row.part.number())) else {
                continue;
            };
            *before = chain::hash(row.part, *before, &row.fields());
            sqlx::query("UPDATE audit SET hash = ? WHERE number = ?")
                .bind(before.0.as_slice())
                .bind(row.number)
                .execute(&mut *connection)
                .await?;
            last = row.number;
            chained += 1;
        }
    }
    let entry = Entry::of_daemon(CHAINED, format!("{chained} earlier records"));
    let mut appender = Appender::begin(connection).await?;
    appender
        .append(Part::Control, Utc::now(), &entry, 1)
        .await
        .map(drop)
}
