//! Where one part ended, told in the other whenever that one's oldest records are taken away.
//!
//! Both parts share one numbering. As long as every number has its record, a part whose end is missing
//! leaves a gap; once one part's oldest are gone there are gaps of its own, and a part that went quiet
//! before them could lose its end unseen. What is told here lies in the chain of the part that goes on.

use sqlx::SqliteConnection;

use super::Entry;
use super::chain::Part;
use super::rows::{self, Head, TRIM};

/// What tells in a part where the other one ended: the subject is the other one, the detail its last
/// record as `NUMBER:HASH`.
pub(super) const END: &str = "audit.head";

/// The record that tells of an end.
pub(super) fn entry(end: Head) -> Entry {
    let Head { part, number, hash } = end;
    Entry {
        detail: Some(format!("{number}:{hash}")),
        ..Entry::of_daemon(END, part.as_str().to_owned())
    }
}

/// The end that such a record tells of; `None` where it tells of none.
pub(super) fn parse(subject: &str, detail: Option<&str>) -> Option<Head> {
    let (number, hash) = detail?.split_once(':')?;
    Some(Head {
        part: Part::named(subject)?,
        number: number.parse().ok()?,
        hash: hash.parse().ok()?,
    })
}

/// Which end of the other part is to be told in `part`: the present one, unless the one that was told
/// last is no more there. That one is told again, or what shows that it was removed would itself be
/// taken away as old. `None` where the other part has no record.
pub(super) async fn to_tell(
    connection: &mut SqliteConnection,
    part: Part,
) -> Result<Option<Head>, sqlx::Error> {
    let told: Option<(String, Option<String>)> = sqlx::query_as(
        "SELECT subject, detail FROM audit WHERE part = ? AND action = ?
         ORDER BY number DESC LIMIT 1",
    )
    .bind(i64::from(part.number()))
    .bind(END)
    .fetch_optional(&mut *connection)
    .await?;
    let told = told.and_then(|(subject, detail)| parse(&subject, detail.as_deref()));
    if let Some(told) = told
        && !is_accounted_for(connection, told).await?
    {
        return Ok(Some(told));
    }
    rows::head(connection, part.other()).await
}

/// Whether a record is there as it was, or its part says that it was taken away as old.
async fn is_accounted_for(
    connection: &mut SqliteConnection,
    record: Head,
) -> Result<bool, sqlx::Error> {
    if let Some(hash) = hash_of(connection, record.part, record.number).await? {
        return Ok(hash == record.hash.0);
    }
    let trimmed: Option<String> = sqlx::query_scalar(
        "SELECT subject FROM audit WHERE part = ? AND action = ? ORDER BY number DESC LIMIT 1",
    )
    .bind(i64::from(record.part.number()))
    .bind(TRIM)
    .fetch_optional(connection)
    .await?;
    let removed: Option<i64> = trimmed.and_then(|subject| subject.parse().ok());
    Ok(removed.is_some_and(|removed| record.number <= removed))
}

/// The hash that a part's record carries; `None` where it is not there.
pub(super) async fn hash_of(
    connection: &mut SqliteConnection,
    part: Part,
    number: i64,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar("SELECT hash FROM audit WHERE part = ? AND number = ?")
        .bind(i64::from(part.number()))
        .bind(number)
        .fetch_optional(connection)
        .await
}
