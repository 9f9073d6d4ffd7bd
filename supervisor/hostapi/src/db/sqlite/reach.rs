//! Which tables a write reaches beside its own: through foreign keys that carry a change on.
//!
//! SQLite does so without asking whose tables they are. `ON DELETE CASCADE` removes rows of the
//! table that refers, `SET NULL`, `SET DEFAULT` and `ON UPDATE CASCADE` change them; `DROP TABLE`
//! begins with removing every row. <https://sqlite.org/foreignkeys.html>

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::super::sql::RowChanges;
use super::{Failure, guarded};

/// Most foreign keys that carry one change on. SQLite makes a program for each when it prepares the statement,
/// one within the other, on a stack on which some 1,400 have room.
pub(super) const CARRIED_LIMIT: usize = 200;

/// What carries changes on, for one version of the schema. Names are in lower case.
#[derive(Debug, Default)]
pub(super) struct Keys {
    edges: Vec<Edge>,
    /// Tables that a plain insert or update may remove rows from: their own schema says
    /// `ON CONFLICT REPLACE`, or has the word somewhere.
    replacing: BTreeSet<String>,
}

/// A foreign key.
#[derive(Debug)]
struct Edge {
    child: String,
    parent: String,
    on_delete: Action,
    on_update: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Nothing, or the change is refused.
    Keeps,
    Sets,
    Cascades,
}

impl Action {
    fn parse(text: &str) -> Self {
        match text {
            "CASCADE" => Self::Cascades,
            "SET NULL" | "SET DEFAULT" => Self::Sets,
            _ => Self::Keeps,
        }
    }
}

/// A kind of change of a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Removed,
    Updated,
}

impl Keys {
    /// The tables beside `table` whose rows change when its own do; none where more than [`CARRIED_LIMIT`] keys do
    /// that.
    pub(super) fn reached(&self, table: &str, changes: RowChanges) -> Option<BTreeSet<String>> {
        let mut seen = BTreeSet::new();
        let mut next = Vec::new();
        let mut carried = 0;
        if changes.removed || self.replacing.contains(table) {
            next.push((table, Change::Removed));
        }
        if changes.updated {
            next.push((table, Change::Updated));
        }
        while let Some((parent, change)) = next.pop() {
            if !seen.insert((parent, change)) {
                continue;
            }
            for edge in self.edges.iter().filter(|edge| edge.parent == parent) {
                let child = edge.child.as_str();
                let action = match change {
                    Change::Removed => edge.on_delete,
                    Change::Updated => edge.on_update,
                };
                match (action, change) {
                    (Action::Keeps, _) => continue,
                    (Action::Cascades, Change::Removed) => next.push((child, Change::Removed)),
                    _ => next.push((child, Change::Updated)),
                }
                carried += 1;
                if carried > CARRIED_LIMIT {
                    return None;
                }
                if self.replacing.contains(child) {
                    next.push((child, Change::Removed));
                }
            }
        }
        let tables = seen.into_iter().map(|(table, _)| table);
        let others = tables.filter(|one| *one != table);
        Some(others.map(str::to_owned).collect())
    }
}

/// The newest [`Keys`], and of which version of the schema they are.
#[derive(Debug, Default)]
pub(super) struct KnownKeys(Mutex<Option<(i64, Arc<Keys>)>>);

impl KnownKeys {
    /// The keys of the schema as `connection` sees it.
    pub(super) async fn current(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Arc<Keys>, Failure> {
        let version = guarded::schema_version(connection).await?;
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((of, keys)) = known
            && of == version
        {
            return Ok(keys);
        }
        let keys = Arc::new(read(connection).await?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, Arc::clone(&keys)));
        Ok(keys)
    }
}

async fn read(connection: &mut SqliteConnection) -> Result<Keys, sqlx::Error> {
    const EDGES: &str = "SELECT lower(m.name), lower(f.\"table\"), f.on_delete, f.on_update \
                         FROM main.sqlite_schema AS m, pragma_foreign_key_list(m.name, 'main') AS f \
                         WHERE m.type = 'table' \
                         AND NOT (f.on_delete IN ('NO ACTION', 'RESTRICT') \
                                  AND f.on_update IN ('NO ACTION', 'RESTRICT'))";
    const REPLACING: &str = "SELECT lower(name) FROM main.sqlite_schema \
                             WHERE type = 'table' AND instr(lower(sql), 'replace') > 0";
    let mut keys = Keys::default();
    for row in sqlx::query(EDGES).fetch_all(&mut *connection).await? {
        let action = |at: usize| row.try_get(at).map(Action::parse);
        keys.edges.push(Edge {
            child: row.try_get(0)?,
            parent: row.try_get(1)?,
            on_delete: action(2)?,
            on_update: action(3)?,
        });
    }
    let replacing = sqlx::query_scalar(REPLACING).fetch_all(connection).await?;
    keys.replacing = replacing.into_iter().collect();
    Ok(keys)
}
