//! Statements made at random, whose tables are known by construction, compared with what we find
//! and with what SQLite's own compiler says that it opens.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use pinfold_hostapi::{Dialect, StatementError, StatementKind, classify};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq};
use proptest::test_runner::{Config, TestRunner};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::world::script;

const TABLES: [&str; 4] = ["t1", "t2", "t3", "t4"];

/// Makes a statement out of a string of choices, and keeps account of its tables.
struct Maker {
    choices: std::vec::IntoIter<u8>,
    /// Names defined by the `WITH`s around the current place.
    scopes: Vec<Vec<&'static str>>,
    reads: BTreeSet<String>,
    depth: usize,
}

impl Maker {
    /// One of `count`; the first when the choices are used up, so that everything ends.
    fn choose(&mut self, count: usize) -> usize {
        usize::from(self.choices.next().unwrap_or(0)) % count
    }

    fn spelt(&mut self, name: &str) -> String {
        match self.choose(7) {
            0 => name.to_owned(),
            1 => name.to_uppercase(),
            2 => format!("\"{name}\""),
            3 => format!("`{name}`"),
            4 => format!("[{name}]"),
            5 => format!("/* t9 */ {name}"),
            _ => format!("-- t9\n{name}"),
        }
    }

    /// A reference in FROM: a table, or what a WITH defines under a table's name.
    fn reference(&mut self) -> String {
        let name = TABLES[self.choose(4)];
        let spelt = self.spelt(name);
        if self.choose(4) == 3 {
            self.reads.insert(name.to_owned());
            return format!("main . {spelt}");
        }
        if !self.scopes.iter().flatten().any(|defined| *defined == name) {
            self.reads.insert(name.to_owned());
        }
        spelt
    }

    /// A query with one column, `id`.
    fn query(&mut self) -> String {
        self.depth += 1;
        let form = if self.depth > 4 { 0 } else { self.choose(13) };
        let sql = match form {
            0 => format!("SELECT id FROM {}", self.reference()),
            1 => format!(
                "SELECT l.id FROM {} AS l LEFT JOIN {} r ON l.id = r.id",
                self.reference(),
                self.reference()
            ),
            2 => format!(
                "SELECT l.id FROM {} l,({} CROSS JOIN {}) r",
                self.reference(),
                self.reference(),
                self.reference()
            ),
            3 => format!(
                "SELECT id FROM {} WHERE id NOT IN ({})",
                self.reference(),
                self.query()
            ),
            4 => format!(
                "SELECT id FROM {} WHERE EXISTS ({})",
                self.reference(),
                self.query()
            ),
            5 => format!("SELECT ({}) AS id", self.query()),
            6 => format!(
                "SELECT id FROM ({}) UNION ALL SELECT id FROM ({})",
                self.query(),
                self.query()
            ),
            7 => format!("SELECT id FROM ({}) AS t2", self.query()),
            8 => self.with("SELECT id FROM"),
            9 => format!(
                "SELECT id FROM {} ORDER BY ({}) LIMIT ({}) OFFSET ({})",
                self.reference(),
                self.query(),
                self.query(),
                self.query()
            ),
            10 => format!(
                "SELECT column1 AS id FROM (VALUES (({})), (2))",
                self.query()
            ),
            11 => format!(
                "SELECT max(id) FILTER (WHERE ({})) AS id FROM {} GROUP BY ({}) HAVING ({})",
                self.query(),
                self.reference(),
                self.query(),
                self.query()
            ),
            _ => format!(
                "SELECT CASE WHEN ({}) THEN abs(id + ({})) END AS id FROM {} WINDOW w AS (ORDER BY ({}))",
                self.query(),
                self.query(),
                self.reference(),
                self.query()
            ),
        };
        self.depth -= 1;
        sql
    }

    /// A WITH whose names are tables' names, and a query under it.
    fn with(&mut self, before: &str) -> String {
        let first = self.choose(4);
        let names = [TABLES[first], TABLES[(first + 1 + self.choose(3)) % 4]];
        self.scopes.push(names.to_vec());
        let recursive = if self.choose(2) == 1 {
            "RECURSIVE "
        } else {
            ""
        };
        let (one, two, main) = (self.query(), self.query(), self.query());
        self.scopes.pop();
        let [a, b] = names.map(|name| self.spelt(name));
        format!("WITH {recursive}{a}(id) AS ({one}), {b}(id) AS ({two}) {before} ({main})")
    }

