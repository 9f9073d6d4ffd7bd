//! Ways past a filter, each refused here and each shown to work without the filter.

use std::path::Path;

use futures_util::TryStreamExt;
use pinfold_hostapi::{Decision, HostError};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Decode, Executor, Row, Sqlite};

use crate::world::{ALL, ITEMS, ITEMS_READ, SECRET, World, caller, raw};

/// What an attack does where nothing stops it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    /// Shows what is in a table that is not granted.
    Leak,
    /// Changes what is not granted.
    Change,
    /// Makes this file.
    File(&'static str),
    /// Shows something about the database that is not in it: its tables, its path.
    Tells,
    /// This engine as we build it refuses it too; another build need not.
    EngineRefuses,
}

use Harm::{Change, EngineRefuses, File, Leak, Tells};

/// Passed as a query by a plugin that may read `items`.
const QUERIES: &[(&str, Harm)] = &[
    // Tables that a search for FROM and JOIN misses.
    ("SELECT * FROM users", Leak),
    ("SELECT items.name, users.password FROM items, users", Leak),
    ("SELECT * FROM items i JOIN users USING (id)", Leak),
    ("SELECT * FROM users NATURAL LEFT JOIN items", Leak),
    ("SELECT * FROM items CROSS JOIN users", Leak),
    ("SELECT * FROM (items, users)", Leak),
    ("SELECT * FROM (users)", Leak),
    ("SELECT * FROM\"users\"", Leak),
    ("SELECT * FROM`users`", Leak),
    ("SELECT * FROM[users]", Leak),
    ("SELECT * FROM'users'", Leak),
    ("SELECT * FROM main.users", Leak),
    ("SELECT * FROM main . users", Leak),
    ("SELECT * FROM \"main\".\"users\"", Leak),
    ("SELECT * FROM/**/users", Leak),
    ("SELECT * FROM/*x*/main/*y*/./*z*/users", Leak),
    ("SELECT * FROM--\nusers", Leak),
    ("SELECT * FROM -- items\nusers", Leak),
    ("SELECT * FROM\tUSERS", Leak),
    ("SELECT\r*\rFROM\rusers", Leak),
    ("SELECT * FROM\u{c}users", Leak),
    ("SELECT * FROM uSeRs AS items", Leak),
    ("SELECT items.* FROM users items", Leak),
    ("SELECT '/*' , password FROM users -- */ FROM items", Leak),
    ("SELECT \"--\", password FROM users", Leak),
    ("SELECT 1 AS `--`, password FROM users", Leak),
    ("SELECT 1 AS [/*], password FROM users -- */", Leak),
    ("SELECT '\\' , password FROM users WHERE '' = '' -- '", Leak),
    (
        "SELECT * FROM items INDEXED BY sqlite_autoindex_items_1, users",
        Leak,
    ),
    ("SELECT * FROM items NOT INDEXED, users", Leak),
    (
        "SELECT * FROM users INDEXED BY users_name WHERE name = 'ann'",
        Leak,
    ),
    // Tables in expressions.
    ("SELECT (SELECT password FROM users)", Leak),
    (
        "SELECT name, (SELECT group_concat(password) FROM users) FROM items",
        Leak,
    ),
    (
        "SELECT CASE WHEN 1 THEN (SELECT password FROM users) END",
        Leak,
    ),
    (
        "SELECT upper((SELECT 'x' || password FROM users)), lower('HUNTER2')",
        Leak,
    ),
    (
        "SELECT name FROM items ORDER BY (SELECT password FROM users), 'hunter2'",
        Tells,
    ),
    (
        "SELECT name FROM items LIMIT (SELECT count(*) FROM users)",
        Tells,
    ),
    (
        "SELECT name FROM items WHERE EXISTS (SELECT 1 FROM users WHERE password LIKE 'h%')",
        Tells,
    ),
    (
        "SELECT name FROM items WHERE 1 IN (SELECT id FROM users)",
        Tells,
    ),
    (
        "SELECT name FROM items WHERE 'x' NOT IN everybody",
        EngineRefuses,
    ),
    (
        "WITH one AS (SELECT 1 AS x FROM users) SELECT x FROM one WHERE x IN one",
        Tells,
    ),
    (
        "WITH t(p) AS (SELECT password FROM users) SELECT p FROM t WHERE p IN t",
        Leak,
    ),
    (
        "SELECT 'hunter2' WHERE 'hunter2' IN (SELECT password FROM users)",
        Leak,
    ),
    (
        "SELECT max(name) FILTER (WHERE (SELECT 1 FROM users)) FROM items",
        Tells,
    ),
    (
        "SELECT sum(1) OVER (ORDER BY (SELECT password FROM users)) FROM items",
        Tells,
    ),
    // Compound queries.
    (
        "SELECT name FROM items UNION SELECT password FROM users",
        Leak,
    ),
    (
        "SELECT name FROM items UNION ALL SELECT password FROM users",
        Leak,
    ),
    (
        "SELECT password FROM users EXCEPT SELECT name FROM items",
        Leak,
    ),
    ("VALUES ((SELECT password FROM users))", Leak),
    ("VALUES (1) UNION SELECT password FROM users", Leak),
    // WITH, both ways: a table behind a name, and a name in front of a table.
    (
        "WITH items AS (SELECT * FROM users) SELECT * FROM items",
        Leak,
    ),
    ("WITH users AS (SELECT 1) SELECT * FROM main.users", Leak),
    (
        "WITH users AS (SELECT 1) SELECT * FROM items, main.\"users\"",
        Leak,
    ),
    (
        "SELECT * FROM (WITH users AS (SELECT 1) SELECT * FROM users), users",
        Leak,
    ),
    (
        "SELECT (WITH users AS (SELECT 1 x) SELECT x FROM users), password FROM users",
        Leak,
    ),
    (
        "WITH a AS (WITH users AS (SELECT 1) SELECT * FROM users) SELECT * FROM a, users",
        Leak,
    ),
    (
        "WITH RECURSIVE a(x) AS (SELECT password FROM users UNION SELECT x FROM a) SELECT * FROM a",
        Leak,
    ),
    (
        "WITH a AS (SELECT * FROM b), b AS (SELECT * FROM users) SELECT * FROM a",
        Leak,
    ),
    // A view is a name of its own.
    ("SELECT * FROM everybody", Leak),
    // What is not a table of the application.
    ("SELECT sql FROM sqlite_master", Tells),
    ("SELECT sql FROM sqlite_schema", Tells),
    ("SELECT sql FROM \"sqlite_master\"", Tells),
    ("SELECT sql FROM main.sqlite_schema", Tells),
    ("SELECT name FROM pragma_table_list", Tells),
    ("SELECT name FROM pragma_table_info('users')", Tells),
    (
        "SELECT name FROM pragma_table_info WHERE arg = 'users'",
        Tells,
    ),
    ("SELECT file FROM pragma_database_list", Tells),
    ("SELECT name FROM dbstat", Tells),
    ("SELECT * FROM items, pragma_database_list", Tells),
    ("PRAGMA table_info(users)", Tells),
    ("PRAGMA database_list", Tells),
    ("EXPLAIN SELECT * FROM users", Tells),
    ("EXPLAIN QUERY PLAN SELECT * FROM users", Tells),
    // Writes in the place of a read.
    ("DELETE FROM users", Change),
    ("UPDATE users SET password = ''", Change),
    ("INSERT INTO users VALUES (9, '', '')", Change),
    ("REPLACE INTO users VALUES (1, '', '')", Change),
    ("DELETE FROM items", Change),
    ("WITH x AS (SELECT 1) DELETE FROM items", Change),
    (
        "WITH x AS (SELECT 1) UPDATE items SET name = '' WHERE id = 1",
        Change,
    ),
    ("INSERT INTO items (name) VALUES ('x') RETURNING *", Change),
    ("DELETE FROM users RETURNING password", Leak),
    ("DROP TABLE users", Change),
    ("/* SELECT */ DROP TABLE users", Change),
    ("PRAGMA writable_schema = ON", Tells),
    ("PRAGMA user_version = 7", Change),
    ("REINDEX", Tells),
    ("VACUUM", Tells),
    ("BEGIN EXCLUSIVE", Tells),
    // More than one statement.
    ("SELECT 1; SELECT password FROM users", Leak),
    ("SELECT 1; DELETE FROM users", Change),
    ("SELECT 1;/**/;DROP TABLE users", Change),
    ("SELECT ';'; DELETE FROM users", Change),
    ("SELECT 1 -- ;\n; DELETE FROM users", Change),
    // Other databases and files.
    (
        "ATTACH DATABASE '{dir}/pinfold.db' AS p; SELECT t FROM p.tokens",
        Leak,
    ),
    (
        "ATTACH '{dir}/new.db' AS n; CREATE TABLE n.t (x)",
        File("new.db"),
    ),
    ("VACUUM INTO '{dir}/copy.db'", File("copy.db")),
    ("VACUUM main INTO '{dir}/copy.db'", File("copy.db")),
    ("SELECT load_extension('{dir}/x.so')", EngineRefuses),
    ("SELECT readfile('/etc/passwd')", EngineRefuses),
    ("SELECT writefile('{dir}/f', 'x')", EngineRefuses),
    ("SELECT edit('x')", EngineRefuses),
    (
        "SELECT fts3_tokenizer('simple', x'4141414141414141')",
        EngineRefuses,
    ),
    (
        "SELECT name FROM items INTO OUTFILE '/tmp/x'",
        EngineRefuses,
    ),
    ("TABLE users", EngineRefuses),
    ("SELECT * FROM ONLY users", EngineRefuses),
    ("SELECT sqlite_version()", Tells),
    ("SELECT sqlite_compileoption_get(1)", Tells),
    ("SELECT last_insert_rowid()", Tells),
    ("SELECT length(zeroblob(1000000))", Tells),
    ("SELECT length(randomblob(1000))", Tells),
    // Where a lexer may end before the database does.
    (
        "SELECT 1 FROM items WHERE name = x'\\' OR 1 UNION SELECT password FROM users --'",
        EngineRefuses,
    ),
    ("SELECT N'a' || password FROM users --'", EngineRefuses),
    ("SELECT E'\\' , password FROM users --'", EngineRefuses),
    (
        "SELECT $$ FROM items $$, password FROM users",
        EngineRefuses,
    ),
    ("SELECT 1 # FROM items\n FROM users", EngineRefuses),
    ("SELECT password FROM users /* unterminated", Leak),
    ("SELECT password AS a\u{a0}b FROM users", Leak),
    ("\u{feff}SELECT password FROM users", Leak),
];

