//! A trail that somebody has had their hands on is found, and which record it is.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;

use super::*;
use crate::store::Store;
use crate::store::audit::{Entry, Group};

/// A trail of ten records of administrators, and ten of plugins in between.
async fn trail() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    let store = Store::open(&path).await.unwrap();
    for number in 0..10 {
        for action in ["admin.rescan", "hostapi.cache.get"] {
            let entry = Entry::admin("uid:0".into(), action, number.to_string());
            let mut group = Group::default();
            group.counted.insert(entry, 1 + number);
            store.write_group(&group).await.unwrap();
        }
    }
    (directory, store)
}

async fn change(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

async fn check(connection: &mut SqliteConnection) -> Result<Whole, BrokenTrail> {
    verify(connection, &BTreeMap::new(), 2).await
}

/// What is found after a change; the trail is as it was afterwards.
async fn found(store: &Store, sql: &'static str) -> String {
    let mut transaction = store.pool.begin().await.unwrap();
    change(&mut transaction, sql).await;
    let error = check(&mut transaction).await.unwrap_err();
    transaction.rollback().await.unwrap();
    error.to_string()
}

#[tokio::test]
async fn what_was_altered_removed_put_in_or_moved_is_found() {
    let (_directory, store) = trail().await;
    // Number 1 says that there were no earlier ones, 2 and 3 are the first of each part.
    for (sql, number) in [
        ("UPDATE audit SET decision = 'deny' WHERE number = 8", 8),
        ("UPDATE audit SET subject = 'x' WHERE number = 9", 9),
        ("UPDATE audit SET actor = 'uid:1' WHERE number = 2", 2),
        (
            "UPDATE audit SET time = '2020-01-01T00:00:00Z' WHERE number = 12",
            12,
        ),
        ("UPDATE audit SET detail = 'x' WHERE number = 13", 13),
        ("UPDATE audit SET count = 99 WHERE number = 21", 21),
        ("UPDATE audit SET hash = x'00' WHERE number = 10", 10),
        ("UPDATE audit SET hash = zeroblob(32) WHERE number = 10", 10),
        ("UPDATE audit SET part = 1 WHERE number = 6", 6),
        // Nobody's part.
        ("UPDATE audit SET part = 7 WHERE number = 21", 21),
        // The one after it does not fit what is left.
        ("DELETE FROM audit WHERE number = 8", 10),
        ("DELETE FROM audit WHERE number = 1", 2),
        ("DELETE FROM audit WHERE number IN (4, 6, 8)", 10),
        // All of one part, or its end while the other goes on.
        ("DELETE FROM audit WHERE part = 1", 3),
        ("DELETE FROM audit WHERE number IN (18, 20)", 18),
        // One that takes another's place, with its hash.
        (
            "DELETE FROM audit WHERE number = 8; UPDATE audit SET number = 8 WHERE number = 10",
            8,
        ),
        (
            "UPDATE audit SET number = 100 WHERE number = 8;
             UPDATE audit SET number = 8 WHERE number = 10;
             UPDATE audit SET number = 10 WHERE number = 100",
            8,
        ),
        (
            "INSERT INTO audit SELECT number + 100, time, actor, action, subject, decision,
                permission, request_id, count, part, plugin, detail, hash
             FROM audit WHERE number = 20",
            120,
        ),
    ] {
        let found = found(&store, sql).await;
        let expected = format!("record {number}: ");
        assert!(found.starts_with(&expected), "{sql}: {found}");
    }
    let whole = check(&mut store.pool.acquire().await.unwrap())
        .await
        .unwrap();
    let records: Vec<_> = whole
        .parts
        .iter()
        .map(|part| (part.part, part.records))
        .collect();
    assert_eq!(records, [("control", 11), ("traffic", 10)]);
}

#[tokio::test]
async fn an_end_that_was_cut_off_and_a_trail_written_anew_are_found_by_what_was_seen() {
    let (_directory, store) = trail().await;
    let mut connection = store.pool.acquire().await.unwrap();
    let heads = heads(&mut connection).await.unwrap();
    let seen: BTreeMap<_, _> = heads.iter().map(|head| (head.number, head.hash)).collect();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [20, 21]);
    verify(&mut connection, &seen, 2).await.unwrap();

    let other = BTreeMap::from([(12, seen[&20])]);
    let error = verify(&mut connection, &other, 2).await.unwrap_err();
    assert!(error.to_string().starts_with("record 12 was "), "{error}");

    change(&mut connection, "DELETE FROM audit WHERE number > 19").await;
    check(&mut connection).await.unwrap();
    let error = verify(&mut connection, &seen, 2).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "record 20 was there, and the trail ends with 19"
    );

    // Whoever can write the file can make another whole trail: not one with the same hashes.
    drop(connection);
    for number in 0..4 {
        let entry = Entry::admin("uid:0".into(), "admin.rescan", number.to_string());
        store.audit(entry).await.unwrap();
    }
    let mut connection = store.pool.acquire().await.unwrap();
    check(&mut connection).await.unwrap();
    let error = verify(&mut connection, &seen, 2).await.unwrap_err();
    assert!(error.to_string().starts_with("record 20 was "), "{error}");
}

