use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use super::super::{Classified, Dialect, classify};
use super::*;

async fn database(dir: &std::path::Path) -> SqliteDatabase {
    let settings = Settings {
        path: dir.join("a.db"),
        read_only: false,
        create: true,
        max_size: ByteSize::mebibytes(64),
        write_time: Duration::from_secs(20),
    };
    let database = SqliteDatabase::open(settings).await.unwrap();
    for sql in [
        "CREATE TABLE t (a, b)",
        "INSERT INTO t VALUES (3, 'c'), (1, 'a'), (2, 'b')",
    ] {
        database
            .exec(approved(sql, &classified(sql), vec![]))
            .await
            .unwrap();
    }
    database
}

fn classified(sql: &str) -> Classified {
    classify(sql, Dialect::Sqlite).unwrap()
}

fn approved<'a>(sql: &'a str, classified: &'a Classified, parameters: Vec<Value>) -> Approved<'a> {
    static PLUGIN: std::sync::LazyLock<PluginId> =
        std::sync::LazyLock::new(|| PluginId::parse("p").unwrap());
    Approved {
        plugin: &PLUGIN,
        classified,
        sql,
        parameters,
        deadline: Instant::now() + Duration::from_secs(20),
    }
}

async fn query(database: &SqliteDatabase, sql: &str, parameters: Vec<Value>) -> Value {
    let json = database
        .query(approved(sql, &classified(sql), parameters))
        .await
        .unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// What the first line might let through by mistake.
#[tokio::test]
async fn the_connections_for_queries_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path()).await;
    for sql in [
        "DELETE FROM t",
        "CREATE TABLE u (a)",
        "PRAGMA user_version = 3",
        "DROP TABLE t",
    ] {
        // The guard around a query already takes no statement that is none.
        let plugin = PluginId::parse("p").unwrap();
        let until = Until::deadline(Instant::now() + Duration::from_secs(5));
        let outcome = run(&database.readers, &plugin, until, true, async |lane| {
            Ok(lane
                .connection
                .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
                .await?)
        })
        .await;
        assert!(
            matches!(outcome, Err(RunError::Database(DatabaseError::ReadOnly))),
            "{sql}: {outcome:?}"
        );
        let known = classified("SELECT 1");
        assert!(database.query(approved(sql, &known, vec![])).await.is_err());
    }
    assert_eq!(
        query(&database, "SELECT count(*) AS n FROM t", vec![]).await,
        json!([{ "n": 3 }])
    );
    let mut outside = SqliteConnection::connect(&dir.path().join("a.db").display().to_string())
        .await
        .unwrap();
    outside.execute("DELETE FROM t").await.unwrap();
    assert_eq!(
        query(&database, "SELECT count(*) AS n FROM t", vec![]).await,
        json!([{ "n": 0 }])
    );
}

