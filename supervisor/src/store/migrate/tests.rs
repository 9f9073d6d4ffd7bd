//! Files of earlier versions come with all that is in them; files of later versions stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pinfold_gateway::token::TokenHash;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

use super::*;
use crate::store::Store;
use crate::store::audit::reader::{Reader, Wanted};

/// Databases as the versions that had these schemas left them.
const EARLIER: [(i64, &str); 4] = [
    (
        1,
        include_str!("../../../../tests/fixtures/store/schema-1.sql"),
    ),
    (
        2,
        include_str!("../../../../tests/fixtures/store/schema-2.sql"),
    ),
    (
        3,
        include_str!("../../../../tests/fixtures/store/schema-3.sql"),
    ),
    (
        4,
        include_str!("../../../../tests/fixtures/store/schema-4.sql"),
    ),
];

/// Makes such a file, in the journal mode that every version uses.
async fn earlier(path: &Path, sql: &'static str) {
    let mut connection = open_to_write(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn open_to_write(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    SqliteConnection::connect_with(&options).await.unwrap()
}

fn backups(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.with_file_name("backups"));
    let mut found: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

/// As docs/operations/upgrade.md has it.
fn put_back(backup: &Path, path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", path.display())).unwrap_or_default();
    }
    fs::copy(backup, path).unwrap();
}

async fn count(path: &Path, table: &str) -> i64 {
    let mut connection = open_to_read(path).await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
    connection.close().await.unwrap();
    count.unwrap()
}

#[tokio::test]
async fn a_file_of_each_earlier_version_comes_with_all_that_is_in_it_and_is_copied_aside_first() {
    for (was, sql) in EARLIER {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        earlier(&path, sql).await;
        let records = count(&path, "audit").await;
        let store = Store::open(&path).await.unwrap();
        // Its token opens the gateway, its plugins keep their age, what was switched off stays so.
        let hash = TokenHash::of("pinfold-an-earlier-one");
        let tokens = store.token_records().await.unwrap();
        assert!(
            tokens
                .iter()
                .any(|one| one.hash == hash && one.name == "ci")
        );
        let number = async |id: &str| store.plugin_number(&id.parse().unwrap()).await.unwrap();
        assert_eq!((number("elder").await, number("hello").await), (1, 2));
        let hello = "hello".parse().unwrap();
        assert_eq!(store.is_enabled(&hello).await.unwrap(), was == 1);
        store.close().await;
        // The trail is whole, with every record of before in it.
        let mut reader = Reader::open(&path).await.unwrap();
        reader.verify(&BTreeMap::new()).await.unwrap();
        let wanted = Wanted {
            limit: 100,
            ..Wanted::default()
        };
        let found = reader.list(&wanted).await.unwrap();
        let refused = found.iter().find(|record| record.decision == "deny");
        let refused = refused.unwrap();
        assert_eq!((refused.part, refused.count), ("traffic", 12));
        let chained = i64::from(was < 4);
        assert_eq!(found.len(), usize::try_from(records + chained).unwrap());
        // The copy is the file as it was.
        let [backup] = &backups(&path)[..] else {
            panic!("schema {was}: {:?}", backups(&path));
        };
        let name = backup.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            name.starts_with(&format!("pinfold-schema-{was}-")),
            "{name}"
        );
        assert_eq!(
            backup.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut copied = open_to_read(backup).await.unwrap();
        assert_eq!(schema(&mut copied).await.unwrap(), was);
        assert_eq!(count(backup, "audit").await, records);
        assert_eq!(count(backup, "token").await, 1);
        // A file of this version is not copied again, and the copy can be put back.
        Store::open(&path).await.unwrap().close().await;
        assert_eq!(backups(&path).len(), 1);
        drop(reader);
        put_back(backup, &path);
        Store::open(&path).await.unwrap().close().await;
        assert_eq!(backups(&path).len(), 2);
    }
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused_by_name_with_the_copy_and_not_a_byte_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    earlier(&path, EARLIER[2].1).await;
    Store::open(&path).await.unwrap().close().await;
    let mut connection = open_to_write(&path).await;
    let later = "INSERT INTO written_by VALUES (99, '9.8.7', '2030-01-01T00:00:00Z');
                 CREATE TABLE unheard_of (x);
                 PRAGMA user_version = 99";
    sqlx::raw_sql(later).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    let said = error.to_string();
    let own = env!("CARGO_PKG_VERSION");
    assert!(
        said.ends_with(&format!(
            "pinfold.db is of version 9.8.7, schema 99; this is version {own}, which knows schemas \
             up to {}",
            known()
        )),
        "{said}"
    );
    let hint = error.hint().unwrap();
    let backup = backups(&path)[0].display().to_string();
    assert!(hint.contains("install the version 9.8.7 again"), "{hint}");
    assert!(hint.contains(&backup), "{hint}");
    assert_eq!(fs::read(&path).unwrap(), before);
    // Nor does whoever reads the trail take it for something it is not.
    assert!(matches!(
        Reader::open(&path).await,
        Err(StoreError::Schema { found: 99, .. })
    ));
    // What the hint says to do, done.
    put_back(Path::new(&backup), &path);
    Store::open(&path).await.unwrap().close().await;
}

#[tokio::test]
async fn a_later_version_that_does_not_say_its_name_is_refused_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    for number in [77, -1] {
        let mut connection = open_to_write(&path).await;
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {number}"));
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let error = Store::open(&path).await.unwrap_err();
        assert!(
            error.to_string().contains("is of a later version"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("pinfold restore"));
    }
}

#[tokio::test]
async fn what_cannot_be_copied_aside_is_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    earlier(&path, EARLIER[1].1).await;
    // Where the copies would lie there is a file.
    fs::write(path.with_file_name("backups"), "x").unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Copy { .. }), "{error:?}");
    let mut connection = open_to_read(&path).await.unwrap();
    assert_eq!(schema(&mut connection).await.unwrap(), 2);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_file_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    earlier(&path, EARLIER[0].1).await;
    // In the way of the last step: those before it would have gone through.
    let mut connection = open_to_write(&path).await;
    let sql = "CREATE TABLE written_by (something TEXT)";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    Store::open(&path).await.unwrap_err();
    let mut connection = open_to_read(&path).await.unwrap();
    assert_eq!(schema(&mut connection).await.unwrap(), 1);
    let flags: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'plugin_flag'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(flags, 0);
}

#[tokio::test]
async fn a_copy_is_of_one_moment_while_records_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    let store = Store::open(&path).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let writing = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let mut at = 0;
            while !stop.is_cancelled() {
                let entry = audit::Entry::of_daemon("admin.rescan", at.to_string());
                store.audit(entry).await.unwrap();
                at += 1;
            }
        }
    });
    for number in 0..5 {
        let to = directory.path().join(format!("copy{number}.db"));
        copy(&path, &to).await.unwrap();
        let mut reader = Reader::open(&to).await.unwrap();
        reader.verify(&BTreeMap::new()).await.unwrap();
    }
    stop.cancel();
    writing.await.unwrap();
    store.close().await;
}
