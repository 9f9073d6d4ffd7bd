//! Whether the trail is whole: every record recomputed, from the oldest that is kept.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use pinfold_policy::Digest;
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection};

use super::chain::{self, BEGINNING, Part};
use super::rows::{CHAINED, Head, Row, TRIM};

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

/// Recomputes every record, as of one moment. `expected` are records that were seen before, by
/// number; `kept` is how many of a part are left where older ones are taken away. Of what does not
/// fit, the first by number is told.
pub(crate) async fn verify(
    connection: &mut SqliteConnection,
    expected: &BTreeMap<i64, Digest>,
    kept: i64,
) -> Result<Whole, BrokenTrail> {
    let mut walk = Walk {
        missing: expected.clone(),
        dense_after: 0,
        last: 0,
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
    let Walk {
        missing,
        dense_after,
        last,
    } = walk;
    if first.is_none() {
        let foreign: Option<i64> =
            sqlx::query_scalar("SELECT min(number) FROM audit WHERE part NOT IN (0, 1)")
                .fetch_one(&mut *connection)
                .await?;
        first = foreign.map(|number| (number, UNREADABLE));
    }
    if first.is_none() {
        let missing = first_missing(connection, dense_after).await?;
        first = missing.map(|number| (number, REMOVED));
    }
    if let Some((number, why)) = first {
        return Err(BrokenTrail::Broken { number, why });
    }
    match missing.keys().next() {
        None => Ok(whole),
        Some(&number) if number > last => Err(BrokenTrail::Cut { number, last }),
        Some(&number) if number <= dense_after => Err(BrokenTrail::TooOld {
            number,
            first: dense_after + 1,
        }),
        Some(&number) => Err(BrokenTrail::Broken {
            number,
            why: REMOVED,
        }),
    }
}

/// What is known while the parts are gone through.
struct Walk {
    /// Records that were seen before and have not been met yet.
    missing: BTreeMap<i64, Digest>,
    /// From here on every number was given to a record of one part or the other.
    dense_after: i64,
    /// The last number of all.
    last: i64,
}

impl Walk {
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
        self.dense_after = self.dense_after.max(removed);
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
                self.dense_after = self.dense_after.max(number);
            }
            match self.missing.remove(&number) {
                Some(expected) if expected != before => {
                    return Err(BrokenTrail::Another {
                        number,
                        expected,
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
