//! The daemon's own state: `pinfold.db`, SQLite in WAL mode. No plugin's statement reaches it.

pub(crate) mod audit;
mod obstacle;
mod plugins;
pub(crate) mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub(crate) use obstacle::Obstacle;

/// Why the daemon's state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A file of a later version.
    #[error("{path} has schema {found}, this version knows up to {known}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest one known.
        known: i64,
    },
    /// A statement failed.
    #[error("{operation} in pinfold.db")]
    Statement {
        /// What was attempted.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// What an operator can take away, where that is why.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Open { source, .. } | Self::Statement { source, .. } => Obstacle::of(source),
            Self::Schema { .. } => None,
        }
    }
}

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
];

/// An open store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the file, makes it where it is absent, and brings its schema up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true);
        let failed = |source| StoreError::Open {
            path: path.into(),
            source,
        };
        let pool = SqlitePoolOptions::new()
            // One writer, and a reader that does not wait for it.
            .max_connections(2)
            .connect_with(options)
            .await
            .map_err(failed)?;
        let found: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&pool)
            .await
            .map_err(failed)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let done = usize::try_from(found)
            .ok()
            .filter(|done| *done <= MIGRATIONS.len());
        let Some(done) = done else {
            return Err(StoreError::Schema {
                path: path.into(),
                found,
                known,
            });
        };
        for (at, migration) in MIGRATIONS.iter().enumerate().skip(done) {
            let mut transaction = pool.begin().await.map_err(failed)?;
            sqlx::raw_sql(*migration)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            // The pragma takes no parameter; the number is ours.
            let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", at + 1));
            sqlx::raw_sql(version)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
        Ok(Self { pool })
    }

    /// Writes back and closes.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Names the operation of a failed statement.
fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { operation, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_opens_again_and_one_of_a_later_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        Store::open(&path).await.unwrap().close().await;
        let store = Store::open(&path).await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 99")
            .execute(&store.pool)
            .await
            .unwrap();
        store.close().await;
        let error = Store::open(&path).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Schema { found: 99, .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        let error = Store::open(&path).await.unwrap_err();
        assert!(error.to_string().contains("pinfold.db"), "{error}");
    }
}