/// Passed for execution by a plugin that may read and write `items`, without `ddl`.
const EXECS: &[(&str, Harm)] = &[
    ("DELETE FROM users", Change),
    ("DELETE FROM main.users", Change),
    ("DELETE FROM \"users\"", Change),
    ("DELETE FROM [users] WHERE 1", Change),
    ("UPDATE users SET password = 'x'", Change),
    ("UPDATE OR REPLACE users SET password = 'x'", Change),
    ("UPDATE/**/`users`SET password = 'x'", Change),
    ("INSERT INTO users VALUES (9, 'x', 'x')", Change),
    ("INSERT OR REPLACE INTO users VALUES (1, 'x', 'x')", Change),
    ("INSERT/**/INTO/**/users DEFAULT VALUES", Change),
    ("REPLACE INTO users VALUES (1, 'x', 'x')", Change),
    ("WITH items AS (SELECT 1) DELETE FROM users", Change),
    (
        "WITH users AS (SELECT 1 AS id) DELETE FROM users WHERE id IN (SELECT id FROM users)",
        Change,
    ),
    (
        "WITH users AS (SELECT 1) UPDATE users SET password = ''",
        Change,
    ),
    (
        "WITH users AS (SELECT 1) INSERT INTO users DEFAULT VALUES",
        Change,
    ),
    // Reads that come out by what is written.
    (
        "INSERT INTO items (name) SELECT password || id FROM users",
        Change,
    ),
    (
        "INSERT INTO items (name) VALUES ((SELECT password FROM users))",
        Change,
    ),
    (
        "INSERT INTO items (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = (SELECT password FROM users)",
        Change,
    ),
    (
        "UPDATE items SET name = (SELECT password FROM users) WHERE id = 1",
        Change,
    ),
    (
        "UPDATE items SET name = users.password FROM users WHERE items.id = 1",
        Change,
    ),
    (
        "UPDATE items SET (name, owner) = (SELECT password, id FROM users) WHERE id = 1",
        Change,
    ),
    (
        "UPDATE items SET name = 'x' WHERE id = 1 AND EXISTS (SELECT 1 FROM users WHERE password LIKE 'h%')",
        Change,
    ),
    (
        "DELETE FROM items WHERE id IN (SELECT id + 1 FROM users)",
        Change,
    ),
    (
        "DELETE FROM items WHERE id > (WITH t AS (SELECT * FROM users) SELECT count(*) FROM t)",
        Change,
    ),
    (
        "WITH t AS (SELECT password p, id i FROM users) INSERT INTO items (name) SELECT p || i FROM t",
        Change,
    ),
    // The schema.
    ("CREATE TABLE gk_x (a)", Change),
    (
        "CREATE TABLE IF NOT EXISTS gk_x AS SELECT * FROM users",
        Change,
    ),
    ("CREATE TEMP TABLE items AS SELECT * FROM users", Tells),
    ("DROP TABLE items", Change),
    ("DROP TABLE IF EXISTS users", Change),
    ("ALTER TABLE items ADD COLUMN x", Change),
    ("ALTER TABLE users RENAME TO items2", Change),
    ("CREATE INDEX i ON items (name)", Change),
    ("DROP INDEX users_name", Change),
    ("CREATE VIEW items_all AS SELECT * FROM users", Change),
    (
        "CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM users; END",
        Change,
    ),
    (
        "CREATE TEMP TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM users; END",
        Tells,
    ),
    ("CREATE VIRTUAL TABLE gk_f USING fts5(a)", Change),
    ("DELETE FROM sqlite_sequence", EngineRefuses),
    ("UPDATE sqlite_schema SET sql = 'x'", EngineRefuses),
    (
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = sql || ' ' WHERE name = 'users'",
        Change,
    ),
    ("PRAGMA foreign_keys = OFF", Tells),
    ("ANALYZE", Change),
    // More than one statement.
    ("DELETE FROM items WHERE 0; DELETE FROM users", Change),
    (
        "INSERT INTO items (name) VALUES (';'); DROP TABLE users",
        Change,
    ),
    ("BEGIN; DELETE FROM users; COMMIT", Change),
    ("SAVEPOINT s", Tells),
    (
        "ATTACH '{dir}/pinfold.db' AS p; DELETE FROM p.tokens",
        Tells,
    ),
];

