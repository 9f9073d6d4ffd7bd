//! Whether the trail is whole: every record recomputed, from the oldest that is kept.
//!
//! What is missing between two records of a part shows in its chain. That a part's end is missing shows in
//! the numbers that both share, as far back as neither has had records taken away as old, and further back
//! in what the other part tells of it ([`ends`]). An end that both lack is known only to who has seen it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use pinfold_policy::Digest;
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection};

use super::chain::{self, BEGINNING, Part};
use super::ends;
use super::rows::{CHAINED, Head, Row, TRIM};

mod expected;

pub(crate) use self::expected::Seen;

/// What was found to be whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Whole {
    pub(crate) parts: Vec<WholePart>,
}

/// A part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WholePart {
    pub(crate) part: &'static str,
    pub(crate) records: u64,
    /// The oldest that is kept.
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) hash: Digest,
}

/// Why the trail is not whole, or cannot be told to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenTrail {
    #[error("record {number}: {why}")]
    Broken { number: i64, why: &'static str },
    #[error("record {number} was {expected}, and is {found}: the trail was written anew")]
    Another {
        number: i64,
        expected: Digest,
        found: Digest,
    },
    #[error("record {number} was there, and the trail ends with {last}")]
    Cut { number: i64, last: i64 },
    #[error(
        "record {number} is older than what is kept, which begins with {first}: give a newer one"
    )]
    TooOld { number: i64, first: i64 },
    #[error(
        "record {number} is not there: it was one of {trimmed}, of which those up to {removed} were \
         taken away as old, or was removed from {other}"
    )]
    OldOrRemoved {
        number: i64,
        /// The part that may have had it.
        trimmed: &'static str,
        /// The last number that was taken away there.
        removed: i64,
        /// The part that would have it still.
        other: &'static str,
    },
    #[error("control has no record audit.chained, and does not say that it was taken away as old")]
    NoBeginning,
    #[error("read the trail")]
    Read(#[source] sqlx::Error),
}

impl From<sqlx::Error> for BrokenTrail {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(error)
    }
}

const ALTERED: &str = "it was altered, or one before it was altered, removed, put in or moved";
const UNREADABLE: &str = "it is no record as this version writes it";
const REMOVED: &str = "it is missing";
const OLDER: &str = "it was to be gone, and is there";
const TRIM_UNREADABLE: &str = "it does not say what was taken away";
const TOO_MUCH: &str = "it says that more was taken away than is";
const END_UNREADABLE: &str = "it does not say where the other part ended";
const OTHER_END: &str = "it is not the one with which its part ended, as the other part has it";

