//! A result as JSON text, written as its rows arrive.

use std::collections::HashMap;
use std::io::Write as _;
use std::pin::pin;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use sqlx::sqlite::{SqliteQueryResult, SqliteRow, SqliteValueRef};
use sqlx::{Decode, Either, Row, Sqlite, TypeInfo, ValueRef};

use super::super::{RESULT_LIMIT_BYTES, ROW_LIMIT};
use super::Failure;
use crate::HostError;

/// The columns of a query, and of which version of the schema they are.
#[derive(Debug)]
pub(super) struct Heads {
    /// Of each column that counts, its index and `"name":`. Of columns with one name the last counts.
    columns: Vec<(usize, Vec<u8>)>,
    /// Index and value of the column that tells the schema's version, where there is one.
    version: Option<(usize, i64)>,
}

impl Heads {
    /// Of columns of these names, and with `version` one more that tells the schema's.
    pub(super) fn new(names: &[&str], version: Option<i64>) -> Self {
        let last: HashMap<&str, usize> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (*name, index))
            .collect();
        let mut columns: Vec<_> = last
            .into_iter()
            .map(|(name, index)| {
                let mut head = Vec::new();
                text(&mut head, name);
                head.push(b':');
                (index, head)
            })
            .collect();
        columns.sort_unstable_by_key(|(index, _)| *index);
        Self {
            columns,
            version: version.map(|version| (names.len(), version)),
        }
    }

    fn are_of(&self, row: &SqliteRow) -> Result<bool, sqlx::Error> {
        match self.version {
            Some((index, version)) => Ok(row.try_get::<i64, _>(index)? == version),
            None => Ok(true),
        }
    }
}

/// What a query gave.
#[derive(Debug)]
pub(super) enum Rows {
    /// A JSON array of objects.
    All(Bytes),
    /// There are rows, and the columns may have other names now.
    OfAnotherSchema,
}

/// Writes an array of objects, column to value. Bytes become text, what is not UTF-8 in them U+FFFD;
/// an infinite number, which JSON has not, null.
pub(super) async fn encode(
    heads: &Heads,
    results: impl Stream<Item = Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>>,
) -> Result<Rows, Failure> {
    let mut results = pin!(results);
    let mut out = vec![b'['];
    let mut count = 0_usize;
    // What comes after the last row need not be waited for.
    while let Some(Either::Right(row)) = results.try_next().await? {
        if count == 0 && !heads.are_of(&row)? {
            return Ok(Rows::OfAnotherSchema);
        }
        if count == ROW_LIMIT {
            return Err(Failure::Limit(HostError::TooManyRows { limit: ROW_LIMIT }));
        }
        out.extend_from_slice(if count == 0 { b"{" } else { b",{" });
        for (place, (index, head)) in heads.columns.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(head);
            value(&mut out, row.try_get_raw(*index)?);
            if out.len() > RESULT_LIMIT_BYTES {
                let limit_bytes = RESULT_LIMIT_BYTES;
                return Err(Failure::Limit(HostError::TooLarge {
                    what: "result",
                    limit_bytes,
                }));
            }
        }
        out.push(b'}');
        count += 1;
    }
    out.push(b']');
    Ok(Rows::All(out.into()))
}

fn value(out: &mut Vec<u8>, value: SqliteValueRef<'_>) {
    const NULL: &[u8] = b"null";
    if value.is_null() {
        return out.extend_from_slice(NULL);
    }
    enum Kind {
        Whole,
        Real,
        Bytes,
    }
    let kind = match value.type_info().name() {
        "INTEGER" => Kind::Whole,
        "REAL" => Kind::Real,
        _ => Kind::Bytes,
    };
    match kind {
        Kind::Whole => {
            let number = <i64 as Decode<'_, Sqlite>>::decode(value).unwrap_or_default();
            write!(out, "{number}").expect("a Vec takes all that is written");
        }
        Kind::Real => {
            let number = <f64 as Decode<'_, Sqlite>>::decode(value).unwrap_or_default();
            serde_json::to_writer(out, &number).expect("a Vec takes all that is written");
        }
        Kind::Bytes => {
            let bytes = <&[u8] as Decode<'_, Sqlite>>::decode(value).unwrap_or_default();
            text(out, &String::from_utf8_lossy(bytes));
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes all that is written");
}