/// Passed for execution by a plugin that may do everything on every table.
const NEVER: &[(&str, Harm)] = &[
    ("CREATE VIEW v AS SELECT * FROM users", Change),
    (
        "CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM users; END",
        Change,
    ),
    ("CREATE TEMP TABLE t (a)", Tells),
    ("CREATE TABLE temp.t (a)", Tells),
    ("CREATE VIRTUAL TABLE f USING fts5(a)", Change),
    (
        "CREATE VIRTUAL TABLE f USING csv(filename='/etc/passwd')",
        EngineRefuses,
    ),
    (
        "ATTACH '{dir}/new.db' AS n; CREATE TABLE n.t (x)",
        File("new.db"),
    ),
    ("VACUUM INTO '{dir}/copy.db'", File("copy.db")),
    ("PRAGMA user_version = 7", Change),
    ("CREATE TABLE t (a DEFAULT (load_extension('x')))", Change),
    ("CREATE TABLE t (a CHECK (zeroblob(100) = a))", Change),
    ("CREATE TABLE t (a, b AS (sqlite_version()))", EngineRefuses),
    ("CREATE INDEX i ON items (hex(zeroblob(9)))", Change),
    ("DROP VIEW everybody", Change),
    ("ALTER TABLE items RENAME TO sqlite_x", EngineRefuses),
    ("DELETE FROM pragma_table_list", EngineRefuses),
];