/// Recomputes every record, as of one moment. `expected` are records that were seen before, by
/// number; `kept` is how many of a part are left where older ones are taken away. Of what does not
/// fit, the first by number is told, and of what was expected and is not there, first what is known to
/// have been removed.
pub(crate) async fn verify(
    connection: &mut SqliteConnection,
    expected: &BTreeMap<i64, Seen>,
    kept: i64,
) -> Result<Whole, BrokenTrail> {
    let mut walk = Walk {
        missing: expected.clone(),
        ..Walk::default()
    };
    let mut whole = Whole::default();
    let mut first: Option<(i64, &'static str)> = None;
    for part in Part::ALL {
        match walk.part(connection, part, kept).await {
            Ok(found) => whole.parts.extend(found),
            Err(BrokenTrail::Broken { number, why }) => {
                if first.is_none_or(|(least, _)| number < least) {
                    first = Some((number, why));
                }
            }
            Err(error) => return Err(error),
        }
    }
    if first.is_none() {
        let foreign: Option<i64> =
            sqlx::query_scalar("SELECT min(number) FROM audit WHERE part NOT IN (0, 1)")
                .fetch_one(&mut *connection)
                .await?;
        first = foreign.map(|number| (number, UNREADABLE));
    }
    if first.is_none() {
        let end = walk.first_end_missing(connection).await?;
        let missing = first_missing(connection, walk.dense_after()).await?;
        let missing = missing.map(|number| (number, REMOVED));
        first = end.into_iter().chain(missing).min();
    }
    if let Some((number, why)) = first {
        return Err(BrokenTrail::Broken { number, why });
    }
    // Every trail has it, written when its schema was made: without this, a part of which nothing is left
    // would be one that never was.
    if walk.chained.is_none() && walk.removed(Part::Control) == 0 {
        return Err(BrokenTrail::NoBeginning);
    }
    walk.unmet().map_or(Ok(whole), Err)
}

/// What is known while the parts are gone through.
#[derive(Default)]
struct Walk {
    /// Records that were seen before and have not been met yet.
    missing: BTreeMap<i64, Seen>,
    /// The parts of which records were taken away as old, with the last of these numbers.
    trimmed: Vec<(Part, i64)>,
    /// The number from which on every record is chained as it is written.
    chained: Option<i64>,
    /// Where parts ended, as the other one tells.
    ends: Vec<Head>,
    /// The last number of all.
    last: i64,
}

impl Walk {
    /// Up to which number a part's records were taken away as old; 0 where none were.
    fn removed(&self, part: Part) -> i64 {
        let of_part = self.trimmed.iter().find(|(trimmed, _)| *trimmed == part);
        of_part.map_or(0, |(_, removed)| *removed)
    }

    /// After this one every number was given to a record of one part or the other that is kept.
    fn dense_after(&self) -> i64 {
        let removed = self.trimmed.iter().map(|(_, removed)| *removed);
        removed.chain(self.chained).max().unwrap_or(0)
    }

    /// The first record with which a part ended, as the other one tells, and that is not there as it was.
    async fn first_end_missing(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<(i64, &'static str)>, sqlx::Error> {
        let mut first: Option<(i64, &'static str)> = None;
        for end in &self.ends {
            if end.number <= self.removed(end.part) {
                continue;
            }
            let why = match ends::hash_of(connection, end.part, end.number).await? {
                Some(hash) if hash == end.hash.0 => continue,
                Some(_) => OTHER_END,
                None => REMOVED,
            };
            if first.is_none_or(|(least, _)| end.number < least) {
                first = Some((end.number, why));
            }
        }
        Ok(first)
    }

    /// Recomputes one part; `None` where it has no record.
    async fn part(
        &mut self,
        connection: &mut SqliteConnection,
        part: Part,
        kept: i64,
    ) -> Result<Option<WholePart>, BrokenTrail> {
        let broken = |number, why| BrokenTrail::Broken { number, why };
        let trimmed = last_trim(connection, part, kept).await?;
        let (removed, mut before) = trimmed.unwrap_or((0, BEGINNING));
        self.trimmed
            .extend(trimmed.map(|(removed, _)| (part, removed)));
        let mut rows = sqlx::query("SELECT * FROM audit WHERE part = ? ORDER BY number")
            .bind(i64::from(part.number()))
            .fetch(connection);
        let mut found: Option<WholePart> = None;
        while let Some(row) = rows.try_next().await? {
            let number: i64 = row.try_get("number")?;
            self.last = self.last.max(number);
            let row = Row::of(&row).map_err(|_| broken(number, UNREADABLE))?;
            if number <= removed {
                return Err(broken(number, OLDER));
            }
            before = chain::hash(part, before, &row.fields());
            if row.hash != Some(before) {
                return Err(broken(number, ALTERED));
            }
            if row.action == CHAINED {
                self.chained = self.chained.max(Some(number));
            }
            if row.action == ends::END {
                let end = ends::parse(&row.subject, row.detail.as_deref());
                self.ends
                    .push(end.ok_or_else(|| broken(number, END_UNREADABLE))?);
            }
            match self.missing.remove(&number) {
                Some(seen) if seen.hash != before => {
                    return Err(BrokenTrail::Another {
                        number,
                        expected: seen.hash,
                        found: before,
                    });
                }
                _ => {}
            }
            let found = found.get_or_insert(WholePart {
                part: part.as_str(),
                records: 0,
                first: number,
                last: number,
                hash: before,
            });
            found.records += 1;
            (found.last, found.hash) = (number, before);
        }
        Ok(found)
    }
}

/// What was taken away from a part last: the last one's number and hash. As much as has to be kept
/// is there, or somebody else took it away.
async fn last_trim(
    connection: &mut SqliteConnection,
    part: Part,
    kept: i64,
) -> Result<Option<(i64, Digest)>, BrokenTrail> {
    let trim: Option<(i64, String, Option<String>)> = sqlx::query_as(
        "SELECT number, subject, detail FROM audit WHERE part = ? AND action = ?
         ORDER BY number DESC LIMIT 1",
    )
    .bind(i64::from(part.number()))
    .bind(TRIM)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((number, subject, detail)) = trim else {
        return Ok(None);
    };
    let hash = detail.as_deref().map(str::parse::<Digest>);
    let (Ok(removed), Some(Ok(hash))) = (subject.parse(), hash) else {
        return Err(BrokenTrail::Broken {
            number,
            why: TRIM_UNREADABLE,
        });
    };
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM audit WHERE part = ? AND number > ? AND number < ?",
    )
    .bind(i64::from(part.number()))
    .bind(removed)
    .bind(number)
    .fetch_one(&mut *connection)
    .await?;
    if left < kept {
        return Err(BrokenTrail::Broken {
            number,
            why: TOO_MUCH,
        });
    }
    Ok(Some((removed, hash)))
}

/// The first number after `after` that no record has, though later ones are there: all records of a
/// part could be gone.
async fn first_missing(
    connection: &mut SqliteConnection,
    after: i64,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT min(before + 1) FROM (
             SELECT number, lag(number, 1, ?1) OVER (ORDER BY number) AS before
             FROM audit WHERE number > ?1
         ) WHERE number <> before + 1",
    )
    .bind(after)
    .fetch_one(connection)
    .await
}

/// The end of every part.
pub(crate) async fn heads(connection: &mut SqliteConnection) -> Result<Vec<Head>, sqlx::Error> {
    let mut heads = Vec::new();
    for part in Part::ALL {
        heads.extend(super::rows::head(connection, part).await?);
    }
    Ok(heads)
}

#[cfg(test)]
mod tests;
