//! Changes of the schema: by a plugin that may, and under a plugin's feet.

use serde_json::json;

use crate::world::{ITEMS, World, caller, raw, script};

const OWN: &str = r#"{ "db": [
    { "tables": ["gk_*"], "access": "readwrite", "ddl": true },
    { "tables": ["items"], "access": "read" }
] }"#;

#[tokio::test]
async fn a_plugin_with_ddl_keeps_tables_of_its_own() {
    let world = World::new().await;
    let plugin = caller("p", OWN);
    for sql in [
        "CREATE TABLE IF NOT EXISTS gk_notes (id INTEGER PRIMARY KEY AUTOINCREMENT, item INT \
         REFERENCES items (id), body TEXT NOT NULL DEFAULT '' CHECK (length(body) < 99))",
        "CREATE INDEX gk_notes_item ON gk_notes (item)",
        "INSERT INTO gk_notes (item, body) SELECT id, name FROM items ORDER BY id",
        "ALTER TABLE gk_notes ADD COLUMN extra TEXT",
        "ALTER TABLE gk_notes RENAME COLUMN extra TO more",
        "ALTER TABLE gk_notes DROP COLUMN more",
        "ALTER TABLE gk_notes RENAME TO gk_remarks",
        "DROP INDEX gk_notes_item",
        "CREATE TABLE gk_copy AS SELECT * FROM items",
        "CREATE TABLE gk_tags (remark INT REFERENCES gk_remarks (id) ON DELETE CASCADE, item INT, \
         FOREIGN KEY (item) REFERENCES items (id) ON DELETE RESTRICT ON UPDATE NO ACTION)",
        "DROP TABLE gk_tags",
    ] {
        world
            .exec(&plugin, sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {}", error.chain()));
    }
    let rows = world
        .query(&plugin, "SELECT * FROM gk_remarks WHERE id = 2")
        .await
        .unwrap();
    assert_eq!(rows, json!([{ "id": 2, "item": 2, "body": "two" }]));
    assert_eq!(
        world.exec(&plugin, "DROP TABLE gk_remarks").await.unwrap(),
        0
    );
    assert_eq!(world.last_record().subject, "main/gk_remarks:ddl");
}

#[tokio::test]
async fn a_plugin_with_ddl_changes_no_other_table() {
    let world = World::new().await;
    let plugin = caller("p", OWN);
    for (sql, text) in [
        (
            "DROP TABLE items",
            "access to table \"items\" not permitted (allowed: [gk_*])",
        ),
        (
            "CREATE TABLE other (a)",
            "access to table \"other\" not permitted (allowed: [gk_*])",
        ),
        (
            "CREATE INDEX gk_i ON items (name)",
            "access to table \"items\" not permitted (allowed: [gk_*])",
        ),
        // The index has another's table, whatever it is called.
        (
            "DROP INDEX users_name",
            "access to table \"users\" not permitted (allowed: [gk_*])",
        ),
        ("DROP INDEX none", "no such index: none"),
        (
            "CREATE TABLE gk_a (id INT REFERENCES users (id))",
            "access to table \"users\" not permitted (allowed: [gk_* items])",
        ),
        (
            "CREATE TABLE gk_a AS SELECT * FROM users",
            "access to table \"users\" not permitted (allowed: [gk_* items])",
        ),
        // Others' deletions would reach the new table, and be refused for want of a grant on it.
        (
            "CREATE TABLE gk_a (id INT REFERENCES items (id) ON DELETE CASCADE)",
            "access to table \"items\" not permitted (allowed: [gk_*])",
        ),
        (
            "CREATE TABLE gk_a (id INT, FOREIGN KEY (id) REFERENCES items ON UPDATE SET NULL)",
            "access to table \"items\" not permitted (allowed: [gk_*])",
        ),
        (
            "ALTER TABLE gk_b ADD COLUMN item REFERENCES items (id) ON DELETE SET DEFAULT",
            "access to table \"items\" not permitted (allowed: [gk_*])",
        ),
    ] {
        let error = world.exec(&plugin, sql).await.unwrap_err();
        assert_eq!(error.to_string(), text, "{sql}");
    }
    let without = caller("q", ITEMS);
    let error = world
        .exec(&without, "DROP INDEX users_name")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "DDL statements not permitted");
}

#[tokio::test]
async fn a_changed_schema_shows_in_the_next_result() {
    let world = World::new().await;
    let plugin = caller("p", ITEMS);
    let mut other = raw(&world.main()).await;
    for (n, width) in (3..23).enumerate() {
        for sql in [
            "SELECT * FROM items",
            "SELECT items.* FROM items",
            "SELECT id FROM items",
        ] {
            let rows = world.query(&plugin, sql).await.unwrap();
            let columns = rows[0].as_object().unwrap().len();
            assert_eq!(columns, if sql.contains('*') { width } else { 1 }, "{sql}");
        }
        script(&mut other, &format!("ALTER TABLE items ADD COLUMN c{n}")).await;
    }
    // As many columns, and other names.
    for (from, to) in [("name", "title"), ("title", "name"), ("name", "label")] {
        let change = format!("ALTER TABLE items RENAME COLUMN {from} TO {to}");
        script(&mut other, &change).await;
        for sql in ["SELECT * FROM items", "SELECT * FROM items WHERE id = 2"] {
            let rows = world.query(&plugin, sql).await.unwrap();
            let row = rows[0].as_object().unwrap();
            assert!(row.contains_key(to) && !row.contains_key(from), "{row:?}");
        }
    }
}

