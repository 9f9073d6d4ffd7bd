//! What is passed and given back has a size.

use pinfold_hostapi::{
    HostError, PARAMETER_LIMIT, PARAMETERS_LIMIT_BYTES, RESULT_LIMIT_BYTES, ROW_LIMIT,
    SQL_LIMIT_BYTES,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use crate::world::{ITEMS, World, caller, raw};

const COUNT_TO: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT ?) SELECT x FROM n";

#[tokio::test]
async fn a_result_of_too_many_rows_is_refused_whole() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let rows = world
        .query_with(&plugin, COUNT_TO, vec![json!(ROW_LIMIT)])
        .await
        .unwrap();
    assert_eq!(rows.as_array().unwrap().len(), ROW_LIMIT);
    // Without end, and stopped soon: the connection is of use again at once.
    for limit in [ROW_LIMIT + 1, usize::MAX / 2] {
        let error = world
            .query_with(&plugin, COUNT_TO, vec![json!(limit)])
            .await
            .unwrap_err();
        assert!(
            matches!(error, HostError::TooManyRows { limit: ROW_LIMIT }),
            "{error}"
        );
    }
    assert!(world.query(&plugin, "SELECT * FROM items").await.is_ok());
}

#[tokio::test]
async fn a_result_of_too_many_bytes_is_refused_whole() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let mebibyte = Value::from("x".repeat(1024 * 1024));
    let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT ?2) \
               SELECT ?1 AS v FROM n";
    let fits = world
        .query_with(&plugin, sql, vec![mebibyte.clone(), json!(7)])
        .await
        .unwrap();
    assert_eq!(fits.as_array().unwrap().len(), 7);
    let error = world
        .query_with(&plugin, sql, vec![mebibyte, json!(9)])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("result is larger than {RESULT_LIMIT_BYTES} bytes")
    );
    // A name is written once for each row.
    let name = "n".repeat(60_000);
    let sql = format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000) \
         SELECT x AS {name} FROM n"
    );
    let error = world.query(&plugin, &sql).await.unwrap_err();
    assert!(
        matches!(error, HostError::TooLarge { what: "result", .. }),
        "{error}"
    );
    assert!(world.query(&plugin, "SELECT * FROM items").await.is_ok());
}

#[tokio::test]
async fn statements_and_parameters_have_a_size() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let long = format!("SELECT 1 -- {}", "x".repeat(SQL_LIMIT_BYTES));
    let error = world.query(&plugin, &long).await.unwrap_err();
    assert_eq!(error.to_string(), "statement is larger than 65536 bytes");
    let from = |tables: &str| format!("SELECT 1 FROM {tables}");
    let list = |count: usize| {
        let tables: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
        tables.join(",")
    };
    for (tables, said) in [
        ("t".repeat(255), "not permitted (allowed: [items])"),
        (
            "t".repeat(256),
            "the name of a table or an index is longer than 255 bytes",
        ),
        (list(200), "not permitted (allowed: [items])"),
        (list(201), "statement has more than 200 tables"),
    ] {
        let error = world.query(&plugin, &from(&tables)).await.unwrap_err();
        assert!(error.to_string().ends_with(said), "{error}");
    }
    let many = vec![Value::Null; PARAMETER_LIMIT + 1];
    let error = world
        .query_with(&plugin, "SELECT 1", many)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "statement has more than 1000 placeholders"
    );
    let large = vec![json!(["x".repeat(PARAMETERS_LIMIT_BYTES)])];
    let error = world
        .query_with(&plugin, "SELECT ?", large)
        .await
        .unwrap_err();
    assert!(matches!(error, HostError::TooLarge { .. }), "{error}");
}

/// Says to [`what_the_engine_takes_has_an_end`], started as a process of its own, which part of it is to be done: the limit is
/// the process's.
const ALONE: &str = "PINFOLD_TEST_HEAP_ALONE";

/// The columns of an inner query are kept, each a value of its own, before anybody looks at their sizes.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that starts itself is no plugin"
)]
async fn what_the_engine_takes_has_an_end() {
    const MANY: i64 = 400;
    let mebibytes = Value::from("x".repeat(4_000_000));
    let columns: Vec<String> = (0..MANY).map(|n| format!("?1 || '{n}' AS c{n}")).collect();
    let sum: Vec<String> = (0..MANY).map(|n| format!("octet_length(c{n})")).collect();
    let sql = format!(
        "SELECT {} AS bytes FROM (SELECT {} LIMIT 1)",
        sum.join(" + "),
        columns.join(", ")
    );
    match std::env::var(ALONE).as_deref() {
        Err(_) => {
            for part in ["bounded", "unbounded"] {
                let ran = std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "limits::what_the_engine_takes_has_an_end"])
                    .args(["--nocapture"])
                    .env(ALONE, part)
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&ran.stdout);
                let said = String::from_utf8_lossy(&ran.stderr);
                assert!(
                    ran.status.success() && text.contains("1 passed"),
                    "{part}: {text}{said}"
                );
            }
        }
        Ok("bounded") => {
            let world = World::new().await;
            let plugin = caller("p", ITEMS);
            let error = world
                .query_with(&plugin, &sql, vec![mebibytes])
                .await
                .unwrap_err();
            assert_eq!(error.code(), "hostapi.db.memory", "{error}");
            assert!(most_memory_mebibytes() < 1_200);
            assert!(world.query(&plugin, "SELECT * FROM items").await.is_ok());
        }
        Ok(_) => {
            let dir = tempfile::tempdir().unwrap();
            let mut engine = raw(&dir.path().join("any.db")).await;
            let row = sqlx::query(AssertSqlSafe(sql))
                .bind(mebibytes.as_str())
                .fetch_one(&mut engine)
                .await
                .unwrap();
            assert!(row.get::<i64, _>(0) > 4_000_000 * MANY);
            assert!(most_memory_mebibytes() > 1_500);
        }
    }
}

/// The most that this process has had in memory, `VmHWM` of proc_pid_status(5).
fn most_memory_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() / 1024
}
