//! Our lists against what the engine we build really has.

use std::collections::BTreeSet;

use pinfold_hostapi::{Dialect, classify};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr};

async fn engine() -> SqliteConnection {
    SqliteConnection::connect("sqlite::memory:").await.unwrap()
}

fn is_let_through(sql: &str) -> bool {
    classify(sql, Dialect::Sqlite).is_ok()
}

/// Functions that this engine has and no plugin may call. A new SQLite brings new ones: each is
/// looked at here once.
const NOT_PERMITTED: [&str; 43] = [
    // Load code, or take and give pointers.
    "load_extension",
    "fts3_tokenizer",
    "fts5",
    "fts5_locale",
    "fts5_insttoken",
    "fts5_get_locale",
    "fts5_source_id",
    "matchinfo",
    "offsets",
    "optimize",
    // Tell of the engine.
    "sqlite_compileoption_get",
    "sqlite_compileoption_used",
    "sqlite_log",
    "sqlite_source_id",
    "sqlite_version",
    "subtype",
    // Make large values of a number.
    "zeroblob",
    "randomblob",
    // Take the product of two lengths, within one instruction.
    "json_patch",
    "jsonb_patch",
    // Tell of other calls on the same connection.
    "changes",
    "last_insert_rowid",
    "total_changes",
    // Internal.
    "geopoly_area",
    "geopoly_bbox",
    "geopoly_blob",
    "geopoly_ccw",
    "geopoly_contains_point",
    "geopoly_debug",
    "geopoly_group_bbox",
    "geopoly_json",
    "geopoly_overlap",
    "geopoly_regular",
    "geopoly_svg",
    "geopoly_within",
    "geopoly_xform",
    "match",
    "regexp",
    "rtreecheck",
    "rtreedepth",
    "rtreenode",
    "->",
    "->>",
];

#[tokio::test]
async fn every_function_of_the_engine_is_decided_on() {
    let names: Vec<String> = sqlx::query_scalar("SELECT DISTINCT name FROM pragma_function_list")
        .fetch_all(&mut engine().await)
        .await
        .unwrap();
    let unknown: BTreeSet<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !is_let_through(&format!("SELECT \"{name}\"(1)")))
        .filter(|name| !NOT_PERMITTED.contains(name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for name in NOT_PERMITTED {
        assert!(!is_let_through(&format!("SELECT \"{name}\"(1)")), "{name}");
    }
}

/// Tables that are there without having been made.
#[tokio::test]
async fn no_built_in_table_is_let_through() {
    let mut engine = engine().await;
    let modules: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_module_list")
        .fetch_all(&mut engine)
        .await
        .unwrap();
    assert!(modules.iter().any(|name| name == "dbstat"), "{modules:?}");
    let pragmas: Vec<String> =
        sqlx::query_scalar("SELECT 'pragma_' || name FROM pragma_pragma_list")
            .fetch_all(&mut engine)
            .await
            .unwrap();
    assert!(pragmas.len() > 40, "{pragmas:?}");
    let catalogues = ["sqlite_temp_master", "sqlite_temp_schema"].map(str::to_owned);
    let mut there = 0;
    for name in modules.iter().chain(&pragmas).chain(&catalogues) {
        let sql = format!("SELECT 1 FROM \"{name}\"");
        if engine
            .prepare(AssertSqlSafe(sql.clone()).into_sql_str())
            .await
            .is_ok()
        {
            there += 1;
            assert!(!is_let_through(&sql), "{sql}");
            assert!(
                !is_let_through(&format!("SELECT 1 FROM main.\"{name}\"")),
                "{sql}"
            );
        }
        let call = format!("SELECT 1 FROM \"{name}\"('x')");
        let json = ["json_each", "json_tree"].contains(&name.as_str());
        assert_eq!(is_let_through(&call), json, "{call}");
    }
    assert!(there > 40, "{there}");
}

/// Where the engine is built with `SQLITE_MAX_LENGTH`, no statement can make a value of more than
/// 8 MiB, whatever it does.
#[tokio::test]
async fn values_are_bounded_by_the_engine() {
    let mut engine = engine().await;
    let doubling = "WITH RECURSIVE d(x) AS (SELECT 'aaaa' UNION ALL SELECT x || x FROM d LIMIT 24) \
                    SELECT max(length(x)) FROM d";
    let outcome = engine.fetch_one(doubling).await;
    let required = std::env::var("PINFOLD_TEST_REQUIRE").unwrap_or_default();
    if outcome.is_ok()
        && !required
            .split(',')
            .any(|ability| ability == "sqlite-limits")
    {
        println!("skipped: this SQLite is built without SQLITE_MAX_LENGTH");
        return;
    }
    assert!(outcome.unwrap_err().to_string().contains("too big"));
    for (bytes, is_made) in [(8 << 20, true), ((8 << 20) + 1, false)] {
        let made = format!("SELECT length(zeroblob({bytes}))");
        let made = engine.fetch_one(sqlx::raw_sql(AssertSqlSafe(made))).await;
        assert_eq!(made.is_ok(), is_made, "{bytes}");
    }
}
