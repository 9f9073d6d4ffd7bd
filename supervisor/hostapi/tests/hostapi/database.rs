//! Rows, parameters, counts; what happens when a database is locked, slow, full or read-only.

use std::time::{Duration, Instant};

use pinfold_hostapi::{DatabaseError, Decision, HostCall, HostError, NEEDLE_LIMIT_BYTES, Retry};
use pinfold_policy::{ByteSize, Span};
use serde_json::{Value, json};

use crate::world::{ALL, ITEMS, ITEMS_READ, World, caller, context, raw, script};

#[tokio::test]
async fn rows_come_as_json_objects() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS_READ);
    let rows = world
        .query(&plugin, "SELECT * FROM items WHERE id < 3 ORDER BY id")
        .await
        .unwrap();
    let expected =
        json!([{ "id": 1, "name": "one", "owner": 1 }, { "id": 2, "name": "two", "owner": 1 }]);
    assert_eq!(rows, expected);
    let none = world
        .query(&plugin, "SELECT * FROM items WHERE 0")
        .await
        .unwrap();
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn each_kind_of_value_has_its_json_form() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS_READ);
    let sql = "SELECT 9223372036854775807 AS whole, 0.5 AS real, 1.0 AS even, NULL AS absent, \
               'é\"\n' AS text, x'616263' AS bytes, x'61ff62' AS broken, 9e999 AS infinite, \
               CAST(x'ff' AS TEXT) AS bad, '' AS empty, 1 AS same, 2 AS same";
    let rows = world.query(&plugin, sql).await.unwrap();
    let expected = json!([{
        "whole": i64::MAX, "real": 0.5, "even": 1.0, "absent": null, "text": "é\"\n",
        "bytes": "abc", "broken": "a\u{fffd}b", "infinite": null, "bad": "\u{fffd}", "empty": "",
        "same": 2
    }]);
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn parameters_arrive_with_their_types() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS_READ);
    let types = |column: usize| format!("typeof(?{column}) AS t{column}, ?{column} AS v{column}");
    let sql = format!(
        "SELECT {}",
        (1..=8).map(types).collect::<Vec<_>>().join(", ")
    );
    let parameters = vec![
        json!(3),
        json!(-1.5),
        json!(u64::MAX),
        json!("x' OR 1 --"),
        json!(true),
        Value::Null,
        json!([1, "a"]),
        json!({ "k": null }),
    ];
    let rows = world.query_with(&plugin, &sql, parameters).await.unwrap();
    let expected = json!([{
        "t1": "integer", "v1": 3, "t2": "real", "v2": -1.5, "t3": "real", "v3": 18446744073709551615.0,
        "t4": "text", "v4": "x' OR 1 --", "t5": "integer", "v5": 1, "t6": "null", "v6": null,
        "t7": "text", "v7": "[1,\"a\"]", "t8": "text", "v8": "{\"k\":null}"
    }]);
    assert_eq!(rows, expected);
    let error = world
        .query_with(&plugin, "SELECT ?, ?", vec![json!(1)])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "statement has 2 placeholders, 1 parameters given"
    );
    let error = world
        .query_with(&plugin, "SELECT 1", vec![json!(1)])
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        HostError::ParameterCount {
            expected: 0,
            given: 1
        }
    ));
}

#[tokio::test]
async fn writes_count_the_rows_they_change() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let insert = "INSERT INTO items (name) VALUES (?), (?)";
    let names = vec![json!("a"), json!("b")];
    assert_eq!(world.exec_with(&plugin, insert, names).await.unwrap(), 2);
    assert_eq!(
        world
            .exec(&plugin, "UPDATE items SET owner = 9")
            .await
            .unwrap(),
        5
    );
    assert_eq!(
        world
            .exec(&plugin, "DELETE FROM items WHERE id > 3")
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        world
            .exec(&plugin, "DELETE FROM items WHERE 0")
            .await
            .unwrap(),
        0
    );
    let rows = world
        .query(&plugin, "SELECT count(*) AS n, max(owner) AS o FROM items")
        .await;
    assert_eq!(rows.unwrap(), json!([{ "n": 3, "o": 9 }]));
}

#[tokio::test]
async fn a_query_passed_for_execution_is_refused_and_the_other_way_round() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let error = world
        .exec(&plugin, "SELECT * FROM items")
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "a statement without result was expected, this one reads"
    );
    let error = world
        .query(&plugin, "DELETE FROM items WHERE id > 3")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "a query may only read");
}

#[tokio::test]
async fn the_databases_own_errors_come_with_their_words() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let error = world
        .query(&plugin, "SELECT missing FROM items")
        .await
        .unwrap_err();
    assert_eq!(error.chain(), "query failed: no such column: missing");
    assert_eq!(error.code(), "hostapi.db.rejected");
    let error = world
        .exec(&plugin, "INSERT INTO items (id, name) VALUES (1, 'x')")
        .await;
    let error = error.unwrap_err();
    assert_eq!(
        error.chain(),
        "exec failed: UNIQUE constraint failed: items.id"
    );
    assert_eq!(error.code(), "hostapi.db.constraint");
    assert_eq!(world.last_record().decision, Decision::Error);
}

