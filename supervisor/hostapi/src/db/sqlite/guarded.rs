//! A query with a guard around it, for what the driver does with rows.
//!
//! The driver copies every value of a row before we see the first, and gives up the whole process
//! when memory is short. It counts the columns once and relies on that count at each row, while
//! SQLite silently prepares a statement anew when the schema has changed. So a plugin's query runs
//! within one of ours that names the columns, and is therefore refused when there are suddenly
//! more or fewer, and that fails at a row of too many bytes instead of giving it out.
//!
//! What a query's columns are is learnt once for each connection. Where they depend on the schema
//! (`*`) the query of ours also tells, with its rows, of which version they are.
//!
//! SQLite would make ours anew for each query that a plugin's one is united of, with all of these in it. A
//! `LIMIT` that ends nothing keeps it from that.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Column, Executor, SqlSafeStr, Statement};

use super::super::RESULT_LIMIT_BYTES;
use super::lanes::Lane;
use super::rows::{self, Heads, Rows};
use super::{Failure, KEPT_LIMIT_BYTES, STATEMENTS_KEPT};
use crate::recent::{Bound, Recent};

/// Shapes kept for one connection: of as many queries as it keeps prepared.
const SHAPES_KEPT: Bound = Bound {
    count: STATEMENTS_KEPT,
    bytes: 64 * 1024,
    longest: KEPT_LIMIT_BYTES,
};

/// What one connection has learnt of its recent queries, by their texts.
#[derive(Debug)]
pub(super) struct Shapes(Recent<Arc<Shape>>);

impl Default for Shapes {
    fn default() -> Self {
        Self(Recent::new(SHAPES_KEPT))
    }
}

/// What is known of a query.
#[derive(Debug)]
struct Shape {
    heads: Heads,
    /// Ours, with the plugin's in it.
    guarded: Arc<str>,
    /// Whether it says itself when it is no longer right.
    lasts: bool,
}

/// What is known of a query from its text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// Its columns depend on the schema.
    pub(super) wildcard: bool,
    /// It is several, united.
    pub(super) united: bool,
}

/// Runs `sql`, one query without a semicolon.
pub(super) async fn query(
    lane: &mut Lane,
    sql: &str,
    traits: Traits,
    arguments: SqliteArguments,
) -> Result<Bytes, Failure> {
    if let Some(rows) = once(lane, sql, traits, arguments.clone()).await? {
        return Ok(rows);
    }
    // Once more, with a schema that stands still: within a transaction that has begun to read it
    // does.
    lane.shapes.0.forget(sql);
    lane.connection.execute(sqlx::raw_sql("BEGIN")).await?;
    let result = once(lane, sql, traits, arguments).await;
    lane.connection
        .execute(sqlx::raw_sql("ROLLBACK"))
        .await
        .map_err(Failure::Broken)?;
    result?.ok_or_else(|| {
        let why = "columns of a query changed within a transaction";
        Failure::Broken(sqlx::Error::Protocol(why.into()))
    })
}

/// `None` where the query no longer has the columns that were learnt.
async fn once(
    lane: &mut Lane,
    sql: &str,
    traits: Traits,
    arguments: SqliteArguments,
) -> Result<Option<Bytes>, Failure> {
    let shape = match lane.shapes.0.find(sql) {
        Some(shape) => Arc::clone(shape),
        None => {
            let shape = Arc::new(learn(&mut lane.connection, sql, traits).await?);
            if shape.lasts {
                lane.shapes.0.keep(sql, Arc::clone(&shape));
            }
            shape
        }
    };
    let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&shape.guarded)), arguments);
    match rows::encode(&shape.heads, lane.connection.fetch_many(query)).await {
        Ok(Rows::All(json)) => Ok(Some(json)),
        Ok(Rows::OfAnotherSchema) => Ok(None),
        Err(Failure::Engine(error)) if is_mismatch(&error) => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn learn(
    connection: &mut SqliteConnection,
    sql: &str,
    traits: Traits,
) -> Result<Shape, Failure> {
    let Traits { wildcard, united } = traits;
    // What the driver once learnt about a text it keeps: a text whose columns depend on the schema
    // is made another by the schema's version.
    let version = match wildcard {
        true => Some(schema_version(connection).await?),
        false => None,
    };
    let sql = match version {
        Some(version) => format!("/* {version} */ {sql}"),
        None => sql.to_owned(),
    };
    let prepared = connection
        .prepare(AssertSqlSafe(sql.clone()).into_sql_str())
        .await?;
    let names: Vec<&str> = prepared.columns().iter().map(Column::name).collect();
    let told = version.filter(|_| names.len() < COLUMN_LIMIT);
    let inner = if united {
        format!("SELECT * FROM (\n{sql}\n) LIMIT -1")
    } else {
        sql
    };
    Ok(Shape {
        guarded: guard(&inner, names.len(), told.is_some()).into(),
        heads: Heads::new(&names, told),
        lasts: told.is_some() || !wildcard,
    })
}

/// The schema's version, as of a moment at which the connection itself knows that schema: reading
/// the pragma alone would leave it with an older one in its memory.
pub(super) async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    const SQL: &str = "SELECT v.schema_version FROM pragma_schema_version AS v \
                       LEFT JOIN (SELECT 1 FROM main.sqlite_schema LIMIT 1)";
    sqlx::query_scalar(SQL).fetch_one(connection).await
}

/// Most columns of a result, SQLite's `SQLITE_MAX_COLUMN`: a query that has as many has no room for
/// one of ours.
const COLUMN_LIMIT: usize = 2_000;

/// Name of the plugin's query within ours. A table of this name could not be queried.
const NAME: &str = "\"pinfold's guarded query\"";

/// A last column for the version of the schema that the rows are read with: within one statement,
/// which is one transaction, it is that of all.
const VERSION: &str = ",(SELECT schema_version FROM pragma_schema_version)";

/// `sql`, failing with SQLITE_TOOBIG at a row of more than [`RESULT_LIMIT_BYTES`]. The order of rows
/// is the inner query's: SQLite keeps it where the outer one has neither order nor join.
fn guard(sql: &str, columns: usize, versioned: bool) -> String {
    let names: Vec<String> = (0..columns).map(|n| format!("c{n}")).collect();
    let list = names.join(",");
    let version = if versioned { VERSION } else { "" };
    let sizes: Vec<String> = names
        .iter()
        .map(|c| format!("ifnull(octet_length({c}),0)"))
        .collect();
    let total = sum(&sizes);
    // The function is called with what depends on the row, or it would be called once, before.
    format!(
        "WITH {NAME}({list}) AS (\n{sql}\n) SELECT {list}{version} FROM {NAME} WHERE zeroblob(CASE \
         WHEN {total} > {RESULT_LIMIT_BYTES} THEN 9223372036854775807 ELSE 0 END) IS NOT NULL"
    )
}

/// The sum of terms as a balanced tree: SQLite's expressions may not be deep.
fn sum(terms: &[String]) -> String {
    match terms {
        [] => "0".into(),
        [one] => one.clone(),
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            format!("({}+{})", sum(left), sum(right))
        }
    }
}

/// Whether the plugin's query no longer has the columns that it had when they were counted.
fn is_mismatch(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error
            .message()
            .starts_with("table pinfold's guarded query has ")
    })
}
