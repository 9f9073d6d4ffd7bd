//! What is written together: gathered from where it waits, and kept until it can be written, with how many
//! records found no place meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::chain::Part;
use super::rows::{Appender, LOST};
use super::told::Told;
use super::{Entry, KEPT_RECORDS, PLUGIN_END, Trail};

/// Different records kept while they cannot be written: all that are gathered at once.
const KEPT_UNWRITTEN: usize = 32_768;
/// How many records are written between two looks at what is too many.
const TRIM_EVERY: i64 = 1_000;

/// What is to be written together.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// In the order in which they happened.
    noted: Vec<(DateTime<Utc>, Entry)>,
    pub(super) counted: HashMap<Entry, i64>,
    lost: Lost,
}

/// How many records found no place, by part. The trail says so as soon as it can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    control: u64,
    traffic: u64,
}

impl Lost {
    fn all(self) -> u64 {
        self.control.saturating_add(self.traffic)
    }

    fn and(self, more: Self) -> Self {
        Self {
            control: self.control.saturating_add(more.control),
            traffic: self.traffic.saturating_add(more.traffic),
        }
    }

    /// The parts that have lost any, with how many.
    fn parts(self) -> impl Iterator<Item = (Part, i64)> {
        [(Part::Control, self.control), (Part::Traffic, self.traffic)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(part, count)| (part, i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// What the trail says of it.
    fn entry(part: Part) -> Entry {
        Entry {
            decision: "error",
            detail: Some("found no place while they waited to be written".into()),
            ..Entry::of_daemon(LOST, part.as_str().into())
        }
    }
}

impl Group {
    /// How many records it is.
    pub(super) fn records(&self) -> usize {
        self.noted.len() + self.counted.len() + self.lost.parts().count()
    }

    /// Takes what waits, with what is held back where it is the `last` time, and gives how many records
    /// found no place.
    pub(super) fn gather(&mut self, trail: &Trail, now: Instant, last: bool) -> u64 {
        let known = self.noted.len();
        let mut lost = Lost {
            control: trail.noted.take(&mut self.noted),
            traffic: trail.requests.lost(),
        };
        // Before the calls: what is held back of those of an instance that has ended comes with its end, and
        // whoever finds that finds all of them. Starting again bounds how often.
        let noted = self.noted.iter().skip(known);
        let ended: BTreeSet<&str> = noted
            .filter(|(_, entry)| entry.action == PLUGIN_END)
            .filter_map(|(_, entry)| entry.plugin.as_deref())
            .collect();
        let folded = trail
            .folded
            .take(now, |plugin| last || ended.contains(plugin));
        for (entry, count) in trail.requests.take().chain(folded) {
            if self.counted.len() < KEPT_UNWRITTEN || self.counted.contains_key(&entry) {
                *self.counted.entry(entry).or_default() += count;
            } else {
                lost.traffic = lost.traffic.saturating_add(count.unsigned_abs());
            }
        }
        self.lost = self.lost.and(lost);
        lost.all()
    }

    /// Appends all of it inside a transaction. What it gives is told once that is committed.
    pub(super) async fn write(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Told, sqlx::Error> {
        let mut appender = Appender::begin(connection).await?;
        let mut told = Told::default();
        let now = Utc::now();
        let mut newest = 0;
        for (part, count) in self.lost.parts() {
            let entry = Lost::entry(part);
            let head = appender.append(part, now, &entry, count).await?;
            newest = head.number;
        }
        let noted = self.noted.iter().map(|(time, entry)| (*time, entry, 1));
        let counted = self.counted.iter();
        let counted = counted.map(|(entry, count)| (now, entry, *count));
        for (time, entry, count) in noted.chain(counted) {
            let part = Part::of_action(&entry.action);
            let head = appender.append(part, time, entry, count).await?;
            newest = head.number;
            told.push(head, entry, count);
        }
        let written = i64::try_from(self.records()).unwrap_or(i64::MAX);
        if newest % TRIM_EVERY < written {
            appender.trim(KEPT_RECORDS).await?;
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::{HostCall, HostCalls, verify};
    use super::*;
    use crate::store::Store;

    fn ask(calls: &HostCalls, subject: String) {
        calls.record(&HostCall {
            service: "cache",
            method: "get",
            decision: "allow",
            subject: subject.into(),
            permission: None,
        });
    }

    fn end_of(plugin: &str) -> Entry {
        Entry::of_daemon(PLUGIN_END, "generation 1".into()).about(&plugin.parse().unwrap())
    }

    #[test]
    fn all_that_an_instance_asked_is_written_with_its_end_however_much_is_held_back() {
        let trail = Trail::default();
        let calls = trail.of_plugin(&"busy".parse().unwrap());
        let mut group = Group::default();
        let now = Instant::now();
        // Five groups are all that may come at once; the two after them are held back together, and fewer than
        // the 64 that are told apart.
        for (number, different) in [60, 60, 60, 60, 60, 10, 10].into_iter().enumerate() {
            for call in 0..different {
                ask(&calls, format!("{number}-{call}"));
            }
            group.gather(&trail, now, false);
        }
        assert_eq!(group.counted.len(), 300);
        trail.note(end_of("another"));
        group.gather(&trail, now, false);
        assert_eq!(group.counted.len(), 300, "it goes on");
        trail.note(end_of("busy"));
        group.gather(&trail, now, false);
        assert_eq!(group.counted.len(), 320);
        assert!(group.counted.keys().any(|entry| entry.subject == "6-9"));
        // What the next instance asks waits as ever, also while that end is still to be written, and no longer.
        ask(&calls, "later".into());
        group.gather(&trail, now + Duration::from_millis(50), false);
        assert_eq!(group.counted.len(), 320);
        group.gather(&trail, now + Duration::from_millis(100), false);
        assert_eq!(group.counted.len(), 321);
    }

    #[test]
    fn floods_that_all_end_at_once_leave_quiet_plugins_their_records() {
        let trail = Trail::default();
        // More than are kept, before the quiet one.
        for number in 0..600 {
            let flood = trail.of_plugin(&format!("flood-{number}").parse().unwrap());
            for call in 0..64 {
                ask(&flood, call.to_string());
            }
        }
        let quiet = trail.of_plugin(&"quiet".parse().unwrap());
        ask(&quiet, "one".into());
        let mut group = Group::default();
        group.gather(&trail, Instant::now(), true);
        assert_eq!(group.counted.len(), KEPT_UNWRITTEN);
        let lost = u64::try_from(600 * 64 + 1 - KEPT_UNWRITTEN).unwrap();
        assert_eq!(group.lost.traffic, lost);
        let actors = |name: &str| {
            let all = group.counted.keys();
            all.filter(|entry| entry.actor == name).count()
        };
        assert_eq!(actors("plugin:quiet"), 1);
    }

    #[tokio::test]
    async fn how_many_records_found_no_place_is_in_the_trail_once_it_can_be_written() {
        let trail = Trail::default();
        let mut group = Group::default();
        // More than are kept; two goes, as while nothing can be written.
        for _ in 0..2 {
            for number in 0..4_100 {
                trail.note(Entry::of_daemon("plugin.start", number.to_string()));
            }
            group.gather(&trail, Instant::now(), false);
        }
        assert_eq!(group.lost.traffic, 0);
        assert_eq!(group.lost.control, 8_200 - 4_096 - 4_096);
        // What is kept is not what this is about, and takes long to write.
        let mut group = Group {
            lost: group.lost.and(Lost {
                control: 0,
                traffic: 3,
            }),
            ..Group::default()
        };
        group.counted.insert(end_of("hello"), 1);
        assert_eq!(group.records(), 3);

        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        store.write_group(&group).await.unwrap();
        let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(
            "SELECT part, subject, decision, count FROM audit WHERE action = 'audit.lost'
             ORDER BY number",
        )
        .fetch_all(&store.pool)
        .await
        .unwrap();
        let row = |part: i64, subject: &str, count: i64| {
            (part, subject.to_owned(), "error".to_owned(), count)
        };
        assert_eq!(rows, [row(0, "control", 8), row(1, "traffic", 3)]);
        let mut connection = store.pool.acquire().await.unwrap();
        verify::verify(&mut connection, &BTreeMap::new(), KEPT_RECORDS)
            .await
            .unwrap();
    }
}