#[tokio::test]
async fn a_locked_database_fails_the_call_and_nothing_else() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let mut other = raw(&world.main()).await;
    script(&mut other, "BEGIN EXCLUSIVE").await;
    for _ in 0..2 {
        let started = Instant::now();
        let error = world
            .exec(&plugin, "DELETE FROM items WHERE 0")
            .await
            .unwrap_err();
        assert_eq!(error.chain(), "exec failed: database is locked");
        assert!(matches!(error.retry(), Retry::After(_)));
        let error = world
            .query(&plugin, "SELECT name FROM items")
            .await
            .unwrap_err();
        assert_eq!(error.chain(), "query failed: database is locked");
        let error = world
            .query(&plugin, "SELECT * FROM items")
            .await
            .unwrap_err();
        assert_eq!(error.chain(), "query failed: database is locked");
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "{:?}",
            started.elapsed()
        );
    }
    script(&mut other, "ROLLBACK").await;
    assert_eq!(
        world
            .exec(&plugin, "DELETE FROM items WHERE id = 3")
            .await
            .unwrap(),
        1
    );
    assert!(world.query(&plugin, "SELECT * FROM items").await.is_ok());
}

const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS c FROM n";

async fn query_for(
    world: &World,
    name: &str,
    sql: &str,
    deadline_ms: u64,
) -> Result<(), HostError> {
    let query = HostCall::DbQuery {
        database: None,
        sql: sql.into(),
        parameters: Vec::new(),
    };
    call_for(world, name, query, deadline_ms).await
}

async fn exec_for(world: &World, name: &str, sql: &str, deadline_ms: u64) -> Result<(), HostError> {
    let exec = HostCall::DbExec {
        database: None,
        sql: sql.into(),
        parameters: Vec::new(),
    };
    call_for(world, name, exec, deadline_ms).await
}

async fn call_for(
    world: &World,
    name: &str,
    call: HostCall,
    deadline_ms: u64,
) -> Result<(), HostError> {
    let plugin = caller(name, ITEMS);
    let result = world.api.call(&plugin, call, &context(deadline_ms)).await;
    result.map(drop)
}

