//! SQLite: one file, a few connections that cannot write, and one that can.

mod bind;
mod guarded;
mod lanes;
mod reach;
mod rows;
mod stop;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use pinfold_policy::{ByteSize, PluginId};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{AssertSqlSafe, Either, Executor, Row};

use self::lanes::{Lane, Lanes};
use self::reach::KnownKeys;
use super::sql::{Classified, RowChanges};
use super::{Approved, DatabaseError, RunError, StatementKind};
use crate::HostError;

/// Connections for queries: one more than two plugins can take that query without end.
const READERS: usize = 5;

/// Queries of one plugin that run at once.
const READERS_PER_PLUGIN: usize = 2;

/// How long a connection waits for another's lock before the call fails. Within it most writers
/// are done; past it a plugin's own retry is better than a thread that waits.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// How long past its deadline a statement may take to notice: the engine looks at the clock
/// between its instructions, and waits for locks within one.
const GRACE: Duration = Duration::from_millis(750);

/// Rows that may wait between the engine's thread and the encoder. Each may be as large as a
/// whole result.
const ROWS_IN_FLIGHT: usize = 8;

/// Most bytes that a query may write: it writes nothing but temporary files, when it sorts what
/// does not fit into memory. Sorts of a few million rows stay below it.
const QUERY_WRITE_LIMIT_BYTES: u64 = 128 * 1024 * 1024;
/// The same for a statement that changes rows or the schema, with what it writes to the database
/// and its log.
const WRITE_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;
/// Most memory that SQLite takes in this process: some times what all connections need with results of the
/// largest size. What one statement takes is bounded before it runs, but by its text, and SQLite knows no bound
/// for a single one.
const HEAP_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;

/// Longest schema that a plugin may add to, as text. Each connection has all of it in memory, as up to some sixty times
/// its length, and reads it whole when it has changed.
const SCHEMA_LIMIT_BYTES: usize = 1024 * 1024;

/// Prepared statements kept for each connection: a query takes two.
const STATEMENTS_KEPT: usize = 128;

/// Longest statement that is kept prepared. One takes up to some hundred times its length, and
/// plugins could fill the connections with long ones that never come again.
const KEPT_LIMIT_BYTES: usize = 2 * 1024;

/// Most expressions of a statement that is kept prepared, once names are replaced by what they stand for: about as many
/// as one of the longest has that are kept and replace none.
const KEPT_LIMIT_EXPANDED: u64 = 2_000;

/// What a database is opened with.
#[derive(Debug)]
pub(super) struct Settings {
    /// Resolved path.
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
    /// Make the file, which is not there.
    pub(super) create: bool,
    pub(super) max_size: ByteSize,
    /// Longest time for one write, from when it has its turn.
    pub(super) write_time: Duration,
}

/// An open SQLite database.
#[derive(Debug)]
pub(super) struct SqliteDatabase {
    readers: Lanes,
    writer: Option<Lanes>,
    write_time: Duration,
    keys: KnownKeys,
}

impl SqliteDatabase {
    pub(super) async fn open(settings: Settings) -> Result<Self, sqlx::Error> {
        if settings.create {
            let options = SqliteConnectOptions::new()
                .filename(&settings.path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal);
            sqlx::Connection::close(options.connect().await?).await?;
        }
        let common = SqliteConnectOptions::new()
            .filename(&settings.path)
            .busy_timeout(LOCK_WAIT)
            .statement_cache_capacity(STATEMENTS_KEPT)
            .row_buffer_size(ROWS_IN_FLIGHT)
            // What a schema contains was perhaps written by someone else: its views and triggers
            // may call no function and use no virtual table that could do harm.
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            .pragma("hard_heap_limit", HEAP_LIMIT_BYTES.to_string())
            // Statements may hold what is nobody's business.
            .disable_statement_logging();
        let reading = common.clone().read_only(true).pragma("query_only", "ON");
        let readers = Lanes::open(
            reading,
            READERS,
            READERS_PER_PLUGIN,
            QUERY_WRITE_LIMIT_BYTES,
        )
        .await?;
        let writer = if settings.read_only {
            None
        } else {
            let page_bytes = inspect(&common).await?;
            let pages = (settings.max_size.0 / page_bytes).clamp(1, u64::from(u32::MAX) - 1);
            let writing = common.pragma("max_page_count", pages.to_string());
            Some(Lanes::open(writing, 1, 1, WRITE_LIMIT_BYTES).await?)
        };
        Ok(Self {
            readers,
            writer,
            write_time: settings.write_time,
            keys: KnownKeys::default(),
        })
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }

    pub(super) fn forget(&self, plugin: &PluginId) {
        self.readers.forget(plugin);
        if let Some(writer) = &self.writer {
            writer.forget(plugin);
        }
    }

