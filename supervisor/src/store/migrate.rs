//! The schema: one step after the other, from whatever an earlier version left to the present one.
//!
//! Before the first step the file is copied aside ([`copy`]); all steps are one transaction, so that
//! a file is of the version before or of this one, never between. A file of a later version is
//! refused, and not a byte of it is changed.

mod backups;
mod copy;
mod open;

use std::path::{Path, PathBuf};

use sqlx::{Connection as _, SqliteConnection, SqlitePool};

use super::{StoreError, audit};

pub(crate) use self::copy::copy;
pub(crate) use self::open::{begin_anew, is_link, open_to_read};

/// Each step takes the schema from its index to the next; never edited, only added to.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE token (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        user TEXT NOT NULL,
        roles TEXT NOT NULL,
        hash BLOB NOT NULL UNIQUE,
        created TEXT NOT NULL,
        expires TEXT,
        revoked TEXT
    ) STRICT;
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        time TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        decision TEXT NOT NULL,
        permission TEXT,
        request_id TEXT,
        count INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE plugin (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE
    ) STRICT;
    ",
    // Apart from `plugin`, whose rows go with a plugin's directory: what an operator has switched
    // off stays so when it comes again.
    "
    CREATE TABLE plugin_flag (
        id TEXT PRIMARY KEY,
        enabled INTEGER NOT NULL,
        changed TEXT NOT NULL
    ) STRICT;
    ",
    // What a plugin that is switched off had registered, as JSON: its routes say what it is.
    "
    ALTER TABLE plugin_flag ADD COLUMN routes TEXT;
    ",
    // The trail's records chained, each part by itself; those of before are chained by
    // `chain_earlier` in the same transaction. And the policy of each plugin's last start.
    "
    ALTER TABLE audit ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE audit ADD COLUMN plugin TEXT;
    ALTER TABLE audit ADD COLUMN detail TEXT;
    ALTER TABLE audit ADD COLUMN hash BLOB NOT NULL DEFAULT x'';
    UPDATE audit SET part = 1 WHERE action NOT GLOB 'admin.*';
    CREATE INDEX audit_part ON audit (part, number);
    CREATE TABLE plugin_policy (
        id TEXT PRIMARY KEY,
        digest TEXT NOT NULL
    ) STRICT;
    ",
    // Which version of the program brought the file to which schema: an earlier one that finds it
    // can say who wrote it.
    "
    CREATE TABLE written_by (
        schema INTEGER PRIMARY KEY,
        version TEXT NOT NULL,
        time TEXT NOT NULL
    ) STRICT;
    ",
];

/// How many steps there were before records were chained.
const BEFORE_CHAINS: usize = 3;
/// How many steps there are when it is recorded who took them.
const WITH_WRITERS: usize = 5;
/// This program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The schema that this version writes.
pub(crate) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// A file's schema, where this version can read its audit trail.
pub(crate) async fn check_chained(
    path: &Path,
    connection: &mut SqliteConnection,
    found: i64,
) -> Result<(), StoreError> {
    match usize::try_from(found) {
        Ok(found) if found <= BEFORE_CHAINS => Err(StoreError::Earlier { path: path.into() }),
        Ok(found) if found <= MIGRATIONS.len() => Ok(()),
        _ => Err(StoreError::Schema {
            path: path.into(),
            found,
            known: known(),
            writer: writer(connection).await,
            backup: backups::newest(path, known()),
        }),
    }
}

/// Looks at the file before anything in it can change: refuses a later version's, and copies an
/// earlier one's aside. Gives the copy, where one was made.
pub(super) async fn prepare(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let is_there = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    if !is_there {
        return Ok(None);
    }
    let unopened = |source| StoreError::Open {
        path: path.into(),
        source,
    };
    let mut connection = open_to_read(path).await.map_err(unopened)?;
    let found = schema(&mut connection).await.map_err(unopened)?;
    let writer = if found > known() {
        writer(&mut connection).await
    } else {
        None
    };
    connection.close().await.map_err(unopened)?;
    if !(0..=known()).contains(&found) {
        return Err(StoreError::Schema {
            path: path.into(),
            found,
            known: known(),
            writer,
            backup: backups::newest(path, known()),
        });
    }
    if (1..known()).contains(&found) {
        return backups::make(path, found).await.map(Some);
    }
    Ok(None)
}

/// Brings the schema up to date: wholly, or not at all.
pub(super) async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let found = schema(&mut transaction).await?;
    // One that another process has taken further meanwhile was not refused: nothing is done to it.
    let done = usize::try_from(found).unwrap_or(MIGRATIONS.len());
    if done >= MIGRATIONS.len() {
        return transaction.rollback().await;
    }
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
        if at == BEFORE_CHAINS {
            audit::chain_earlier(&mut transaction).await?;
        }
        if at + 1 >= WITH_WRITERS {
            sqlx::query("INSERT INTO written_by (schema, version, time) VALUES (?, ?, ?)")
                .bind(i64::try_from(at + 1).unwrap_or(i64::MAX))
                .bind(VERSION)
                .bind(chrono::Utc::now().to_rfc3339())
                .execute(&mut *transaction)
                .await?;
        }
    }
    // The pragma takes no parameter; the number is ours.
    let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", known()));
    sqlx::raw_sql(version).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// The schema of an open file.
pub(crate) async fn schema(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(connection)
        .await
}

/// The version that took an open file to its schema, where it is written there.
async fn writer(connection: &mut SqliteConnection) -> Option<String> {
    let version: Result<String, _> =
        sqlx::query_scalar("SELECT version FROM written_by ORDER BY schema DESC LIMIT 1")
            .fetch_one(connection)
            .await;
    // It is printed: what somebody has put there is no text of a terminal's.
    let is_plain = |text: &String| text.len() <= 64 && !text.chars().any(char::is_control);
    version.ok().filter(is_plain)
}

#[cfg(test)]
mod tests;
