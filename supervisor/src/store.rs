//! The daemon's own state: `pinfold.db`, SQLite in WAL mode. No plugin's statement reaches it.

pub(crate) mod audit;
mod obstacle;
mod plugins;
pub(crate) mod tokens;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::Semaphore;

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
    /// A file of an earlier version, whose audit trail is not chained yet.
    #[error("{path} is of a version that did not chain the audit trail")]
    Earlier {
        /// The file.
        path: PathBuf,
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
            Self::Schema { .. } | Self::Earlier { .. } => None,
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
];

/// How many steps there were before records were chained.
const BEFORE_CHAINS: usize = 3;

/// An open store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
    /// Whose turn it is to write.
    turns: Arc<Semaphore>,
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
            // One writer, in its turn, and a reader that does not wait for it.
            .max_connections(2)
            .after_release(|connection, _| Box::pin(is_at_rest(connection)))
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
            if at == BEFORE_CHAINS {
                audit::chain_earlier(&mut transaction)
                    .await
                    .map_err(failed)?;
            }
            // The pragma takes no parameter; the number is ours.
            let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", at + 1));
            sqlx::raw_sql(version)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
        let turns = Arc::new(Semaphore::new(1));
        Ok(Self { pool, turns })
    }

    /// Writes back and closes.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Whether a connection can be used again: not where it believes itself in a transaction.
///
/// A statement or a commit that finds the disk full, or cannot write, ends its transaction
/// (<https://sqlite.org/lang_transaction.html>, "Response To Errors Within A Transaction"). The
/// rollback that follows then fails, sqlx goes on counting a transaction that is no more, and makes
/// of the next ones savepoints: of which one that is given up leaves a transaction open that nobody
/// commits, and everything that is told to be committed after it would be lost with it.
async fn is_at_rest(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // What was asked of it before, its rollback too, comes before the answer.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
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

    /// Sets how many pages of the file there may be, on all connections that are open.
    async fn limit_pages(store: &Store, pages: i64) {
        let mut first = store.pool.acquire().await.unwrap();
        let mut second = store.pool.acquire().await.unwrap();
        for connection in [&mut first, &mut second] {
            let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
            sqlx::raw_sql(sql).execute(&mut **connection).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_committed_after_a_full_disk_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        let store = Store::open(&path).await.unwrap();
        let wanted = |name: &str| pinfold_gateway::admin::dto::NewToken {
            name: name.into(),
            user: "ann".into(),
            roles: vec![],
            expires: None,
        };
        let create = async |name: &str| store.create_token(wanted(name), "uid:0".into()).await;
        create("before").await.unwrap();
        let mut names = (0..).map(|number| format!("u{number}"));
        // What finds it full, and what is refused for another reason, in whatever order they meet
        // the connections.
        for _ in 0..4 {
            limit_pages(&store, 1).await; // as many as there are
            while create(&names.next().unwrap()).await.is_ok() {}
            let taken = create("before").await.unwrap_err();
            assert!(
                matches!(taken, tokens::CreateTokenError::Taken { .. }),
                "{taken:?}"
            );
        }
        limit_pages(&store, 100_000).await;
        for number in 0..4 {
            create(&format!("after{number}")).await.unwrap();
        }
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        let kept = store.tokens().await.unwrap();
        for number in 0..4 {
            let name = format!("after{number}");
            assert!(
                kept.iter().any(|token| token.name == name),
                "{name} is lost"
            );
        }
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
