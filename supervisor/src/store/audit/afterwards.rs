//! What the policies' owner wrote down before doing it: taken into the trail once, whoever told of it and
//! however often.

use std::collections::HashSet;
use std::sync::Arc;

use pinfold_gateway::admin::dto::RecordId;
use sqlx::SqliteConnection;
use tokio::sync::{Mutex, MutexGuard};

use super::chain::Part;
use super::rows::Appender;
use super::{Entry, KEPT_RECORDS, OPERATION, Told, insert};
use crate::pending::PendingRecord;
use crate::store::{Store, StoreError, failed};

/// What tells a record of the trail and one that was written down to be the same: id, actor, action and
/// subject. The id alone can be sent by everybody who may administer.
type Known = (String, String, String, String);

/// What is in the trail of what was written down.
#[derive(Debug)]
pub(crate) struct KnownRecords(HashSet<Known>);

impl KnownRecords {
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let known: Vec<Known> = sqlx::query_as(
            "SELECT request_id, actor, action, subject FROM audit
             WHERE part = ? AND request_id IS NOT NULL",
        )
        .bind(i64::from(Part::Control.number()))
        .fetch_all(connection)
        .await?;
        Ok(Self(known.into_iter().collect()))
    }

    /// Whether it has this one.
    pub(crate) fn has(&self, id: &RecordId, record: &PendingRecord) -> bool {
        self.0.contains(&known(id, record))
    }
}

fn known(id: &RecordId, record: &PendingRecord) -> Known {
    let PendingRecord {
        actor,
        action,
        subject,
        ..
    } = record;
    let texts = [&id.to_string(), actor, action, subject];
    texts.map(Clone::clone).into()
}

/// The same for those who commit such records: read from the trail when the first of them does, and kept
/// from then on. They take turns at it, from the look to the commit.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct WrittenDown(Arc<Mutex<Option<KnownRecords>>>);

/// Somebody's turn.
struct Turn<'a>(MutexGuard<'a, Option<KnownRecords>>);

impl WrittenDown {
    async fn turn(&self) -> Turn<'_> {
        Turn(self.0.lock().await)
    }
}

impl Turn<'_> {
    /// What is in the trail. Where it is not given back it is read again by the next one: of a commit that
    /// failed, or that nobody waited for, nobody here knows whether it took effect.
    async fn take(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<KnownRecords, sqlx::Error> {
        match self.0.take() {
            Some(known) => Ok(known),
            None => KnownRecords::read(connection).await,
        }
    }

    /// Gives it back, with what was committed. What is kept is no more than a trail has: past that it is
    /// read again.
    fn give_back(mut self, mut known: KnownRecords, committed: impl IntoIterator<Item = Known>) {
        known.0.extend(committed);
        if i64::try_from(known.0.len()).is_ok_and(|count| count <= KEPT_RECORDS) {
            *self.0 = Some(known);
        }
    }
}

impl Store {
    /// Commits one record as [`Store::audit`] does, unless it has the id of one that was written down and
    /// is in the trail.
    pub(crate) async fn audit_once(&self, entry: Entry) -> Result<(), StoreError> {
        let Some(id) = &entry.request_id else {
            return self.audit(entry).await;
        };
        let texts = [id, &entry.actor, &entry.action, &entry.subject];
        let this: Known = texts.map(Clone::clone).into();
        let mut turn = self.written_down.turn().await;
        let mut transaction = self.begin(OPERATION).await?;
        let known = turn.take(&mut transaction).await;
        let known = known.map_err(failed(OPERATION))?;
        if known.0.contains(&this) {
            turn.give_back(known, []);
            return Ok(());
        }
        let told = insert(&mut transaction, &entry).await?;
        transaction.commit().await.map_err(failed(OPERATION))?;
        turn.give_back(known, [this]);
        told.tell();
        Ok(())
    }