#[tokio::test]
async fn no_query_reaches_past_its_grant() {
    let mut idle = Vec::new();
    let untouched = contents(&World::new().await).await;
    for (sql, harm) in QUERIES {
        let world = World::new().await;
        let attacker = caller("attacker", ITEMS_READ);
        let sql = sql.replace("{dir}", &world.dir.path().display().to_string());
        let outcome = world.query(&attacker, &sql).await;
        refused(
            &world,
            &untouched,
            &sql,
            outcome.map(|rows| rows.to_string()),
        )
        .await;
        idle.extend(works_without_us(&world, &sql, *harm).await.err());
    }
    assert!(idle.is_empty(), "harmless anyway: {idle:#?}");
}

#[tokio::test]
async fn no_statement_reaches_past_its_grant() {
    let mut idle = Vec::new();
    let untouched = contents(&World::new().await).await;
    for (sql, harm) in EXECS {
        let world = World::new().await;
        let attacker = caller("attacker", ITEMS);
        let sql = sql.replace("{dir}", &world.dir.path().display().to_string());
        let outcome = world.exec(&attacker, &sql).await;
        refused(
            &world,
            &untouched,
            &sql,
            outcome.map(|count| count.to_string()),
        )
        .await;
        idle.extend(works_without_us(&world, &sql, *harm).await.err());
    }
    assert!(idle.is_empty(), "harmless anyway: {idle:#?}");
}

