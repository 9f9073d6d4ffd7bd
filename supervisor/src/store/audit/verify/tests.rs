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
    let seen: BTreeMap<_, _> = heads
        .iter()
        .map(|head| (head.number, Seen::from(head.hash)))
        .collect();
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
    let gone = BTreeMap::from([(5, Seen::from(BEGINNING))]);
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

/// How many records of a part are left of a [`trimmed`] trail.
const KEPT: i64 = 10;
/// The newest record of its control part, before all that is kept of traffic.
const LAST_OF_CONTROL: i64 = 5;
/// One of traffic that was taken away as old.
const OLD: i64 = 8;
/// Its last record tells where control ended: versions that told of none left what is before it.
const AS_AN_EARLIER_VERSION: &str = "DELETE FROM audit WHERE number = 27";
const UNCHANGED: &str = "SELECT 1";

/// A trail with control records 1 to 5 and traffic records 6 to 25, of which 6 to 15 were taken away
/// as old; 26 says so, and 27 that control ended with 5.
async fn trimmed() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinfold.db");
    let store = Store::open(&path).await.unwrap();
    write(&store, "admin.token.create", 4).await;
    write(&store, "hostapi.cache.get", 20).await;
    trim(&store).await;
    (directory, store)
}

async fn write(store: &Store, action: &str, records: usize) {
    for number in 0..records {
        let entry = Entry::admin("uid:0".into(), action, number.to_string());
        store.audit(entry).await.unwrap();
    }
}

async fn trim(store: &Store) {
    let mut connection = store.pool.acquire().await.unwrap();
    let mut appender = super::super::Appender::begin(&mut connection)
        .await
        .unwrap();
    appender.trim(KEPT).await.unwrap();
}

/// A record, as somebody has seen it who knows its part, or who does not.
async fn seen(store: &Store, number: i64, part: Option<Part>) -> (i64, Seen) {
    let hash: Vec<u8> = sqlx::query_scalar("SELECT hash FROM audit WHERE number = ?")
        .bind(number)
        .fetch_one(&store.pool)
        .await
        .unwrap();
    let hash = Digest(hash.try_into().unwrap());
    (number, Seen { hash, part })
}

/// What is found after a change by who has seen these records; the trail is as it was afterwards.
async fn outcome(
    store: &Store,
    sql: &'static str,
    seen: &[(i64, Seen)],
) -> Result<Whole, BrokenTrail> {
    let mut transaction = store.pool.begin().await.unwrap();
    change(&mut transaction, sql).await;
    let seen: BTreeMap<_, _> = seen.iter().copied().collect();
    let outcome = verify(&mut transaction, &seen, KEPT).await;
    transaction.rollback().await.unwrap();
    outcome
}

#[tokio::test]
async fn a_trail_of_which_old_traffic_was_taken_away_is_whole() {
    let (_directory, store) = trimmed().await;
    let parts = |whole: Whole| -> Vec<_> {
        let parts = whole.parts.into_iter();
        parts
            .map(|part| (part.first, part.last, part.records))
            .collect()
    };
    let control = seen(&store, LAST_OF_CONTROL, Some(Part::Control)).await;
    let whole = outcome(&store, UNCHANGED, &[control]).await.unwrap();
    assert_eq!(parts(whole), [(1, 5, 5), (16, 27, 12)]);
    let earlier = outcome(&store, AS_AN_EARLIER_VERSION, &[control]).await;
    assert_eq!(parts(earlier.unwrap()), [(1, 5, 5), (16, 26, 11)]);

    // It goes on: the ends that are told are others each time, and control is trimmed in its turn.
    write(&store, "admin.rescan", 3).await;
    write(&store, "hostapi.cache.get", 20).await;
    trim(&store).await;
    outcome(&store, UNCHANGED, &[control]).await.unwrap();
    write(&store, "admin.rescan", 20).await;
    trim(&store).await;
    let whole = outcome(&store, UNCHANGED, &[]).await.unwrap();
    assert!(whole.parts.iter().all(|part| part.first > OLD), "{whole:?}");
    let old = outcome(&store, UNCHANGED, &[control]).await.unwrap_err();
    assert!(
        matches!(old, BrokenTrail::TooOld { number: 5, .. }),
        "{old}"
    );
}

#[tokio::test]
async fn what_was_removed_of_control_is_found_also_where_old_traffic_was_taken_away() {
    let (_directory, store) = trimmed().await;
    let nothing: &[(i64, Seen)] = &[];
    let control = seen(&store, LAST_OF_CONTROL, None).await;
    for (sql, found) in [
        ("DELETE FROM audit WHERE number = 5", "5: it is missing"),
        (
            "DELETE FROM audit WHERE number IN (4, 5)",
            "5: it is missing",
        ),
        ("DELETE FROM audit WHERE part = 0", "5: it is missing"),
        ("DELETE FROM audit WHERE number = 3", "4: it was altered"),
        ("DELETE FROM audit WHERE number = 1", "2: it was altered"),
        // What tells of it, too.
        (
            "DELETE FROM audit WHERE number IN (5, 26, 27)",
            "16: it was altered",
        ),
        (
            "DELETE FROM audit WHERE number IN (5, 20)",
            "26: it says that more was taken away",
        ),
    ] {
        for seen in [nothing, &[control]] {
            let error = outcome(&store, sql, seen).await.unwrap_err().to_string();
            let expected = format!("record {found}");
            assert!(error.starts_with(&expected), "{sql}: {error}");
        }
    }
}

