//! What a plugin asked of the host in a watched run, as the audit trail has it once the run is over, and what
//! the trail does not tell of it.

use std::time::{Duration, Instant};

use pinfold_policy::{Generation, PluginId};

use crate::store::StoreError;
use crate::store::audit::reader::{Reader, RecordView, Wanted};
use crate::store::audit::{LOST, PLUGIN_END, PLUGIN_START, TRIM, instance};

/// How long the ends of a run's instances may take to come into the trail: their processes have ended by then,
/// what they printed last is read for 2 s, their calls have 5 s to end, and a database that somebody holds locked is
/// tried for 5 s, and again.
const ENDS: Duration = Duration::from_secs(20);
/// Between looks.
const LOOK: Duration = Duration::from_millis(50);

/// Records that are looked at: more than the trail keeps.
const MOST_RECORDS: u32 = 1_000_000;

/// What the trail has of a run.
#[derive(Debug)]
pub(super) struct RunRecords {
    /// Of calls of the host.
    pub(super) calls: Vec<RecordView>,
    /// What may be missing among them, a line each.
    pub(super) notes: Vec<String>,
}

/// Reads what the plugin asked in a run that is over, of these instances, from the records after the number
/// `before`. What an instance asked is written with its end at the latest, however much it was: so the ends
/// are waited for.
pub(super) async fn read(
    trail: &mut Reader,
    plugin: &PluginId,
    before: i64,
    instances: &[Generation],
) -> Result<RunRecords, StoreError> {
    read_once_ended(trail, plugin, before, instances, || {}).await
}

/// The same, which calls `waits` after each look that did not find all ends.
async fn read_once_ended(
    trail: &mut Reader,
    plugin: &PluginId,
    before: i64,
    instances: &[Generation],
    mut waits: impl FnMut(),
) -> Result<RunRecords, StoreError> {
    let wanted = |action: &str| Wanted {
        after: before,
        action: Some(action.to_owned()),
        plugin: Some(plugin.clone()),
        limit: MOST_RECORDS,
        ..Wanted::default()
    };
    let limit = Instant::now() + ENDS;
    let have_ended = loop {
        let lives = trail.list(&wanted("plugin.*")).await?;
        if instances.iter().all(|one| has_ended(&lives, *one)) {
            break true;
        }
        if Instant::now() >= limit {
            break false;
        }
        waits();
        tokio::time::sleep(LOOK).await;
    };
    let calls = trail.list(&wanted("hostapi.*")).await?;
    let of_all = Wanted {
        plugin: None,
        ..wanted("audit.*")
    };
    let mut notes = gaps(&trail.list(&of_all).await?, before);
    if !have_ended {
        notes.push(
            "the audit trail has no end of an instance that ran: what it asked of the host last may be \
             missing, and the grants may lack it"
                .into(),
        );
    }
    Ok(RunRecords { calls, notes })
}

/// Whether the trail has an end of the instance for each of its starts: one that a daemon has left to the next
/// is started there once more.
fn has_ended(lives: &[RecordView], generation: Generation) -> bool {
    let instance = instance(generation);
    let is_start = |record: &&RecordView| {
        let rest = record.detail.as_deref();
        let rest = rest.and_then(|detail| detail.strip_prefix(&instance));
        record.action == PLUGIN_START && rest.is_some_and(|rest| rest.starts_with(','))
    };
    let is_end = |record: &&RecordView| record.action == PLUGIN_END && record.subject == instance;
    let ends = lives.iter().filter(is_end).count();
    ends > 0 && ends >= lives.iter().filter(is_start).count()
}