    /// A write and its target.
    fn write(&mut self) -> (String, &'static str) {
        let name = TABLES[self.choose(4)];
        let mut target = self.spelt(name);
        if self.choose(3) == 2 {
            target = format!("main.{target}");
        }
        let headed = self.choose(2) == 1;
        let head = if headed {
            // Names that the rest of the statement sees, the target among them perhaps.
            let defined = TABLES[self.choose(4)];
            self.scopes.push(vec![defined]);
            format!("WITH {defined}(id) AS ({}) ", self.query())
        } else {
            String::new()
        };
        let body = match self.choose(6) {
            0 => format!("INSERT INTO {target} (id) {}", self.plain_query()),
            1 => format!(
                "INSERT OR REPLACE INTO {target} (id, a) VALUES (({}), 1)",
                self.query()
            ),
            2 => format!(
                "INSERT OR IGNORE INTO {target} (id) VALUES (({})) ON CONFLICT (id) DO UPDATE SET a = ({}) WHERE ({})",
                self.query(),
                self.query(),
                self.query()
            ),
            3 => format!(
                "UPDATE {target} SET a = ({}) WHERE id IN ({})",
                self.query(),
                self.query()
            ),
            4 => format!(
                "UPDATE OR IGNORE {target} SET a = q.id FROM ({}) AS q WHERE q.id = a",
                self.query()
            ),
            _ => format!("DELETE FROM {target} WHERE EXISTS ({})", self.query()),
        };
        if headed {
            self.scopes.pop();
        }
        (head + &body, name)
    }

    /// A query that does not begin with a WITH of its own.
    fn plain_query(&mut self) -> String {
        format!("SELECT id FROM ({}) WHERE true", self.query())
    }
}

/// Tables that the compiled statement opens: those it reads or writes, and those it writes.
async fn opened(
    engine: &mut SqliteConnection,
    sql: &str,
) -> Result<(BTreeSet<String>, BTreeSet<String>), sqlx::Error> {
    let pages: BTreeMap<i64, String> =
        sqlx::query_as("SELECT rootpage, tbl_name FROM sqlite_schema WHERE rootpage > 0")
            .fetch_all(&mut *engine)
            .await?
            .into_iter()
            .chain([(1, "sqlite_schema".to_owned())])
            .collect();
    let program = sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}")))
        .fetch_all(engine)
        .await?;
    let (mut all, mut written) = (BTreeSet::new(), BTreeSet::new());
    for row in program {
        let opcode: String = row.try_get("opcode")?;
        let page: i64 = row.try_get("p2")?;
        if ["OpenRead", "ReopenIdx", "OpenWrite"].contains(&opcode.as_str()) {
            let table = pages[&page].clone();
            if opcode == "OpenWrite" {
                written.insert(table.clone());
            }
            all.insert(table);
        }
        assert_ne!(opcode, "VOpen", "no virtual table is meant");
    }
    Ok((all, written))
}

fn compare(cases: u32, make: impl Fn(&mut Maker) -> (String, Option<&'static str>)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let engine = runtime.block_on(async {
        let mut engine = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for table in TABLES {
            script(
                &mut engine,
                &format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, a UNIQUE)"),
            )
            .await;
        }
        engine
    });
    let engine = std::cell::RefCell::new(engine);
    let compiled = Cell::new(0_u32);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&vec(any::<u8>(), 0..60), |choices| {
        let mut maker = Maker {
            choices: choices.into_iter(),
            scopes: Vec::new(),
            reads: BTreeSet::new(),
            depth: 0,
        };
        let (sql, target) = make(&mut maker);
        let found = match classify(&sql, Dialect::Sqlite) {
            Ok(found) => found,
            Err(error) => {
                let large = matches!(error, StatementError::TooMuchWork);
                prop_assert!(
                    large || error.to_string().contains("recursion limit"),
                    "{sql}: {error}"
                );
                return Ok(());
            }
        };
        let kind = if target.is_some() {
            StatementKind::Write
        } else {
            StatementKind::Query
        };
        prop_assert_eq!(found.kind, kind, "{}", &sql);
        prop_assert_eq!(&found.reads, &maker.reads, "{}", &sql);
        prop_assert_eq!(
            found.writes.iter().map(String::as_str).collect::<Vec<_>>(),
            Vec::from_iter(target),
            "{}",
            &sql
        );
        // A WITH that refers to itself does not compile; what does must not open more.
        if let Ok((all, written)) = runtime.block_on(opened(&mut engine.borrow_mut(), &sql)) {
            compiled.set(compiled.get() + 1);
            let known: BTreeSet<String> = found.reads.union(&found.writes).cloned().collect();
            prop_assert!(all.is_subset(&known), "{}: {:?} {:?}", &sql, all, known);
            prop_assert!(written.is_subset(&found.writes), "{}: {:?}", &sql, written);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(
        compiled.get() > cases / 3,
        "only {} of {cases} compiled",
        compiled.get()
    );
}

#[test]
fn queries_open_no_table_that_we_do_not_find() {
    compare(1_500, |maker| (maker.query(), None));
}

#[test]
fn writes_open_no_table_that_we_do_not_find() {
    compare(1_500, |maker| {
        let (sql, target) = maker.write();
        (sql, Some(target))
    });
}
