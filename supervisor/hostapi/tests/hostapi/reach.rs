//! What a statement reaches beside what it names: through foreign keys, and on the disk.

use pinfold_hostapi::{HostCall, HostError};
use serde_json::json;

use crate::world::{ALL, World, caller, context, raw, script};

/// Tables that refer to `items`, in each way that carries a change on.
const CASCADES: &str = "
    CREATE TABLE parts (id INTEGER PRIMARY KEY, item INT REFERENCES items (id) ON DELETE CASCADE);
    CREATE TABLE screws (id INT, part INT REFERENCES Parts (id) ON DELETE SET NULL);
    CREATE TABLE labels (id INT, item TEXT REFERENCES \"ITEMS\" (name) ON UPDATE CASCADE);
    CREATE TABLE plain (id INT, item INT REFERENCES items (id));
    CREATE TABLE settings (name TEXT UNIQUE ON CONFLICT REPLACE);
    CREATE TABLE texts (setting TEXT REFERENCES settings (name) ON DELETE CASCADE);
    INSERT INTO parts VALUES (1, 2); INSERT INTO screws VALUES (1, 1);
    INSERT INTO labels VALUES (1, 'one');
    INSERT INTO settings VALUES ('a'); INSERT INTO texts VALUES ('a');
";

async fn world() -> World {
    let world = World::new().await;
    script(&mut raw(&world.main()).await, CASCADES).await;
    world
}

fn writing(tables: &str, ddl: bool) -> pinfold_hostapi::Caller {
    let grant = r#"{ "db": [{ "tables": [TABLES], "access": "readwrite", "ddl": DDL }] }"#;
    let grant = grant.replace("TABLES", tables);
    caller(
        "p",
        &grant.replace("DDL", if ddl { "true" } else { "false" }),
    )
}

/// The engine prepares the change of each table within that of the one before.
#[tokio::test]
async fn a_change_that_is_carried_on_and_on_is_refused() {
    let world = World::new().await;
    let mut chain = "CREATE TABLE k0 (id INTEGER PRIMARY KEY);".to_owned();
    for at in 1..=210 {
        let before = at - 1;
        chain += &format!(
            "CREATE TABLE k{at} (id INTEGER PRIMARY KEY REFERENCES k{before} ON DELETE CASCADE);"
        );
    }
    chain += "INSERT INTO k0 VALUES (1); INSERT INTO k1 VALUES (1); INSERT INTO k11 VALUES (1);";
    let mut plain = raw(&world.main()).await;
    script(&mut plain, &chain).await;
    let plugin = writing(r#""*""#, false);
    let error = world.exec(&plugin, "DELETE FROM k0").await.unwrap_err();
    assert_eq!(error.code(), "hostapi.db.rejected");
    assert_eq!(
        error.chain(),
        "exec failed: foreign keys carry a change of k0 on more than 200 times"
    );
    assert_eq!(world.exec(&plugin, "DELETE FROM k11").await.unwrap(), 1);
    // What is refused is possible.
    script(&mut plain, "PRAGMA foreign_keys = ON; DELETE FROM k0").await;
    let left = world.query(&plugin, "SELECT count(*) AS n FROM k1").await;
    assert_eq!(left.unwrap(), json!([{ "n": 0 }]));
}

#[tokio::test]
async fn a_change_that_a_foreign_key_carries_on_needs_write_access_there_too() {
    for (tables, sql, refused) in [
        (
            r#""items""#,
            "DELETE FROM items WHERE id = 2",
            Some("parts"),
        ),
        (
            r#""items", "parts""#,
            "DELETE FROM items WHERE id = 2",
            Some("screws"),
        ),
        (
            r#""items", "parts", "screws""#,
            "DELETE FROM items WHERE id = 2",
            None,
        ),
        (
            r#""items""#,
            "UPDATE items SET name = 'x' WHERE id = 2",
            Some("labels"),
        ),
        (
            r#""items", "labels""#,
            "UPDATE items SET name = 'x' WHERE id = 2",
            None,
        ),
        (
            r#""items""#,
            "INSERT INTO items VALUES (9, 'nine', 1)",
            None,
        ),
        (
            r#""items""#,
            "INSERT OR IGNORE INTO items VALUES (2, 'x', 1)",
            None,
        ),
        (
            r#""items""#,
            "INSERT OR REPLACE INTO items VALUES (2, 'x', 1)",
            Some("parts"),
        ),
        (
            r#""items""#,
            "REPLACE INTO items VALUES (2, 'x', 1)",
            Some("parts"),
        ),
        (
            r#""items""#,
            "INSERT INTO items VALUES (2, 'x', 1) ON CONFLICT (id) DO UPDATE SET name = 'x'",
            Some("labels"),
        ),
        (
            r#""items", "labels""#,
            "UPDATE OR REPLACE items SET id = 2",
            Some("parts"),
        ),
        (r#""plain""#, "DELETE FROM plain", None),
        (r#""screws""#, "UPDATE screws SET part = NULL", None),
        // The table's own schema replaces rows.
        (
            r#""settings""#,
            "INSERT INTO settings VALUES ('a')",
            Some("texts"),
        ),
        (
            r#""settings", "texts""#,
            "INSERT INTO settings VALUES ('a')",
            None,
        ),
    ] {
        let world = world().await;
        let outcome = world.exec(&writing(tables, false), sql).await;
        match (outcome, refused) {
            (Ok(_), None) => {}
            (Err(HostError::Refused(refusal)), Some(table)) => {
                let expected = format!("access to table \"{table}\" not permitted");
                assert!(
                    refusal.to_string().starts_with(&expected),
                    "{sql}: {refusal}"
                );
            }
            (outcome, _) => panic!("{tables} {sql}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn refused_changes_have_no_effect_and_granted_ones_have_it() {
    let world = world().await;
    let of = async |table: &str| {
        let sql = format!("SELECT count(*) AS n FROM {table}");
        world.query(&caller("q", ALL), &sql).await.unwrap()[0]["n"].clone()
    };
    let narrow = writing(r#""items""#, true);
    let delete = "DELETE FROM items WHERE id = 2";
    assert!(world.exec(&narrow, delete).await.is_err());
    let record = world.last_record();
    assert_eq!(record.permission.as_deref(), Some("db:write:main/parts"));
    assert_eq!(record.subject, "main/items:w main/parts:w main/screws:w");
    // Dropping a table removes its rows first.
    assert!(world.exec(&narrow, "DROP TABLE items").await.is_err());
    assert_eq!((of("items").await, of("parts").await), (json!(3), json!(1)));
    // On a plain connection with foreign keys the same statement does reach the other table.
    let wide = writing(r#""items", "parts", "screws""#, false);
    assert_eq!(world.exec(&wide, delete).await.unwrap(), 1);
    assert_eq!((of("items").await, of("parts").await), (json!(2), json!(0)));
}

#[tokio::test]
async fn a_change_of_the_schema_is_seen_at_the_next_write() {
    let world = World::new().await;
    let plugin = writing(r#""items""#, false);
    world
        .exec(&plugin, "DELETE FROM items WHERE id = 3")
        .await
        .unwrap();
    script(
        &mut raw(&world.main()).await,
        "CREATE TABLE later (item INT REFERENCES items (id) ON DELETE CASCADE)",
    )
    .await;
    let refused = world
        .exec(&plugin, "DELETE FROM items WHERE id = 2")
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "hostapi.refused");
}

#[tokio::test]
async fn what_a_query_writes_aside_is_bounded() {
    let world = World::new().await;
    let plugin = caller("p", ALL);
    let megabyte = json!("x".repeat(1_000_000));
    let sorted = |rows: u32| {
        format!(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {rows})
             SELECT length(v) AS l FROM (SELECT n, ?1 || n AS v FROM c ORDER BY n * 7919 % 1009)
             LIMIT 1"
        )
    };
    let few = world
        .query_with(&plugin, &sorted(20), vec![megabyte.clone()])
        .await;
    assert!(few.is_ok(), "{few:?}");
    let many = world
        .query_with(&plugin, &sorted(100_000), vec![megabyte])
        .await;
    assert_eq!(
        many.unwrap_err().to_string(),
        "what the statement writes to disk is larger than 134217728 bytes"
    );
    // The connection is as good as before.
    let after = world
        .query(&plugin, "SELECT count(*) AS n FROM items")
        .await;
    assert_eq!(after.unwrap(), json!([{ "n": 3 }]));
}

/// One instruction works on megabytes, and nothing looks at the clock within it.
#[tokio::test]
async fn a_write_of_long_steps_ends_with_its_deadline_and_lets_the_next_one_write() {
    let world = World::new().await;
    let sql = "UPDATE items SET owner = (
                   WITH RECURSIVE d(x) AS (SELECT ?1 UNION ALL SELECT x || x FROM d LIMIT 3),
                   n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)
                   SELECT sum(instr(x, ?2)) FROM d, n) WHERE id = 1";
    let (haystack, needle) = ("a".repeat(1_500_000), format!("{}b", "a".repeat(255)));
    let write = HostCall::DbExec {
        database: None,
        sql: sql.into(),
        parameters: vec![json!(haystack), json!(needle)],
    };
    let slow = world
        .api
        .call(&caller("p", ALL), write, &context(500))
        .await;
    assert_eq!(slow.unwrap_err().code(), "hostapi.deadline");
    let next = "UPDATE items SET owner = 7 WHERE id = 2";
    assert_eq!(world.exec(&caller("q", ALL), next).await.unwrap(), 1);
    let rows = world
        .query(&caller("q", ALL), "SELECT owner FROM items ORDER BY id")
        .await;
    assert_eq!(
        rows.unwrap(),
        json!([{ "owner": 1 }, { "owner": 7 }, { "owner": 2 }])
    );
}

#[tokio::test]
async fn nested_parameters_count_for_what_they_take() {
    let world = World::new().await;
    let plugin = caller("p", ALL);
    let empty = |count: usize| json!(vec![json!([]); count]);
    let sql = "SELECT length(?) AS n";
    let some = world
        .query_with(&plugin, sql, vec![empty(1_000)])
        .await
        .unwrap();
    assert_eq!(some, json!([{ "n": 3_001 }]));
    let too_many = [
        empty(200_000),
        json!(vec![""; 200_000]),
        json!({ "a": empty(200_000) }),
    ];
    for nested in too_many {
        let refused = world
            .query_with(&plugin, sql, vec![nested])
            .await
            .unwrap_err();
        assert_eq!(refused.code(), "hostapi.too-large");
    }
}
