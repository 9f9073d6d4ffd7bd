//! SQL: what a plugin's statement is and which tables it touches.

use std::hint::black_box;

use pinfold_hostapi::{Dialect, classify};

use crate::work_load::Prepared;

/// Rows of one table.
pub(crate) const SELECTS: &[&str] = &[
    "SELECT id, name, price FROM items WHERE id = ?",
    "SELECT * FROM items WHERE name LIKE ? AND price BETWEEN ? AND ? ORDER BY price DESC LIMIT 50",
    "SELECT category, count(*), avg(price) FROM items GROUP BY category HAVING count(*) > 3",
];

/// Rows of several tables.
pub(crate) const JOINS: &[&str] = &[
    "SELECT t.id, t.title, u.login, count(a.id) FROM tickets t \
     JOIN users u ON u.id = t.owner_id LEFT JOIN articles a ON a.ticket_id = t.id \
     WHERE t.queue_id = ? AND t.state IN ('new', 'open') GROUP BY t.id ORDER BY t.created DESC LIMIT ? OFFSET ?",
    "WITH open AS (SELECT * FROM tickets WHERE state = 'open') \
     SELECT q.name, (SELECT count(*) FROM open WHERE open.queue_id = q.id) FROM queues q \
     WHERE EXISTS (SELECT 1 FROM open WHERE open.queue_id = q.id)",
];

/// Changes of rows.
pub(crate) const WRITES: &[&str] = &[
    "INSERT INTO items (name, price, created) VALUES (?, ?, datetime('now'))",
    "INSERT INTO counters (name, value) VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
    "UPDATE items SET price = ?, changed = datetime('now') WHERE id = ?",
    "DELETE FROM items WHERE id IN (SELECT item_id FROM withdrawn WHERE day < ?)",
];

/// What a plugin does to its tables when it is initialised.
pub(crate) const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL DEFAULT 0, \
     owner_id INTEGER REFERENCES users (id))",
    "CREATE INDEX IF NOT EXISTS items_by_name ON items (name, price)",
];

/// Classifies each of the statements once.
pub(crate) fn classify_each(statements: &'static [&'static str]) -> Prepared {
    Box::new(move |times| {
        for _ in 0..times {
            for sql in statements {
                let classified = classify(black_box(sql), Dialect::Sqlite);
                black_box(classified.unwrap_or_else(|error| panic!("{sql}: {error}")));
            }
        }
    })
}
