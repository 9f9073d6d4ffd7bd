//! Statements that smuggle a table or a write: by the plugin through the broker, and on a copy of the
//! same database by a client of its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::attempt::{Attempt, Seen};
use super::bait::{Bait, TRUDY};
use super::{Daemon, Results};

/// What is in the table that is not granted.
const SECRET: &str = "hunter2";

/// What shows that the database was looked into: its secret, or its schema.
const LEAKS: [&str; 3] = [SECRET, "CREATE TABLE users", "password"];

const CONTENT: &str = "
    CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO items (name) VALUES ('one'), ('two');
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, password TEXT);
    INSERT INTO users (name, password) VALUES ('ann', 'hunter2');
    CREATE VIEW everybody AS SELECT name, password FROM users;
";

fn database(place: &Path) -> PathBuf {
    place.join("db/main.db")
}

/// Makes the database; the daemon's lines about it.
pub(super) fn configuration(place: &Path) -> String {
    let path = database(place);
    let directory = path.parent().unwrap();
    fs::create_dir_all(directory).unwrap();
    if !path.exists() {
        block_on(async {
            let mut connection = open(&path).await;
            sqlx::raw_sql(CONTENT)
                .execute(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();
        });
    }
    // The daemon gives up root, and writes beside it.
    let user = nix::unistd::User::from_name("pinfold").unwrap();
    if let Some(user) = user {
        for path in [directory, &path] {
            nix::unistd::chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }
    format!(
        "[hostapi.database.main]\nurl = 'sqlite://{}'\n",
        path.display()
    )
}

pub(super) fn run(
    daemon: &Daemon,
    bait: &Bait,
    queries: &[&Attempt],
    executions: &[&Attempt],
) -> Results {
    let before = contents(&database(bait.path()));
    let mut results = Results::new();
    for (method, attempts) in [("db_query", queries), ("db_exec", executions)] {
        for attempt in attempts {
            let sql = statement(attempt, bait.path());
            let seen = Seen {
                inside: through_broker(daemon, method, &sql),
                outside: plainly(bait.path(), method, &sql),
            };
            results.insert(attempt.id, seen);
        }
    }
    assert_eq!(
        contents(&database(bait.path())),
        before,
        "nothing was changed"
    );
    results
}

/// The statement that an attempt is described by.
fn statement(attempt: &Attempt, place: &Path) -> String {
    let sql = attempt.tries.split('`').nth(1).unwrap();
    sql.replace("{dir}", &place.join("db").display().to_string())
        .replace("{newline}", "\n")
}

fn through_broker(daemon: &Daemon, method: &str, sql: &str) -> String {
    let answer = daemon.host(TRUDY, method, &json!({"query": sql, "args": null}));
    match answer["error"].as_str() {
        Some(refusal) if !refusal.is_empty() && !refusal.contains(SECRET) => refusal.to_owned(),
        _ => "ok".to_owned(),
    }
}

/// What the statement does on a copy, with nothing in between.
fn plainly(place: &Path, method: &str, sql: &str) -> String {
    let copy = place.join("copy");
    fs::create_dir_all(&copy).unwrap();
    let path = copy.join("main.db");
    fs::copy(database(place), &path).unwrap();
    let sql = sql.replace("/db/", "/copy/");
    let before = (contents(&path), files(&copy));
    let outcome = block_on(async {
        let mut connection = open(&path).await;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.as_str()));
        let rows = rows.fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        rows
    });
    let has_changed = (contents(&path), files(&copy)) != before;
    fs::remove_dir_all(copy).unwrap();
    match outcome {
        _ if has_changed => "ok".to_owned(),
        Err(error) => error.to_string(),
        Ok(rows) if method == "db_exec" || rows.iter().any(leaks) => "ok".to_owned(),
        Ok(_) => "nothing came of it".to_owned(),
    }
}

fn leaks(row: &SqliteRow) -> bool {
    (0..row.len())
        .filter_map(|at| row.try_get::<String, _>(at).ok())
        .any(|text| LEAKS.iter().any(|leak| text.contains(leak)))
}

/// Everything in a database.
fn contents(path: &Path) -> Vec<String> {
    block_on(async {
        let mut connection = open(path).await;
        let rows = "SELECT sql AS text FROM sqlite_schema UNION ALL SELECT id || name FROM items";
        let mut found = texts(&mut connection, rows).await;
        let users = "SELECT id || name || password AS text FROM users";
        found.extend(texts(&mut connection, users).await);
        connection.close().await.unwrap();
        found
    })
}

/// The texts that a query gives; its error where the table is gone.
async fn texts(connection: &mut SqliteConnection, sql: &'static str) -> Vec<String> {
    match sqlx::query(sql).fetch_all(connection).await {
        Ok(rows) => rows
            .iter()
            .map(|row| row.try_get(0).unwrap_or_default())
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    options.create_if_missing(true).connect().await.unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
