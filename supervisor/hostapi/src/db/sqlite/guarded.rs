//! A query with a guard around it, for what the driver does with rows.
//!
//! The driver copies every value of a row before we see the first, and gives up the whole process
//! when memory is short. It counts the columns once and relies on that count at each row, while
//! SQLite silently prepares a statement anew when the schema has changed. So a plugin's query runs
//! within one of ours that names the columns, and is therefore refused when there are suddenly
//! more or fewer, and that fails at a row of too many bytes instead of giving it out.

use bytes::Bytes;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Column, Executor, SqlSafeStr, Statement};

use super::super::RESULT_LIMIT_BYTES;
use super::{Failure, rows};

/// Runs `sql`, one query without a semicolon. `wildcard` says that its columns depend on the
/// schema.
pub(super) async fn query(
    connection: &mut SqliteConnection,
    sql: &str,
    wildcard: bool,
    arguments: SqliteArguments,
) -> Result<Bytes, Failure> {
    match once(connection, sql, wildcard, arguments.clone()).await {
        Err(Failure::Engine(error)) if is_mismatch(&error) => {
            // Once more, with a schema that stands still: within a transaction that has begun to
            // read it does.
            connection.execute(sqlx::raw_sql("BEGIN")).await?;
            let result = once(connection, sql, wildcard, arguments).await;
            connection
                .execute(sqlx::raw_sql("ROLLBACK"))
                .await
                .map_err(Failure::Broken)?;
            result
        }
        other => other,
    }
}

async fn once(
    connection: &mut SqliteConnection,
    sql: &str,
    wildcard: bool,
    arguments: SqliteArguments,
) -> Result<Bytes, Failure> {
    // What the driver once learnt about a text it keeps: a text whose columns depend on the schema
    // is made another by the schema's version.
    let sql = if wildcard {
        format!("/* {} */ {sql}", schema_version(connection).await?)
    } else {
        sql.to_owned()
    };
    let prepared = connection
        .prepare(AssertSqlSafe(sql.clone()).into_sql_str())
        .await?;
    let names: Vec<&str> = prepared.columns().iter().map(Column::name).collect();
    let guarded = guard(&sql, names.len());
    let query = sqlx::query_with(AssertSqlSafe(guarded), arguments);
    rows::encode(&names, connection.fetch(query)).await
}

/// The schema's version, as of a moment at which the connection itself knows that schema: reading
/// the pragma alone would leave it with an older one in its memory.
pub(super) async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    const SQL: &str = "SELECT v.schema_version FROM pragma_schema_version AS v \
                       LEFT JOIN (SELECT 1 FROM main.sqlite_schema LIMIT 1)";
    sqlx::query_scalar(SQL).fetch_one(connection).await
}

/// Name of the plugin's query within ours. A table of this name could not be queried.
const NAME: &str = "\"pinfold's guarded query\"";

/// `sql`, failing with SQLITE_TOOBIG at a row of more than [`RESULT_LIMIT_BYTES`]. The order of rows
/// is the inner query's: SQLite keeps it where the outer one has neither order nor join.
fn guard(sql: &str, columns: usize) -> String {
    let names: Vec<String> = (0..columns).map(|n| format!("c{n}")).collect();
    let list = names.join(",");
    let sizes: Vec<String> = names
        .iter()
        .map(|c| format!("ifnull(octet_length({c}),0)"))
        .collect();
    let total = sum(&sizes);
    // The function is called with what depends on the row, or it would be called once, before.
    format!(
        "WITH {NAME}({list}) AS (\n{sql}\n) SELECT {list} FROM {NAME} WHERE zeroblob(CASE WHEN \
         {total} > {RESULT_LIMIT_BYTES} THEN 9223372036854775807 ELSE 0 END) IS NOT NULL"
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
