//! The daemon's own state: `pinfold.db`, SQLite in WAL mode. No plugin's statement reaches it.

pub(crate) mod audit;
pub(crate) mod migrate;
mod obstacle;
mod plugins;
pub(crate) mod tokens;
mod write;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::Semaphore;

pub(crate) use obstacle::Obstacle;
pub(crate) use plugins::KeptRoutes;

use audit::afterwards::WrittenDown;

use crate::shell::shell_word;

/// What to do about a database that is a link, which root does not open.
const LINK_HINT: &str = "look who made the link, for the daemon makes none; where you did, name the file itself in \
                         pinfold.toml, or bind-mount it there";

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
    #[error(
        "{path} is of {}, schema {found}; this is version {own}, which knows schemas up to {known}",
        .writer.as_ref().map_or_else(|| "a later version".into(), |version| format!("version {version}")),
        own = env!("CARGO_PKG_VERSION"),
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest one known.
        known: i64,
        /// The version that wrote it, where it says so.
        writer: Option<String>,
        /// The newest copy of a schema that is known, made before the later version changed it.
        backup: Option<PathBuf>,
    },
    /// No copy was made, and nothing was changed.
    #[error("copy {path} to {to}")]
    Copy {
        /// The file.
        path: PathBuf,
        /// The copy.
        to: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
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
        self.refusal().and_then(Obstacle::of)
    }

    /// What SQLite said, or what stands before it.
    fn refusal(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Open { source, .. }
            | Self::Copy { source, .. }
            | Self::Statement { source, .. } => Some(source),
            Self::Schema { .. } | Self::Earlier { .. } => None,
        }
    }

    /// What an operator can do, where there is something.
    pub(crate) fn hint(&self) -> Option<String> {
        let Self::Schema {
            path,
            writer,
            backup,
            ..
        } = self
        else {
            let hint = match self.refusal().is_some_and(migrate::is_link) {
                true => Some(LINK_HINT),
                false => self.obstacle().map(Obstacle::hint),
            };
            return hint.map(str::to_owned);
        };
        let version = writer.as_deref().unwrap_or("that wrote it");
        let again = format!("nothing was changed: install the version {version} again");
        Some(match backup {
            Some(backup) => format!(
                "{again}; or go back to before it, without what was recorded since: take {path}, \
                 {path}-wal and {path}-shm away, and copy {backup} to {path}, as the daemon's user",
                path = shell_word(path),
                backup = shell_word(backup),
            ),
            None => format!("{again}, or restore a backup of this one (`pinfold restore`)"),
        })
    }
}

/// An open store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
    /// Whose turn it is to write.
    turns: Arc<Semaphore>,
    written_down: WrittenDown,
}

impl Store {
    /// Opens the file, makes it where it is absent, and brings its schema up to date: one of an
    /// earlier version is copied aside first, one of a later version is refused.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let backup = migrate::prepare(path).await?;
        make_private(path);
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
        migrate::migrate(&pool).await.map_err(failed)?;
        if let Some(backup) = backup {
            tracing::info!(
                schema = migrate::known(),
                backup = %backup.display(),
                "database brought to this version's schema"
            );
        }
        let turns = Arc::new(Semaphore::new(1));
        Ok(Self {
            pool,
            turns,
            written_down: WrittenDown::default(),
        })
    }

    /// Writes back and closes.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes a file that is not there the daemon's alone, whatever its umask: SQLite gives the files beside it the same
/// mode. Where it cannot be made, SQLite says why.
fn make_private(path: &Path) {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    drop(made);
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
    async fn a_new_file_and_those_beside_it_are_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db")).await;
        let store = store.unwrap();
        let mut modes = Vec::new();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                modes.push((
                    file.file_name(),
                    file.metadata().unwrap().permissions().mode() & 0o777,
                ));
            }
        }
        store.close().await;
        assert!(modes.len() >= 2, "{modes:?}");
        assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
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
