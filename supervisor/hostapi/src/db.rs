//! The database service: named databases of the application that Pinfold serves.
//!
//! A statement passes two lines. The first is ours: it is parsed, every table found and compared
//! with the grants. The second is the database's own: queries run on connections that cannot write.
//!
//! One engine is here, SQLite. Another is a variant of [`Engine`] with its [`Dialect`].

mod known;
mod open;
mod sql;
mod sqlite;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pinfold_policy::PluginId;
use serde_json::Value;

pub(crate) use known::KnownStatements;
pub use open::{DatabaseConfig, OpenDatabaseError, OpenFailure};
pub use sql::{
    Classified, Dialect, NEEDLE_LIMIT_BYTES, PARAMETER_LIMIT, RowChanges, SQL_LIMIT_BYTES,
    StatementError, StatementKind, classify, fuzz_classify,
};

use crate::error::Fault;
use crate::log::json_bytes;
use crate::{Caller, HostError, HostReply, authorize};

/// The database that is meant where a call names none.
pub(crate) const DEFAULT_DATABASE: &str = "main";

/// Most rows of a result; a query that has more fails, for a plugin could not tell a cut result
/// from a whole one.
pub const ROW_LIMIT: usize = 10_000;

/// Most bytes of a result's JSON text.
pub const RESULT_LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of a call's parameters.
pub const PARAMETERS_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// Longest time that one statement may take, waiting for its turn included, whatever the call's
/// own deadline.
pub const STATEMENT_TIME_LIMIT: Duration = Duration::from_secs(10);

/// The databases that plugins may be granted, by name.
#[derive(Debug, Default)]
pub struct Databases {
    by_name: BTreeMap<String, Engine>,
}

/// One open database.
#[derive(Debug)]
enum Engine {
    Sqlite(sqlite::SqliteDatabase),
}

/// A statement as a plugin passes it.
pub(crate) struct Statement {
    /// Whether it was passed for execution, not as a query.
    pub(crate) writes: bool,
    pub(crate) database: Option<String>,
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Value>,
}

/// A statement that may be run.
struct Approved<'a> {
    plugin: &'a PluginId,
    classified: &'a Classified,
    /// One statement, without a semicolon at its end.
    sql: &'a str,
    parameters: Vec<Value>,
    deadline: Instant,
}

/// Why an engine did not carry a statement out.
#[derive(Debug)]
enum RunError {
    /// As the plugin shall see it, without the prefix of its method.
    Database(DatabaseError),
    /// Something that is not the database's.
    Host(HostError),
}

impl Engine {
    fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    async fn query(&self, approved: Approved<'_>) -> Result<Bytes, RunError> {
        match self {
            Self::Sqlite(database) => database.query(approved).await,
        }
    }

    async fn exec(&self, approved: Approved<'_>) -> Result<u64, RunError> {
        match self {
            Self::Sqlite(database) => database.exec(approved).await,
        }
    }

    /// The tables beside `table` that a write to it changes through foreign keys.
    async fn reached(
        &self,
        plugin: &PluginId,
        table: &str,
        changes: RowChanges,
        deadline: Instant,
    ) -> Result<BTreeSet<String>, RunError> {
        match self {
            Self::Sqlite(database) => database.reached(plugin, table, changes, deadline).await,
        }
    }

    /// The table, in lower case, that an index belongs to.
    async fn table_of_index(
        &self,
        plugin: &PluginId,
        index: &str,
        deadline: Instant,
    ) -> Result<Option<String>, RunError> {
        match self {
            Self::Sqlite(database) => database.table_of_index(plugin, index, deadline).await,
        }
    }
}

impl Databases {
    /// Names of the databases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Ends every connection; a statement that still runs is interrupted. Calls after that fail.
    pub async fn close(&self) {
        for engine in self.by_name.values() {
            match engine {
                Engine::Sqlite(database) => database.close().await,
            }
        }
    }

    pub(crate) fn forget(&self, plugin: &PluginId) {
        for engine in self.by_name.values() {
            match engine {
                Engine::Sqlite(database) => database.forget(plugin),
            }
        }
    }

    /// Classifies, authorises and runs one statement. `subject` becomes what it is about as soon as
    /// that is known.
    pub(crate) async fn run(
        &self,
        caller: &Caller,
        statement: Statement,
        deadline: Instant,
        subject: &mut String,
    ) -> Result<HostReply, HostError> {
        let Statement {
            writes,
            database,
            sql: text,
            parameters,
        } = statement;
        let name = authorize::database_name(database.as_deref());
        subject.push_str(name);
        if self.by_name.is_empty() {
            return Err(HostError::NoDatabases);
        }
        let unknown = || HostError::UnknownDatabase { name: name.into() };
        let engine = self.by_name.get(name).ok_or_else(unknown)?;
        check_sizes(&text, &parameters)?;

        let known = &caller.allowance.statements;
        let understood = known.understand(&text, engine.dialect())?;
        let mut classified = Cow::Borrowed(&understood.classified);
        StatementError::of_kind(writes, classified.kind)?;
        let method = if writes { "exec" } else { "query" };
        let failed = |error| match error {
            RunError::Database(source) => HostError::Database { method, source },
            RunError::Host(error) => error,
        };
        if let Some(index) = classified.dropped_index.clone() {
            // Whether that index is there is told only to one that may change some schema.
            caller.permissions.ddl(name, [])?;
            let found = engine
                .table_of_index(&caller.plugin, &index, deadline)
                .await;
            let table = found
                .map_err(failed)?
                .ok_or(StatementError::UnknownIndex { index })?;
            classified.to_mut().schema.insert(table);
        }
        *subject = describe(name, &classified);
        authorize::statement(&caller.permissions, name, &classified)?;
        if writes {
            let written = classified.writes.iter().chain(&classified.schema);
            let mut reached = BTreeSet::new();
            for table in written {
                let found = engine.reached(&caller.plugin, table, classified.changes, deadline);
                reached.extend(found.await.map_err(failed)?);
            }
            if !reached.is_empty() {
                classified.to_mut().writes.extend(reached);
                *subject = describe(name, &classified);
                authorize::statement(&caller.permissions, name, &classified)?;
            }
        }
        if parameters.len() != classified.placeholders {
            return Err(HostError::ParameterCount {
                expected: classified.placeholders,
                given: parameters.len(),
            });
        }

        check_needles(&classified, &parameters)?;

        let plugin = &caller.plugin;
        let approved = Approved {
            plugin,
            classified: &classified,
            sql: text.get(..understood.end).unwrap_or(&text),
            parameters,
            deadline,
        };
        if writes {
            engine
                .exec(approved)
                .await
                .map(HostReply::Affected)
                .map_err(failed)
        } else {
            engine
                .query(approved)
                .await
                .map(HostReply::Rows)
                .map_err(failed)
        }
    }
}