#[tokio::test]
async fn the_guard_changes_neither_order_nor_names_nor_values() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path()).await;
    for (sql, expected) in [
        (
            "SELECT a FROM t ORDER BY a DESC",
            json!([{ "a": 3 }, { "a": 2 }, { "a": 1 }]),
        ),
        (
            "SELECT A, b AS \"x y\" FROM t ORDER BY b LIMIT 1 OFFSET 1 -- end",
            json!([{ "a": 2, "x y": "b" }]),
        ),
        (
            "SELECT a + 1, max( a ,0) FROM t ORDER BY 1 LIMIT 1",
            json!([{ "a + 1": 2, "max( a ,0)": 1 }]),
        ),
        (
            "SELECT a FROM t UNION ALL SELECT 9 ORDER BY 1 DESC LIMIT 2",
            json!([{ "a": 9 }, { "a": 3 }]),
        ),
        (
            "SELECT a AS x FROM t UNION ALL SELECT 9 ORDER BY x DESC -- end",
            json!([{ "x": 9 }, { "x": 3 }, { "x": 2 }, { "x": 1 }]),
        ),
        (
            "SELECT a FROM (SELECT a FROM t UNION ALL SELECT a + 3 FROM t) ORDER BY -a",
            json!([{ "a": 6 }, { "a": 5 }, { "a": 4 }, { "a": 3 }, { "a": 2 }, { "a": 1 }]),
        ),
        (
            "SELECT a FROM t UNION SELECT 9 ORDER BY a DESC",
            json!([{ "a": 9 }, { "a": 3 }, { "a": 2 }, { "a": 1 }]),
        ),
        (
            "VALUES (2, 'x'), (1, NULL)",
            json!([{ "column1": 2, "column2": "x" }, { "column1": 1, "column2": null }]),
        ),
        (
            "WITH c1 AS (SELECT a AS c0 FROM t) SELECT c0 FROM c1 ORDER BY c0 DESC LIMIT 1",
            json!([{ "c0": 3 }]),
        ),
        (
            "SELECT t.*, t.a FROM t ORDER BY random() LIMIT 0",
            json!([]),
        ),
        (
            "SELECT a, row_number() OVER (ORDER BY a DESC) AS n FROM t ORDER BY n",
            json!([{ "a": 3, "n": 1 }, { "a": 2, "n": 2 }, { "a": 1, "n": 3 }]),
        ),
        (
            "SELECT group_concat(b, '') AS s FROM (SELECT b FROM t ORDER BY a)",
            json!([{ "s": "abc" }]),
        ),
        (
            "SELECT typeof(a) AS i, typeof(b) AS t, typeof(NULL) AS n, typeof(.5) AS r FROM t LIMIT 1",
            json!([{ "i": "integer", "t": "text", "n": "null", "r": "real" }]),
        ),
        (
            "SELECT (SELECT a FROM t WHERE a > ?) AS v, ? AS w",
            json!([{ "v": 3, "w": "z" }]),
        ),
    ] {
        let parameters = if sql.contains('?') {
            vec![json!(2), json!("z")]
        } else {
            vec![]
        };
        assert_eq!(query(&database, sql, parameters).await, expected, "{sql}");
    }
    // As many columns as an engine gives.
    let wide: Vec<String> = (0..2_000).map(|n| format!("{n} AS k{n}")).collect();
    let rows = query(&database, &format!("SELECT {}", wide.join(",")), vec![]).await;
    assert_eq!(rows[0].as_object().unwrap().len(), 2_000);
}

/// Each value is small, the row is not: it must not be given to the driver, which copies it whole.
#[tokio::test]
async fn a_row_that_is_too_large_fails_inside_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path()).await;
    let columns = vec!["?1"; 100].join(",");
    let megabyte = vec![json!("x".repeat(1_000_000))];
    for sql in [
        format!("SELECT {columns}"),
        format!("SELECT * FROM (SELECT {columns})"),
    ] {
        let known = classified(&sql);
        let outcome = database
            .query(approved(&sql, &known, megabyte.clone()))
            .await;
        assert!(
            matches!(outcome, Err(RunError::Database(DatabaseError::TooBig))),
            "{outcome:?}"
        );
    }
    let rows = query(&database, "SELECT length(?1) AS n", megabyte).await;
    assert_eq!(rows, json!([{ "n": 1_000_000 }]));
}

/// A statement may be the longest there is and never come again: it must not stay prepared.
#[tokio::test]
async fn long_statements_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path()).await;
    let kept = async || {
        let plugin = PluginId::parse("p").unwrap();
        let until = Until::deadline(Instant::now() + Duration::from_secs(5));
        run(&database.readers, &plugin, until, true, async |lane| {
            // A result is not waited for to its end: the thread counts after that.
            sqlx::Connection::ping(&mut lane.connection).await?;
            Ok(sqlx::Connection::cached_statements_size(&lane.connection))
        })
        .await
        .unwrap()
    };
    query(&database, "SELECT a FROM t", vec![]).await;
    assert_eq!(kept().await, 2);
    let padding = " ".repeat(KEPT_LIMIT_BYTES);
    query(&database, &format!("SELECT{padding}a FROM t"), vec![]).await;
    assert_eq!(kept().await, 0);
    // Nor one that failed.
    let wrong = format!("SELECT{padding}nothing FROM t");
    let known = classified(&wrong);
    assert!(
        database
            .query(approved(&wrong, &known, vec![]))
            .await
            .is_err()
    );
    assert_eq!(kept().await, 0);
}

/// One search takes as long as the product of both lengths, and cannot be interrupted.
#[tokio::test]
async fn long_patterns_are_refused_by_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path()).await;
    for sql in [
        "SELECT a FROM t WHERE b LIKE ?",
        "SELECT a FROM t WHERE b GLOB ?",
    ] {
        let known = classified(sql);
        let pattern = |length| vec![Value::from("x".repeat(length))];
        query(&database, sql, pattern(200)).await;
        let outcome = database.query(approved(sql, &known, pattern(300))).await;
        let Err(RunError::Database(DatabaseError::Rejected { message })) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(message, "LIKE or GLOB pattern too complex");
    }
}