/// The widest table that there is: a query over it has no room for a column of ours.
#[tokio::test]
async fn a_table_of_two_thousand_columns_is_read_whole() {
    let world = World::new().await;
    let plugin = caller(
        "p",
        r#"{ "db": [{ "tables": ["wide"], "access": "read" }] }"#,
    );
    let names: Vec<String> = (0..2_000).map(|n| format!("n{n}")).collect();
    let mut other = raw(&world.main()).await;
    let list = names.join(",");
    script(&mut other, &format!("CREATE TABLE wide ({list})")).await;
    script(&mut other, "INSERT INTO wide (n7) VALUES (7)").await;
    for _ in 0..2 {
        let rows = world.query(&plugin, "SELECT * FROM wide").await.unwrap();
        assert_eq!(
            (rows[0].as_object().unwrap().len(), &rows[0]["n7"]),
            (2_000, &json!(7))
        );
    }
    script(&mut other, "ALTER TABLE wide RENAME COLUMN n7 TO seven").await;
    let rows = world.query(&plugin, "SELECT * FROM wide").await.unwrap();
    assert_eq!(rows[0]["seven"], json!(7));
}

/// The driver counts a result's columns once and relies on the count at each row: without care a
/// schema that changes between the two ends the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_changes_all_the_time_breaks_nothing() {
    let world = World::new().await;
    let mut other = raw(&world.main()).await;
    script(&mut other, "PRAGMA journal_mode = WAL").await;
    let plugin = caller("p", ITEMS);
    let changes = async {
        for _ in 0..150 {
            script(&mut other, "ALTER TABLE items ADD COLUMN c").await;
            script(&mut other, "ALTER TABLE items DROP COLUMN c").await;
        }
    };
    let mut changes = std::pin::pin!(changes);
    let mut results = 0;
    loop {
        let queries = async {
            futures_util::future::join_all(
                (0..4).map(|_| world.query(&plugin, "SELECT * FROM items")),
            )
            .await
        };
        tokio::select! {
            () = &mut changes => break,
            all = queries => {
                for rows in all {
                    let rows = rows.unwrap_or_else(|error| panic!("{}", error.chain()));
                    let width = rows[0].as_object().unwrap().len();
                    assert!((3..=4).contains(&width));
                    results += 1;
                }
            }
        }
    }
    assert!(results > 0);
    world.query(&plugin, "SELECT * FROM items").await.unwrap();
}

/// What the operator built into the schema is the operator's grant.
#[tokio::test]
async fn a_view_that_is_granted_shows_what_it_was_made_to_show() {
    let world = World::new().await;
    script(
        &mut raw(&world.main()).await,
        "CREATE VIEW names AS SELECT name FROM users;
         CREATE TRIGGER count_up AFTER INSERT ON items BEGIN UPDATE users SET name = 'seen'; END",
    )
    .await;
    let permissions = r#"{ "db": [
        { "tables": ["names"], "access": "read" }, { "tables": ["items"], "access": "write" }
    ] }"#;
    let plugin = caller("p", permissions);
    let rows = world
        .query(&plugin, "SELECT * FROM names ORDER BY 1")
        .await
        .unwrap();
    assert_eq!(rows, json!([{ "name": "ann" }, { "name": "bob" }]));
    world
        .exec(&plugin, "INSERT INTO items (name) VALUES ('x')")
        .await
        .unwrap();
    let rows = world
        .query(&plugin, "SELECT DISTINCT name FROM names")
        .await
        .unwrap();
    assert_eq!(rows, json!([{ "name": "seen" }]));
}

/// Every connection has all of it in its memory.
#[tokio::test]
async fn a_schema_of_a_mebibyte_is_not_added_to() {
    let world = World::new().await;
    let plugin = caller("p", OWN);
    let checks = vec!["a"; 9_000].join(",");
    let mut made = 0;
    let error = loop {
        let sql = format!("CREATE TABLE gk_{made} (a INT CHECK (a IN ({checks})))");
        match world.exec(&plugin, &sql).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 100, "no end");
    };
    assert_eq!(error.code(), "hostapi.too-large");
    assert_eq!(error.to_string(), "the schema is larger than 1048576 bytes");
    assert!(made > 50, "{made}");
    // What is there can be used, and go.
    world
        .exec(&plugin, "INSERT INTO gk_0 VALUES (1)")
        .await
        .unwrap();
    world.exec(&plugin, "DROP TABLE gk_1").await.unwrap();
    world
        .exec(&plugin, "CREATE TABLE gk_1 (a INT)")
        .await
        .unwrap();
}