    pub(super) async fn query(&self, approved: Approved<'_>) -> Result<Bytes, RunError> {
        let Approved {
            plugin,
            classified,
            sql,
            parameters,
            deadline,
        } = approved;
        let arguments = bind::arguments(parameters)?;
        let traits = guarded::Traits {
            wildcard: classified.wildcard,
            united: classified.is_united,
        };
        let kept = is_kept(sql, classified);
        let until = Until::deadline(deadline);
        run(&self.readers, plugin, until, kept, async move |lane| {
            guarded::query(lane, sql, traits, arguments).await
        })
        .await
    }

    pub(super) async fn exec(&self, approved: Approved<'_>) -> Result<u64, RunError> {
        let Approved {
            plugin,
            classified,
            sql,
            parameters,
            deadline,
        } = approved;
        let writer = self
            .writer
            .as_ref()
            .ok_or(RunError::Database(DatabaseError::ReadOnly))?;
        let arguments = bind::arguments(parameters)?;
        let changes_rows = classified.kind == StatementKind::Write;
        let kept = is_kept(sql, classified);
        let until = Until {
            deadline,
            longest: Some(self.write_time),
        };
        let drops = classified.changes.removed || classified.dropped_index.is_some();
        let adds = !changes_rows && !drops;
        run(writer, plugin, until, kept, async move |lane| {
            if adds {
                check_schema(&mut lane.connection).await?;
            }
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
            let mut results = lane.connection.fetch_many(query);
            // Rows it has none; when its count is there it is committed.
            while let Some(result) = results.try_next().await? {
                if let Either::Left(done) = result {
                    // For a change of schema SQLite repeats the count of the statement before.
                    return Ok(if changes_rows {
                        done.rows_affected()
                    } else {
                        0
                    });
                }
            }
            Ok(0)
        })
        .await
    }

    /// The tables beside `table` that a write to it changes through foreign keys.
    pub(super) async fn reached(
        &self,
        plugin: &PluginId,
        table: &str,
        changes: RowChanges,
        deadline: Instant,
    ) -> Result<BTreeSet<String>, RunError> {
        let until = Until::deadline(deadline);
        let keys = run(&self.readers, plugin, until, true, async |lane| {
            self.keys.current(&mut lane.connection).await
        });
        keys.await?.reached(table, changes).ok_or_else(|| {
            let message = format!(
                "foreign keys carry a change of {table} on more than {} times",
                reach::CARRIED_LIMIT
            );
            RunError::Database(DatabaseError::Rejected { message })
        })
    }

    pub(super) async fn table_of_index(
        &self,
        plugin: &PluginId,
        index: &str,
        deadline: Instant,
    ) -> Result<Option<String>, RunError> {
        const SQL: &str = "SELECT lower(tbl_name) FROM main.sqlite_schema \
                           WHERE type = 'index' AND lower(name) = ?";
        let index = index.to_owned();
        let until = Until::deadline(deadline);
        run(&self.readers, plugin, until, true, async move |lane| {
            let query = sqlx::query_scalar(SQL).bind(index);
            Ok(query.fetch_optional(&mut lane.connection).await?)
        })
        .await
    }
}

/// Largest value that the engine is meant to be built for: what is larger could not be given back.
const VALUE_LIMIT_BYTES: u32 = 8 * 1024 * 1024;

/// Bytes of a page, for the largest size is set in pages. Warns where the engine is built with its
/// ordinary limit on values, a gigabyte: then one statement can take a few of them.
async fn inspect(options: &SqliteConnectOptions) -> Result<u64, sqlx::Error> {
    let mut connection = options.clone().connect().await?;
    let row = sqlx::query("PRAGMA page_size")
        .fetch_one(&mut connection)
        .await?;
    let bytes: i64 = row.try_get(0)?;
    let large = sqlx::query("SELECT length(zeroblob(?))").bind(i64::from(VALUE_LIMIT_BYTES) + 1);
    if large.fetch_one(&mut connection).await.is_ok() {
        tracing::warn!(
            database = %options.get_filename().display(),
            limit_bytes = VALUE_LIMIT_BYTES,
            "sqlite is built without a limit on the size of values"
        );
    }
    sqlx::Connection::close(connection).await?;
    Ok(u64::try_from(bytes).unwrap_or(4096).max(512))
}

/// When a statement is over.
#[derive(Clone, Copy)]
struct Until {
    /// Of its call, waiting for a turn included.
    deadline: Instant,
    /// Longest time from its turn on.
    longest: Option<Duration>,
}

impl Until {
    fn deadline(deadline: Instant) -> Self {
        Self {
            deadline,
            longest: None,
        }
    }
}

