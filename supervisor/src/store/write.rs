//! Writing to the store, one after the other.
//!
//! SQLite has one writer at a time. Two that compete for its lock ask again at intervals, whoever comes first, and give
//! up after the time for somebody else's lock; where the disk takes a second for a commit, some wait in vain. And both
//! would hold a connection that readers need. So those of this process take turns, in order of arrival, before they take
//! a connection.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteQueryResult};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::OwnedSemaphorePermit;

use super::{Store, StoreError, failed};

/// A transaction that writes. It holds SQLite's lock from its beginning on: what it reads is so until it is committed.
/// Given up, it changes nothing.
#[derive(Debug)]
pub(super) struct Write {
    transaction: Transaction<'static, Sqlite>,
    _turn: OwnedSemaphorePermit,
}

impl Write {
    /// Makes what was written last.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

impl Store {
    /// Begins a transaction that writes, when it is its turn.
    pub(super) async fn begin(&self, operation: &'static str) -> Result<Write, StoreError> {
        let turn = self.turn().await;
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        Ok(Write {
            transaction: begun.map_err(failed(operation))?,
            _turn: turn,
        })
    }

    /// Runs one statement that writes, when it is its turn. Committed when this returns.
    pub(super) async fn write(
        &self,
        operation: &'static str,
        statement: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<SqliteQueryResult, StoreError> {
        let _turn = self.turn().await;
        let done = statement.execute(&self.pool).await;
        done.map_err(failed(operation))
    }

    async fn turn(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .expect("nobody closes it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writers_take_turns_and_a_reader_waits_for_none_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db")).await;
        let store = store.unwrap();
        let first = store.begin("write first").await.unwrap();
        let next: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let write = store.begin("write next").await?;
                    write.commit().await.map_err(failed("commit"))
                })
            })
            .collect();
        // All of them ask: more than there are connections.
        tokio::task::yield_now().await;
        assert_eq!(store.tokens().await.unwrap().len(), 0);
        first.commit().await.unwrap();
        for write in next {
            write.await.unwrap().unwrap();
        }
    }
}