#[tokio::test]
async fn what_is_old_is_taken_away_and_nobody_else_can_say_so() {
    let (_directory, store) = trail().await;
    let mut connection = store.pool.acquire().await.unwrap();
    let mut appender = super::super::Appender::begin(&mut connection)
        .await
        .unwrap();
    appender.trim(2).await.unwrap();
    let whole = check(&mut connection).await.unwrap();
    assert_eq!(whole.parts[0].first, 18);
    let gone = BTreeMap::from([(5, BEGINNING)]);
    let error = verify(&mut connection, &gone, 2).await.unwrap_err();
    assert!(
        matches!(error, BrokenTrail::TooOld { number: 5, .. }),
        "{error}"
    );
    // More than is taken away by itself.
    let error = verify(&mut connection, &BTreeMap::new(), 3)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("more was taken away"), "{error}");
    change(&mut connection, "DELETE FROM audit WHERE number = 18").await;
    check(&mut connection).await.unwrap_err();
}

#[tokio::test]
async fn records_of_an_earlier_version_are_chained_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    let store = Store::open(&path).await.unwrap();
    let mut connection = store.pool.acquire().await.unwrap();
    // As that version left it.
    let earlier = "
        DROP TABLE audit; DROP TABLE plugin_policy; DROP TABLE written_by;
        CREATE TABLE audit (
            number INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, actor TEXT NOT NULL,
            action TEXT NOT NULL, subject TEXT NOT NULL, decision TEXT NOT NULL, permission TEXT,
            request_id TEXT, count INTEGER NOT NULL
        ) STRICT;
        INSERT INTO audit (number, time, actor, action, subject, decision, count) VALUES
            (5, '2025-03-01T08:00:00.5+00:00', 'uid:0', 'admin.rescan', 'all', 'allow', 1),
            (9, '2025-03-01T08:00:01+00:00', 'plugin:a', 'hostapi.cache.get', 'k', 'deny', 7),
            (10, '2025-03-01T08:00:02+00:00', 'uid:0', 'admin.rescan', 'all', 'allow', 1);
        PRAGMA user_version = 3";
    change(&mut connection, earlier).await;
    drop(connection);
    store.close().await;

    let store = Store::open(&path).await.unwrap();
    let mut connection = store.pool.acquire().await.unwrap();
    let whole = check(&mut connection).await.unwrap();
    let parts: Vec<_> = whole
        .parts
        .iter()
        .map(|part| (part.first, part.last, part.records))
        .collect();
    assert_eq!(parts, [(5, 11, 3), (9, 9, 1)]);
    let said: String = sqlx::query_scalar("SELECT subject FROM audit WHERE number = 11")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(said, "3 earlier records");
    change(
        &mut connection,
        "UPDATE audit SET count = 1 WHERE number = 9",
    )
    .await;
    let error = check(&mut connection).await.unwrap_err();
    assert!(error.to_string().starts_with("record 9: "), "{error}");
}