/// Runs `work` on a lane of `lanes`, as long as it may. `kept` says whether the lane may keep what
/// it has prepared for it.
async fn run<T>(
    lanes: &Lanes,
    plugin: &PluginId,
    until: Until,
    kept: bool,
    work: impl AsyncFnOnce(&mut Lane) -> Result<T, Failure>,
) -> Result<T, RunError> {
    let Until { deadline, longest } = until;
    let mut taken = lanes.take(plugin, deadline).await?;
    let deadline = longest
        .and_then(|longest| Instant::now().checked_add(longest))
        .map_or(deadline, |over| over.min(deadline));
    let lane = taken.lane();
    lane.stop.at(deadline);
    let outcome = within(deadline + GRACE, work(lane)).await;
    let expired = || RunError::Host(HostError::Deadline);
    match outcome {
        // Not to be interrupted: dropped, the lane goes out of use until its thread comes back.
        None => Err(expired()),
        Some(Ok(value)) => {
            give_back(taken, kept).await;
            Ok(value)
        }
        Some(Err(Failure::Limit(error))) => {
            // The engine may still be at work on rows that nobody wants.
            lane.stop.now();
            let idle = sqlx::Connection::ping(&mut lane.connection);
            if matches!(within(Instant::now() + GRACE, idle).await, Some(Ok(()))) {
                give_back(taken, kept).await;
            }
            Err(RunError::Host(error))
        }
        Some(Err(Failure::Engine(error))) => {
            let interrupted = primary_code(&error) == Some(INTERRUPT);
            let written_too_much = lane.stop.written_too_much();
            if matches!(error, sqlx::Error::Database(_)) {
                // Without memory it has better uses for what it keeps.
                let kept = kept && primary_code(&error) != Some(OUT_OF_MEMORY);
                give_back(taken, kept).await;
            }
            Err(match written_too_much {
                Some(limit) if interrupted => RunError::Host(HostError::TooLarge {
                    what: "what the statement writes to disk",
                    limit_bytes: usize::try_from(limit).unwrap_or(usize::MAX),
                }),
                _ if interrupted => expired(),
                _ => RunError::Database(explain(&error)),
            })
        }
        Some(Err(Failure::Broken(error))) => Err(RunError::Database(explain(&error))),
    }
}

/// Fails where the schema has no room for more.
async fn check_schema(connection: &mut SqliteConnection) -> Result<(), Failure> {
    const SQL: &str = "SELECT coalesce(sum(octet_length(sql)), 0) FROM main.sqlite_schema";
    let bytes: i64 = sqlx::query_scalar(SQL).fetch_one(connection).await?;
    if usize::try_from(bytes).is_ok_and(|bytes| bytes < SCHEMA_LIMIT_BYTES) {
        return Ok(());
    }
    Err(Failure::Limit(HostError::TooLarge {
        what: "the schema",
        limit_bytes: SCHEMA_LIMIT_BYTES,
    }))
}

/// Whether a connection may keep a statement prepared.
fn is_kept(sql: &str, classified: &Classified) -> bool {
    sql.len() <= KEPT_LIMIT_BYTES && classified.expanded <= KEPT_LIMIT_EXPANDED
}

/// Gives a lane back that is idle. One that cannot let its statements go is ended.
async fn give_back(mut taken: lanes::Taken<'_>, kept: bool) {
    if !kept {
        let clearing = sqlx::Connection::clear_cached_statements(&mut taken.lane().connection);
        if !matches!(within(Instant::now() + GRACE, clearing).await, Some(Ok(()))) {
            return;
        }
    }
    taken.give_back();
}

async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), work).await.ok()
}

/// Why work on a lane ended early.
#[derive(Debug)]
enum Failure {
    /// A limit of ours.
    Limit(HostError),
    /// The engine refused, and can go on with other work.
    Engine(sqlx::Error),
    /// The connection is not what it was: it is not used again.
    Broken(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Engine(error)
    }
}

const OUT_OF_MEMORY: u32 = 7;
const INTERRUPT: u32 = 9;

/// SQLite's primary result code, without the extension in the higher bits.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<u32>().ok()? & 0xff)
}

/// A driver error in the plugin's terms. Result codes: <https://sqlite.org/rescode.html>.
fn explain(error: &sqlx::Error) -> DatabaseError {
    let message = || {
        let text = error
            .as_database_error()
            .map_or("", |error| error.message());
        text.to_owned()
    };
    match primary_code(error) {
        Some(5 | 6) => DatabaseError::Locked,
        Some(OUT_OF_MEMORY) => DatabaseError::Memory,
        Some(8) => DatabaseError::ReadOnly,
        Some(13) => DatabaseError::Full,
        Some(18) => DatabaseError::TooBig,
        Some(19) => DatabaseError::Constraint { message: message() },
        Some(1 | 3 | 17 | 20 | 23 | 25) => DatabaseError::Rejected { message: message() },
        _ => {
            tracing::warn!(error = %error, "database cannot be used");
            DatabaseError::Unavailable
        }
    }
}

#[cfg(test)]
#[path = "sqlite/tests.rs"]
mod tests;