#[tokio::test]
async fn an_end_that_was_removed_is_found_after_both_parts_have_gone_on() {
    let (_directory, store) = trimmed().await;
    let mut connection = store.pool.acquire().await.unwrap();
    change(&mut connection, "DELETE FROM audit WHERE number = 5").await;
    drop(connection);
    // Control goes on from record 4, and what told of 5 first is taken away as old.
    for _ in 0..3 {
        write(&store, "admin.rescan", 1).await;
        write(&store, "hostapi.cache.get", 20).await;
        trim(&store).await;
        let error = outcome(&store, UNCHANGED, &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "record 5: it is missing");
    }
}

#[tokio::test]
async fn an_end_that_was_written_anew_is_not_the_one_that_the_other_part_tells_of() {
    let (_directory, store) = trimmed().await;
    let (_, before) = seen(&store, LAST_OF_CONTROL - 1, None).await;
    let mut connection = store.pool.acquire().await.unwrap();
    let row = sqlx::query("SELECT * FROM audit WHERE number = ?")
        .bind(LAST_OF_CONTROL)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let mut row = Row::of(&row).unwrap();
    row.subject = "another".into();
    let hash = chain::hash(Part::Control, before.hash, &row.fields());
    sqlx::query("UPDATE audit SET subject = ?, hash = ? WHERE number = ?")
        .bind(&row.subject)
        .bind(hash.0.as_slice())
        .bind(LAST_OF_CONTROL)
        .execute(&mut *connection)
        .await
        .unwrap();
    drop(connection);
    let error = outcome(&store, UNCHANGED, &[]).await.unwrap_err();
    let expected = format!("record 5: {OTHER_END}");
    assert_eq!(error.to_string(), expected);
    // Who tells of none cannot know.
    outcome(&store, AS_AN_EARLIER_VERSION, &[]).await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_seen_is_missing_or_old_by_what_its_own_part_says() {
    let (_directory, store) = trimmed().await;
    // Its hash is known to nobody any more but who has seen it.
    let old = |part| {
        let hash = BEGINNING;
        (OLD, Seen { hash, part })
    };
    let told = async |sql: &'static str, seen: (i64, Seen)| {
        outcome(&store, sql, &[seen]).await.unwrap_err()
    };
    for sql in [UNCHANGED, AS_AN_EARLIER_VERSION] {
        let error = told(sql, old(Some(Part::Traffic))).await;
        assert!(
            matches!(
                error,
                BrokenTrail::TooOld {
                    number: 8,
                    first: 16
                }
            ),
            "{error}"
        );
        let error = told(sql, old(Some(Part::Control))).await;
        assert_eq!(error.to_string(), "record 8: it is missing");
        // It could have been of either part.
        let error = told(sql, old(None)).await;
        assert!(
            matches!(
                error,
                BrokenTrail::OldOrRemoved {
                    number: 8,
                    trimmed: "traffic",
                    removed: 15,
                    other: "control",
                }
            ),
            "{error}"
        );
    }
    // What is known to be missing is told first.
    let cut = (99, Seen::from(BEGINNING));
    let error = outcome(&store, UNCHANGED, &[old(None), cut])
        .await
        .unwrap_err();
    assert!(
        matches!(error, BrokenTrail::Cut { number: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn what_an_earlier_version_took_away_tells_of_no_end_and_who_has_seen_one_does() {
    let (_directory, store) = trimmed().await;
    let nobody_knows = seen(&store, LAST_OF_CONTROL, None).await;
    let control = seen(&store, LAST_OF_CONTROL, Some(Part::Control)).await;
    let end = "DELETE FROM audit WHERE number IN (5, 27)";
    outcome(&store, end, &[]).await.unwrap();
    let error = outcome(&store, end, &[nobody_knows]).await.unwrap_err();
    assert!(
        matches!(error, BrokenTrail::OldOrRemoved { number: 5, .. }),
        "{error}"
    );
    let error = outcome(&store, end, &[control]).await.unwrap_err();
    assert_eq!(error.to_string(), "record 5: it is missing");
    // All of it is missed all the same: it has a record that every trail has.
    let all = "DELETE FROM audit WHERE part = 0 OR number = 27";
    let error = outcome(&store, all, &[]).await.unwrap_err();
    assert!(matches!(error, BrokenTrail::NoBeginning), "{error}");
    let error = outcome(&store, "DELETE FROM audit", &[]).await.unwrap_err();
    assert!(matches!(error, BrokenTrail::NoBeginning), "{error}");
}