#[tokio::test]
async fn some_statements_are_refused_whatever_is_granted() {
    let mut idle = Vec::new();
    let untouched = contents(&World::new().await).await;
    for (sql, harm) in NEVER {
        let world = World::new().await;
        let attacker = caller("attacker", ALL);
        let sql = sql.replace("{dir}", &world.dir.path().display().to_string());
        let outcome = world.exec(&attacker, &sql).await;
        refused(
            &world,
            &untouched,
            &sql,
            outcome.map(|count| count.to_string()),
        )
        .await;
        idle.extend(works_without_us(&world, &sql, *harm).await.err());
    }
    assert!(idle.is_empty(), "harmless anyway: {idle:#?}");
}

/// A wildcard reaches every table of the application, and not the database itself.
#[tokio::test]
async fn a_wildcard_does_not_reach_the_catalogue() {
    let world = World::new().await;
    let untouched = contents(&world).await;
    let all = caller("all", ALL);
    for sql in [
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM main.sqlite_master",
        "SELECT * FROM pragma_table_list",
        "SELECT * FROM dbstat",
    ] {
        refused(
            &world,
            &untouched,
            sql,
            world.query(&all, sql).await.map(|rows| rows.to_string()),
        )
        .await;
    }
    let named = caller(
        "named",
        r#"{ "db": [{ "tables": ["SQLITE_master"], "access": "read" }] }"#,
    );
    assert!(
        world
            .query(&named, "SELECT name FROM sqlite_master")
            .await
            .is_ok()
    );
    assert!(
        world
            .query(&named, "SELECT name FROM sqlite_schema")
            .await
            .is_err()
    );
}

/// The call was refused as a matter of permission, not by an accident of the database, and left
/// nothing behind.
async fn refused(
    world: &World,
    untouched: &(String, Vec<String>),
    sql: &str,
    outcome: Result<String, HostError>,
) {
    match outcome {
        Ok(answer) => panic!("{sql}: {answer}"),
        Err(error) => assert!(!error.chain().contains(SECRET), "{sql}: {}", error.chain()),
    }
    assert_eq!(world.last_record().decision, Decision::Deny, "{sql}");
    assert_eq!(dump(&world.main()).await, untouched.0, "{sql}");
    assert_eq!(files(world.dir.path()), untouched.1, "{sql}");
}

/// Whether the same statement on a plain connection does what it is meant to.
async fn works_without_us(world: &World, sql: &str, harm: Harm) -> Result<(), String> {
    let before = dump(&world.main()).await;
    let mut connection = raw(&world.main()).await;
    let outcome = run(&mut connection, sql).await;
    drop(connection);
    let works = match harm {
        EngineRefuses => outcome.is_err(),
        Leak => outcome.as_ref().is_ok_and(|rows| rows.contains(SECRET)),
        Tells => outcome.is_ok(),
        Change => dump(&world.main()).await != before,
        File(name) => world.dir.path().join(name).exists(),
    };
    if works {
        Ok(())
    } else {
        Err(format!("{sql}: {harm:?}: {outcome:?}"))
    }
}

/// Every value that the statements give, as text.
async fn run(connection: &mut SqliteConnection, sql: &str) -> Result<String, sqlx::Error> {
    let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    let rows: Vec<_> = connection.fetch(statements).try_collect().await?;
    let mut text = String::new();
    for row in rows {
        for index in 0..row.len() {
            let bytes = <&[u8] as Decode<'_, Sqlite>>::decode(row.try_get_raw(index)?);
            text.push_str(&String::from_utf8_lossy(bytes.unwrap_or_default()));
            text.push(' ');
        }
    }
    Ok(text)
}

/// What an attack could have changed: the database, and the files of its directory.
async fn contents(world: &World) -> (String, Vec<String>) {
    (dump(&world.main()).await, files(world.dir.path()))
}

/// All that is in the database, and what belongs to it.
async fn dump(path: &Path) -> String {
    let mut connection = raw(path).await;
    let mut all = String::new();
    for sql in [
        "PRAGMA user_version",
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name",
        "SELECT * FROM items",
        "SELECT * FROM users",
        "SELECT * FROM orders",
    ] {
        all.push_str(
            &run(&mut connection, sql)
                .await
                .unwrap_or_else(|error| error.to_string()),
        );
        all.push('\n');
    }
    all
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