/// What the trail says of itself: records of calls that are not in it.
fn gaps(own: &[RecordView], before: i64) -> Vec<String> {
    let of_calls = || own.iter().filter(|record| record.part == "traffic");
    let lost = of_calls().filter(|record| record.action == LOST);
    let lost = lost.fold(0_i64, |sum, record| sum.saturating_add(record.count));
    let is_of_run = |record: &RecordView| {
        record
            .subject
            .parse::<i64>()
            .is_ok_and(|last| last > before)
    };
    let is_cut = of_calls().any(|record| record.action == TRIM && is_of_run(record));
    let mut notes = Vec::new();
    if lost > 0 {
        notes.push(format!(
            "the audit trail has lost {lost} records of plugins and clients in the run: the grants may lack \
             what they tell"
        ));
    }
    if is_cut {
        notes.push(
            "the audit trail keeps only so many records, and the first ones of the run are gone: the grants may \
             lack what they told; a shorter run tells all"
                .into(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use pinfold_policy::Digest;
    use tokio::sync::Notify;

    use super::*;
    use crate::store::Store;
    use crate::store::audit::{Entry, Start};

    fn record(action: &str, subject: &str, detail: Option<&str>) -> RecordView {
        RecordView {
            number: 1,
            part: "traffic",
            time: String::new(),
            actor: "pinfoldd".into(),
            action: action.into(),
            subject: subject.into(),
            decision: "allow".into(),
            plugin: None,
            permission: None,
            detail: detail.map(str::to_owned),
            request_id: None,
            count: 2,
            hash: None,
        }
    }

    #[test]
    fn an_instance_has_ended_when_the_trail_has_as_many_ends_as_starts() {
        let start = |generation: &str| {
            let detail = format!("generation {generation}, unsigned, policy sha256:0");
            record("plugin.start", "sha256:1", Some(&detail))
        };
        let end =
            |generation: &str| record("plugin.end", &format!("generation {generation}"), None);
        let seven = Generation(7);
        assert!(!has_ended(&[], seven));
        assert!(!has_ended(&[start("7")], seven));
        assert!(!has_ended(&[start("7"), start("70"), end("70")], seven));
        assert!(has_ended(&[start("7"), start("70"), end("7")], seven));
        let left = [start("7"), end("7"), start("7")];
        assert!(!has_ended(&left, seven), "it went on with the next daemon");
    }

    #[test]
    fn records_of_the_run_that_are_not_in_the_trail_are_told() {
        assert!(gaps(&[record(TRIM, "41", None)], 41).is_empty());
        let of_another_part = RecordView {
            part: "control",
            ..record(LOST, "control", None)
        };
        assert!(gaps(&[of_another_part], 41).is_empty());
        let lost = [record(LOST, "traffic", None), record(LOST, "traffic", None)];
        let notes = gaps(&lost, 41);
        assert!(
            notes.len() == 1 && notes[0].contains("lost 4 records"),
            "{notes:?}"
        );
        let notes = gaps(&[record(TRIM, "42", None)], 41);
        assert!(
            notes.len() == 1 && notes[0].contains("a shorter run"),
            "{notes:?}"
        );
    }

    #[tokio::test]
    async fn calls_are_read_once_the_end_of_the_instance_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        let store = Store::open(&path).await.unwrap();
        let plugin: PluginId = "hello".parse().unwrap();
        let mut reader = Reader::open(&path).await.unwrap();
        // As they are written: left to the next daemon, which has taken it over.
        let three = Generation(3);
        let start = |taken_over| Start {
            plugin: &plugin,
            generation: three,
            digest: Digest([1; 32]),
            trust: "unsigned",
            taken_over,
            watched_until: None,
            policy: Digest([2; 32]),
        };
        let end = || Entry::of_daemon(PLUGIN_END, instance(three)).about(&plugin);
        store.audit_start(&start(false)).await.unwrap();
        store.audit(end()).await.unwrap();
        store.audit_start(&start(true)).await.unwrap();
        let instances = [three];
        let looked_twice = Notify::new();
        let mut looks = 0;
        let reading = read_once_ended(&mut reader, &plugin, 0, &instances, || {
            looks += 1;
            if looks == 2 {
                looked_twice.notify_one();
            }
        });
        tokio::pin!(reading);
        tokio::select! {
            asked = &mut reading => panic!("the end was not waited for: {asked:?}"),
            () = looked_twice.notified() => {}
        }
        for action in ["hostapi.db.query", "hostapi.cache.get"] {
            let call = Entry::admin("plugin:hello".into(), action, "s".into());
            store.audit(call.about(&plugin)).await.unwrap();
        }
        store.audit(end()).await.unwrap();
        let asked = reading.await.unwrap();
        assert_eq!(asked.calls.len(), 2);
        assert!(asked.notes.is_empty(), "{:?}", asked.notes);
        store.close().await;
    }
}