    /// Commits what of `records` is not in the trail yet, each with the time at which it was written down
    /// and with `detail`. Gives how many that were.
    pub(crate) async fn audit_written_down(
        &self,
        records: &[(RecordId, PendingRecord)],
        detail: Option<&str>,
    ) -> Result<usize, StoreError> {
        if records.is_empty() {
            return Ok(0);
        }
        let mut turn = self.written_down.turn().await;
        let mut transaction = self.begin(OPERATION).await?;
        let append = async {
            let trail = turn.take(&mut transaction).await?;
            let mut appender = Appender::begin(&mut transaction).await?;
            let (mut told, mut committed) = (Told::default(), Vec::new());
            for (id, record) in records.iter().filter(|(id, it)| !trail.has(id, it)) {
                let entry = Entry {
                    plugin: record.plugin.as_ref().map(ToString::to_string),
                    detail: detail.map(str::to_owned),
                    request_id: Some(id.to_string()),
                    ..Entry::admin(record.actor.clone(), &record.action, record.subject.clone())
                };
                let head = appender
                    .append(Part::Control, record.time, &entry, 1)
                    .await?;
                told.push(head, &entry, 1);
                committed.push(known(id, record));
            }
            Ok::<_, sqlx::Error>((trail, told, committed))
        };
        let (trail, told, committed) = append.await.map_err(failed(OPERATION))?;
        transaction.commit().await.map_err(failed(OPERATION))?;
        let count = committed.len();
        turn.give_back(trail, committed);
        told.tell();
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::audit::reader::{Reader, Wanted};

    fn record(subject: &str) -> PendingRecord {
        PendingRecord {
            time: "2026-11-22T03:00:00Z".parse().unwrap(),
            actor: "uid:0 pid:7".into(),
            action: "admin.plugin.grant".into(),
            subject: subject.into(),
            plugin: subject.parse().ok(),
        }
    }

    fn id(digit: &str) -> RecordId {
        digit.repeat(RecordId::LENGTH).parse().unwrap()
    }

    #[tokio::test]
    async fn what_was_written_down_is_in_the_trail_once_with_its_time_and_actor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        let store = Store::open(&path).await.unwrap();
        // The daemon was told of the first while it ran; somebody else sent the id of the second.
        for (digit, actor) in [("1", "uid:0 pid:7"), ("2", "uid:1000 pid:7")] {
            let subject = format!("p{digit}");
            let entry = Entry {
                request_id: Some(id(digit).to_string()),
                ..Entry::admin(actor.into(), "admin.plugin.grant", subject)
            };
            store.audit(entry).await.unwrap();
        }
        let waiting = ["1", "2", "3"].map(|digit| (id(digit), record(&format!("p{digit}"))));
        let detail = Some("told afterwards");
        assert_eq!(store.audit_written_down(&waiting, detail).await.unwrap(), 2);
        assert_eq!(store.audit_written_down(&waiting, detail).await.unwrap(), 0);
        let mut reader = Reader::open(&path).await.unwrap();
        let wanted = Wanted {
            limit: 10,
            ..Wanted::default()
        };
        let records = reader.list(&wanted).await.unwrap();
        let told: Vec<_> = records
            .iter()
            .filter(|it| it.detail.as_deref() == detail)
            .map(|it| {
                let (time, actor) = (it.time.as_str(), it.actor.as_str());
                (it.number, time, actor, it.plugin.as_deref().unwrap())
            })
            .collect();
        let time = "2026-11-22T03:00:00.000000Z";
        assert_eq!(
            told,
            [
                (4, time, "uid:0 pid:7", "p2"),
                (5, time, "uid:0 pid:7", "p3")
            ]
        );
        reader.verify(&BTreeMap::new()).await.unwrap();
        // The command that wrote the third down tells of it only now.
        let late = Entry {
            request_id: Some(id("3").to_string()),
            ..Entry::admin("uid:0 pid:7".into(), "admin.plugin.grant", "p3".into())
        };
        store.audit_once(late).await.unwrap();
        assert_eq!(reader.list(&wanted).await.unwrap().len(), records.len());
        let known = reader.written_down().await.unwrap();
        assert!(waiting.iter().all(|(id, record)| known.has(id, record)));
        assert!(!known.has(&id("1"), &record("p2")));
        store.close().await;
    }

    #[tokio::test]
    async fn what_is_in_the_trail_is_read_once_and_known_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        let store = Store::open(&path).await.unwrap();
        let one = [(id("1"), record("p1"))];
        assert_eq!(store.audit_written_down(&one, None).await.unwrap(), 1);
        // Behind its back: it is not looked for there again.
        sqlx::query("DELETE FROM audit")
            .execute(&store.pool)
            .await
            .unwrap();
        assert_eq!(store.audit_written_down(&one, None).await.unwrap(), 0);
        let two = [(id("2"), record("p2"))];
        assert_eq!(store.audit_written_down(&two, None).await.unwrap(), 1);
        // What a failure leaves in the trail is looked for there.
        for statement in [
            "DELETE FROM audit",
            "CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END",
        ] {
            sqlx::query(statement).execute(&store.pool).await.unwrap();
        }
        let three = [(id("3"), record("p3"))];
        store.audit_written_down(&three, None).await.unwrap_err();
        sqlx::query("DROP TRIGGER t")
            .execute(&store.pool)
            .await
            .unwrap();
        assert_eq!(store.audit_written_down(&two, None).await.unwrap(), 1);
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.audit_written_down(&two, None).await.unwrap(), 0);
        assert_eq!(store.audit_written_down(&one, None).await.unwrap(), 1);
        store.close().await;
    }
}