fn check_sizes(sql: &str, parameters: &[Value]) -> Result<(), HostError> {
    if sql.len() > SQL_LIMIT_BYTES {
        return Err(HostError::TooLarge {
            what: "statement",
            limit_bytes: SQL_LIMIT_BYTES,
        });
    }
    if parameters.len() > PARAMETER_LIMIT {
        return Err(StatementError::TooManyPlaceholders.into());
    }
    let bytes: usize = parameters.iter().map(bytes_of).sum();
    if bytes > PARAMETERS_LIMIT_BYTES {
        let limit_bytes = PARAMETERS_LIMIT_BYTES;
        return Err(HostError::TooLarge {
            what: "the parameters together",
            limit_bytes,
        });
    }
    Ok(())
}

/// What is searched for must be short, as [`NEEDLE_LIMIT_BYTES`] says.
fn check_needles(classified: &Classified, parameters: &[Value]) -> Result<(), HostError> {
    let mut needles = classified
        .needles
        .iter()
        .filter_map(|at| parameters.get(*at));
    if needles.any(|needle| bytes_of(needle) > NEEDLE_LIMIT_BYTES) {
        return Err(HostError::TooLarge {
            what: "a parameter that is searched for",
            limit_bytes: NEEDLE_LIMIT_BYTES,
        });
    }
    Ok(())
}

/// What a parameter takes: a nested value its JSON text, as which it is bound, or its place in
/// memory, whichever is more. Empty lists and texts take next to nothing of the first and much of
/// the second.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(_) | Value::Object(_) => json_bytes(value).max(held_bytes(value)),
    }
}

/// Bytes of memory that a value takes, roughly.
fn held_bytes(value: &Value) -> usize {
    let own = size_of::<Value>();
    own + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(held_bytes).sum(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| own + name.len() + held_bytes(value);
            fields.iter().map(field).sum()
        }
    }
}

/// The subject of a statement's record.
fn describe(database: &str, classified: &Classified) -> String {
    let Classified {
        reads,
        writes,
        followed,
        schema,
        ..
    } = classified;
    let mut text = String::with_capacity(64);
    for (tables, suffix) in [
        (schema, "ddl"),
        (writes, "w"),
        // Write access is needed to these too.
        (followed, "w"),
        (reads, "r"),
    ] {
        for table in tables {
            let space = if text.is_empty() { "" } else { " " };
            for part in [space, database, "/", table, ":", suffix] {
                text.push_str(part);
            }
        }
    }
    if text.is_empty() {
        text.push_str(database);
    }
    text
}

/// Why a database did not carry a statement out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Another connection, perhaps another program's, holds the lock.
    #[error("database is locked")]
    Locked,
    /// Too many of the plugin's own statements are waiting.
    #[error("too many statements are waiting")]
    QueueFull,
    /// The database has reached its largest size, or the disk is full.
    #[error("database or disk is full")]
    Full,
    /// The operator has configured the database for reading only.
    #[error("database is read-only")]
    ReadOnly,
    /// A constraint of the schema.
    #[error("{message}")]
    Constraint {
        /// The database's own words.
        message: String,
    },
    /// The statement is wrong: no such column, wrong type.
    #[error("{message}")]
    Rejected {
        /// The database's own words.
        message: String,
    },
    /// A value that is larger than the engine takes, or a row larger than a whole result may be.
    #[error("a value or a row is too big")]
    TooBig,
    /// The engine has as much memory as it may take, for this statement or with others that run meanwhile.
    #[error("database is out of memory: the statement, or others that run now, ask for too much")]
    Memory,
    /// The database cannot be used: a damaged file, a failing disk, a closed connection. The cause
    /// is for the operator, who finds it in the log.
    #[error("database is not available")]
    Unavailable,
}

impl DatabaseError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Locked => "hostapi.db.locked",
            Self::QueueFull => "hostapi.db.queue-full",
            Self::Full => "hostapi.db.full",
            Self::ReadOnly => "hostapi.db.read-only",
            Self::Constraint { .. } => "hostapi.db.constraint",
            Self::Rejected { .. } => "hostapi.db.rejected",
            Self::TooBig => "hostapi.db.too-big",
            Self::Memory => "hostapi.db.memory",
            Self::Unavailable => "hostapi.db.unavailable",
        }
    }

    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::QueueFull | Self::Constraint { .. } | Self::Rejected { .. } | Self::TooBig => {
                Fault::Plugin
            }
            Self::ReadOnly | Self::Full => Fault::Operator,
            Self::Locked | Self::Memory | Self::Unavailable => Fault::Upstream,
        }
    }
}