#[tokio::test]
async fn a_statement_without_end_is_interrupted_at_its_deadline() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let started = Instant::now();
    // More at once than there are connections: each must come back.
    for _ in 0..3 {
        let error = query_for(&world, "p", ENDLESS, 150).await.unwrap_err();
        assert!(matches!(error, HostError::Deadline), "{error}");
    }
    let writes = "WITH RECURSIVE n(x) AS (SELECT 10 UNION ALL SELECT x + 1 FROM n) \
                  INSERT INTO items (id) SELECT x FROM n";
    let error = exec_for(&world, "p", writes, 150).await.unwrap_err();
    assert!(matches!(error, HostError::Deadline), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let rows = world
        .query(&plugin, "SELECT count(*) AS n FROM items")
        .await
        .unwrap();
    assert_eq!(rows, json!([{ "n": 3 }]), "rolled back");
    assert_eq!(
        world
            .exec(&plugin, "DELETE FROM items WHERE id = 2")
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn two_plugins_that_query_without_end_leave_the_others_a_connection() {
    let world = World::new().await;
    let endless = |name: &'static str| query_for(&world, name, ENDLESS, 6_000);
    let all = futures_util::future::join_all(["a", "b", "a", "b"].map(endless));
    let other = query_for(&world, "c", "SELECT name FROM items", 3_000);
    let (ended, other) = tokio::join!(all, other);
    other.unwrap();
    assert!(ended.iter().all(Result::is_err), "{ended:?}");
}

#[tokio::test]
async fn a_write_without_end_leaves_the_next_one_its_time() {
    let world = World::with(|config| config.write_time = Span(Duration::from_millis(300))).await;
    let endless = "WITH RECURSIVE n(x) AS (SELECT 10 UNION ALL SELECT x FROM n) \
                   DELETE FROM items WHERE id IN (SELECT x FROM n)";
    let next = async {
        for _ in 0..3 {
            query_for(&world, "b", "SELECT name FROM items", 4_000)
                .await
                .unwrap();
        }
        exec_for(&world, "b", "DELETE FROM items WHERE id = 3", 4_000).await
    };
    let (ended, next) = tokio::join!(exec_for(&world, "a", endless, 8_000), next);
    assert!(matches!(ended, Err(HostError::Deadline)), "{ended:?}");
    next.unwrap();
}

#[tokio::test]
async fn a_cancelled_call_stops_its_statement_and_is_recorded() {
    let world = World::new().await;
    for _ in 0..6 {
        let call = query_for(&world, "p", ENDLESS, 60_000);
        assert!(
            tokio::time::timeout(Duration::from_millis(30), call)
                .await
                .is_err()
        );
        assert_eq!(world.last_record().code, Some("hostapi.cancelled"));
    }
    // Were they still running, the plugin's share would be used up.
    query_for(&world, "p", "SELECT name FROM items", 5_000)
        .await
        .unwrap();
}

/// What runs within one instruction of the engine cannot be interrupted: the call still ends, and
/// the plugin pays with its own share.
#[tokio::test]
async fn what_cannot_be_interrupted_costs_only_its_own_plugin() {
    let world = World::new().await;
    let slow = caller("slow", ITEMS);
    let call = || {
        // Large values in one straight line: the engine looks up where its program turns back.
        let columns = vec!["length(hex(upper(?1)))"; 300].join(", ");
        HostCall::DbQuery {
            database: None,
            sql: format!("SELECT {columns}"),
            parameters: vec!["a".repeat(2_000_000).into()],
        }
    };
    let started = Instant::now();
    let limit = context(50);
    let (first, second, third) = tokio::join!(
        world.api.call(&slow, call(), &limit),
        world.api.call(&slow, call(), &limit),
        world.api.call(&slow, call(), &limit),
    );
    for outcome in [first, second, third] {
        // On a very fast machine it may end in time.
        assert!(
            matches!(outcome, Err(HostError::Deadline) | Ok(_)),
            "{outcome:?}"
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    query_for(&world, "other", "SELECT name FROM items", 3_000)
        .await
        .unwrap();
}

/// What takes as long as the product of two lengths is not begun.
#[tokio::test]
async fn searching_for_a_long_text_is_refused() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let sql = "SELECT name FROM items WHERE instr(name, ?)";
    let search = async |length| {
        world
            .query_with(&plugin, sql, vec!["a".repeat(length).into()])
            .await
    };
    assert!(search(NEEDLE_LIMIT_BYTES).await.is_ok());
    let error = search(NEEDLE_LIMIT_BYTES + 1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "a parameter that is searched for is larger than 256 bytes"
    );
}

#[tokio::test]
async fn one_plugins_queue_is_bounded_and_not_anothers() {
    let world = World::new().await;
    let greedy = caller("greedy", ITEMS);
    // Long enough for all of them to be understood, however busy the machine is.
    let limit = context(2_000);
    let calls = (0..300).map(|_| {
        let call = HostCall::DbQuery {
            database: None,
            sql: ENDLESS.into(),
            parameters: Vec::new(),
        };
        world.api.call(&greedy, call, &limit)
    });
    let others = query_for(&world, "other", "SELECT name FROM items", 5_000);
    let (outcomes, other) = tokio::join!(futures_util::future::join_all(calls), others);
    other.unwrap();
    let full = outcomes.iter().filter(|outcome| {
        let source = DatabaseError::QueueFull;
        outcome
            .as_ref()
            .is_err_and(|error| error.code() == full_code(source))
    });
    assert!(full.count() > 0);
}

fn full_code(source: DatabaseError) -> &'static str {
    HostError::Database {
        method: "query",
        source,
    }
    .code()
}

#[tokio::test]
async fn a_database_that_reached_its_size_refuses_more() {
    let world = World::with(|config| config.max_size = ByteSize(64 * 1024)).await;
    let plugin = caller("p", ITEMS);
    let fill = "INSERT INTO items (name) VALUES (? || ?)";
    let mut last = Ok(0);
    for n in 0..100 {
        last = world
            .exec_with(&plugin, fill, vec![json!("x".repeat(4_000)), json!(n)])
            .await;
        if last.is_err() {
            break;
        }
    }
    assert_eq!(
        last.unwrap_err().chain(),
        "exec failed: database or disk is full"
    );
    world
        .exec(&plugin, "DELETE FROM items WHERE id > 3")
        .await
        .unwrap();
    world
        .exec(&plugin, "INSERT INTO items (name) VALUES ('again')")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_read_only_database_refuses_every_write() {
    let world = World::with(|config| config.read_only = true).await;
    let plugin = caller("p", ALL);
    for sql in [
        "DELETE FROM items",
        "CREATE TABLE t (a)",
        "DROP TABLE items",
    ] {
        let error = world.exec(&plugin, sql).await.unwrap_err();
        assert_eq!(error.chain(), "exec failed: database is read-only");
    }
    assert!(world.query(&plugin, "SELECT * FROM items").await.is_ok());
}

#[tokio::test]
async fn a_closed_database_answers_so() {
    let world = World::new().await;
    let World { dir, .. } = world;
    let configured = [(
        "main".to_owned(),
        pinfold_hostapi::DatabaseConfig::new(crate::world::url(&dir.path().join("main.db"))),
    )];
    let databases = pinfold_hostapi::Databases::open(&configured.into(), &dir.path().join("x"))
        .await
        .unwrap();
    databases.close().await;
    let world = World::over(dir, databases);
    let error = world
        .query(&caller("p", ITEMS), "SELECT 1")
        .await
        .unwrap_err();
    assert_eq!(error.chain(), "query failed: database is not available");
}
