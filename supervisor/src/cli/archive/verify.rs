//! Whether the databases of an archive are whole, and what the daemon can go on from.
//!
//! Here SQLite opens them, to read and to change: where they are unpacked nobody else can put a journal or a
//! log beside them.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};

use super::areas::{AreaKind, DATABASE};
use super::error::ArchiveError;
use super::unpacked::Unpacked;
use crate::store::StoreError;
use crate::store::audit::chain::Part;
use crate::store::audit::reader::{Reader, Seen};
use crate::store::migrate;

/// Every database is whole, and the audit trail is and ends where it did. Databases for plugins are then in the
/// mode in which the daemon makes them.
pub(in crate::cli) async fn databases(unpacked: &Unpacked) -> Result<(), ArchiveError> {
    for staged in &unpacked.staged {
        if staged.area.kind == AreaKind::Database {
            is_whole(&staged.area.name, &staged.at).await?;
            if staged.area.name != DATABASE {
                readers_beside_a_writer(&staged.at).await?;
            }
        }
    }
    let Some(own) = unpacked.at(DATABASE) else {
        return Ok(());
    };
    let mut reader = Reader::open(own).await?;
    let heads = unpacked.manifest.audit.iter();
    let expected: BTreeMap<_, _> = heads
        .map(|head| {
            let seen = Seen {
                hash: head.hash,
                part: Part::named(&head.part),
            };
            (head.number, seen)
        })
        .collect();
    let verified = reader.verify(&expected).await;
    verified.map_err(ArchiveError::Trail)?;
    Ok(())
}

async fn is_whole(name: &str, path: &Path) -> Result<(), ArchiveError> {
    let unopened = |source| {
        ArchiveError::Store(StoreError::Open {
            path: path.into(),
            source,
        })
    };
    let mut connection = migrate::open_to_read(path).await.map_err(unopened)?;
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(unopened)?;
    // The next one to open it is to be alone.
    connection.close().await.map_err(unopened)?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(ArchiveError::Damaged {
            name: name.to_owned(),
            why: verdict,
        }),
    }
}

/// Gives a plugins' database the mode in which the daemon makes them: a copy in a backup has lost it, and the
/// daemon itself changes no mode of a file that it did not make. Its own has it from each start.
async fn readers_beside_a_writer(path: &Path) -> Result<(), ArchiveError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal);
    let changed = async { options.connect().await?.close().await };
    changed.await.map_err(|source| {
        ArchiveError::Store(StoreError::Open {
            path: path.into(),
            source,
        })
    })
}
