//! Statements that grow past every measure, and as large ones that do not.

use std::collections::BTreeSet;

use super::super::StatementError;
use super::super::tests::{found, refused};

/// Each name reads the one before `times` times.
fn chain(names: usize, times: usize) -> String {
    let mut sql = "WITH c0 AS (SELECT 1 AS x)".to_owned();
    for at in 1..=names {
        let before = vec![format!("c{}", at - 1); times].join(" NATURAL JOIN ");
        sql += &format!(", c{at} AS (SELECT x FROM {before} LIMIT 1)");
    }
    sql + &format!(" SELECT x FROM c{names}")
}

/// Queries, each of which adds up the column of the one before so many times, by names or one in the other.
fn sums(queries: usize, times: usize, rest: &str) -> [String; 2] {
    let sum = vec!["x"; times].join(" + ");
    let mut named = "WITH c0 AS (SELECT 1 AS x)".to_owned();
    let mut nested = "SELECT 1 AS x".to_owned();
    for at in 1..=queries {
        named += &format!(", c{at}(x) AS (SELECT {sum} FROM c{} {rest})", at - 1);
        nested = format!("SELECT {sum} AS x FROM ({nested}) {rest}");
    }
    [named + &format!(" SELECT x FROM c{queries}"), nested]
}

#[test]
fn columns_that_multiply_are_bounded_by_what_they_are_made_of() {
    for fine in [sums(10, 2, ""), sums(4, 5, ""), sums(3, 10, "GROUP BY x")].as_flattened() {
        assert_eq!(found(fine).reads, BTreeSet::new(), "{fine}");
    }
    for bomb in [
        sums(17, 2, ""),
        sums(17, 2, "WHERE x > 0 GROUP BY x"),
        sums(9, 4, ""),
        sums(5, 20, "LIMIT 1"),
    ]
    .as_flattened()
    {
        assert_eq!(refused(bomb), StatementError::TooMuchWork, "{bomb}");
    }
}

#[test]
fn whatever_stands_for_something_long_is_bounded_by_how_often_it_is_named() {
    let list = |one: &str, times| vec![one; times].join(",");
    let ones = |times| format!("x IN ({})", list("1", times));
    let [_, doubled] = sums(9, 2, "");
    // Each of both alone is let through.
    for (long, named, between) in [
        // Columns of an inner query, also within another.
        (
            format!("(SELECT {} AS y FROM items)", ones(800)),
            format!("1 IN ({})", list("y", 800)),
            "SELECT {named} FROM {long}",
        ),
        (
            format!("({doubled})"),
            format!("5 IN ({})", list("x", 800)),
            "SELECT (SELECT 1 WHERE {named}) FROM {long}",
        ),
        (
            format!(
                "(VALUES ({}))",
                list("1", 1).replace('1', &format!("1 IN ({})", list("1", 800)))
            ),
            format!("1 IN ({})", list("column1", 800)),
            "SELECT {named} FROM {long}",
        ),
        // Aliases and places.
        (
            format!("{} AS y", ones(800)),
            format!("1 IN ({})", list("Y", 800)),
            "SELECT {long} FROM items WHERE {named}",
        ),
        (
            format!("{} AS y", ones(800)),
            format!("1 IN ({})", list("\"y\"", 800)),
            "SELECT {long} FROM items WHERE EXISTS (SELECT 1 WHERE {named})",
        ),
        (
            ones(800),
            list("1", 800),
            "SELECT {long} FROM items ORDER BY {named}",
        ),
        (
            ones(800),
            list("1", 800),
            "SELECT {long} FROM items GROUP BY {named}",
        ),
        (
            format!("{} AS y", ones(800)),
            format!("1 IN ({})", list("y", 800)),
            "WITH c AS (SELECT 1 WHERE {named}) SELECT {long} FROM items WHERE EXISTS (SELECT 1 FROM c)",
        ),
        // Windows.
        (
            list("x", 800),
            list("sum(1) OVER w", 200),
            "SELECT {named} FROM items WINDOW w AS (PARTITION BY {long})",
        ),
        (
            list("x", 800),
            list("sum(1) OVER (w ORDER BY id)", 200),
            "SELECT {named} FROM items WINDOW w AS (PARTITION BY {long})",
        ),
        (
            list("x", 800),
            (1..200)
                .map(|at| format!("w{at} AS (w)"))
                .collect::<Vec<_>>()
                .join(","),
            "SELECT 1 FROM items WINDOW w AS (PARTITION BY {long}), {named}",
        ),
        (
            format!("{} AS y", ones(400)),
            list("sum(1) OVER w", 100),
            "SELECT {long} FROM items WINDOW w AS (PARTITION BY y,y,y,y,y) ORDER BY 1 IN ({named})",
        ),
        (
            "items".to_owned(),
            (0..400)
                .map(|at| format!("sum(a) OVER (ORDER BY a + {at})"))
                .collect::<Vec<_>>()
                .join(","),
            "SELECT {named} FROM {long}",
        ),
        // What columns must be equal to.
        (
            "t0.a = 1".to_owned(),
            (1..20)
                .map(|at| format!("AND (t{at}.a) = t{0}.a + t{0}.a", at - 1))
                .collect::<Vec<_>>()
                .join(" "),
            "SELECT 1 FROM items WHERE {long} {named}",
        ),
        (
            ones(800),
            list("a", 800),
            "SELECT 1 FROM items WHERE ({long}) = a AND 1 IN ({named})",
        ),
        (
            list("1", 800),
            list("a", 800),
            "SELECT 1 FROM (SELECT a FROM items WHERE a = (1 IN ({long}))) WHERE EXISTS (SELECT 1 IN ({named}))",
        ),
        (
            list("b", 40),
            list("b", 1_000),
            "INSERT INTO items (a) VALUES (1) ON CONFLICT DO UPDATE SET a = 1 IN ({long}), b = 1 IN ({named})",
        ),
        // A query that is never read, copied with the one that it is in.
        (
            list("1", 2_000),
            list("c", 60),
            "WITH c AS (WITH j AS (SELECT 1 IN ({long})) SELECT a FROM items) SELECT 1 FROM {named}",
        ),
        (
            (0..60)
                .map(|at| format!("items t{at}"))
                .collect::<Vec<_>>()
                .join(","),
            (1..50)
                .map(|at| format!("c{at} AS (SELECT * FROM c{})", at - 1))
                .collect::<Vec<_>>()
                .join(","),
            "WITH c0 AS (SELECT * FROM {long}), {named} SELECT 1 FROM c49",
        ),
        // Joins by name.
        (
            format!("1 IN ({}) AS x", list("id", 800)),
            list("x", 800),
            "SELECT 1 FROM (SELECT {long} FROM items) a JOIN (SELECT id AS x FROM items) b USING ({named})",
        ),
        (
            list("x", 2_000),
            (1..60)
                .map(|at| format!("FULL JOIN items t{at} USING (x)"))
                .collect::<Vec<_>>()
                .join(" "),
            "SELECT 1 IN ({long}) FROM items {named}",
        ),
        // Unions that are read from, and what is asked of their rows.
        (
            list("x", 800),
            vec!["SELECT x FROM items"; 400].join(" UNION ALL "),
            "SELECT x IN ({long}) FROM ({named})",
        ),
        (
            list("x", 800),
            (1..150)
                .map(|at| format!("c{at} AS (SELECT DISTINCT x FROM c{})", at - 1))
                .collect::<Vec<_>>()
                .join(","),
            "WITH c0 AS (SELECT x FROM items), {named} SELECT 1 FROM c149 WHERE 1 IN ({long})",
        ),
        // All columns, again and again.
        (
            (0..400)
                .map(|at| format!("x + x AS x{at}"))
                .collect::<Vec<_>>()
                .join(","),
            (1..150)
                .map(|at| format!("c{at} AS (SELECT * FROM c{})", at - 1))
                .collect::<Vec<_>>()
                .join(","),
            "WITH c0 AS (SELECT {long} FROM items), {named} SELECT 1 FROM c149",
        ),
    ] {
        let statement =
            |long: &str, named: &str| between.replace("{long}", long).replace("{named}", named);
        let both = statement(&long, &named);
        assert_eq!(refused(&both), StatementError::TooMuchWork, "{both}");
    }
    for fine in [
        "SELECT id, coalesce(a, b, 0) AS total, (SELECT max(x) FROM items i WHERE i.id = items.id) AS last \
         FROM items WHERE total > 1 GROUP BY total, last HAVING total < 9 ORDER BY total, last DESC, 1",
        "WITH paid AS (SELECT user, sum(amount) AS total FROM payments WHERE at > ? GROUP BY user), \
         owed AS (SELECT user, sum(amount) AS total FROM invoices WHERE at > ? GROUP BY user), \
         both AS (SELECT user, total FROM paid UNION ALL SELECT user, -total FROM owed) \
         SELECT u.id, u.name, coalesce(sum(b.total), 0) AS balance, \
         CASE WHEN sum(b.total) > 0 THEN 'credit' WHEN sum(b.total) < 0 THEN 'debt' ELSE 'even' END AS state, \
         (SELECT max(at) FROM payments p WHERE p.user = u.id) AS last, \
         EXISTS (SELECT 1 FROM invoices i WHERE i.user = u.id AND i.due < ?) AS late \
         FROM users u LEFT JOIN both b ON b.user = u.id WHERE u.name LIKE ? AND state <> 'even' \
         GROUP BY u.id, u.name HAVING balance <> 0 ORDER BY state, balance DESC LIMIT 50",
        "WITH days AS (SELECT day, sum(paid) AS paid, sum(due) AS due, count(*) AS many FROM items GROUP BY day), \
         rates AS (SELECT day, paid, due, many, (paid + due) * 1.0 / (many + paid - due + 1) AS rate FROM days), \
         weeks AS (SELECT day / 7 AS week, avg(rate) AS rate, max(paid) - min(paid) + max(due) - min(due) AS span \
         FROM rates WHERE rate > 0 AND paid > due GROUP BY week), \
         moved AS (SELECT week, rate, span, rate * span + rate - span / (rate + span + 1) AS score FROM weeks), \
         ranked AS (SELECT week, score, rank() OVER (ORDER BY score DESC) AS place, score - avg(score) OVER () AS off \
         FROM moved WHERE score IS NOT NULL) \
         SELECT week, place, off, CASE WHEN off > 0 THEN 'above' WHEN off < 0 THEN 'below' ELSE 'even' END AS kind \
         FROM ranked WHERE place <= 10 AND kind <> 'even' ORDER BY place, kind",
        "INSERT INTO items (id, n) VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + excluded.n, at = datetime('now') \
         WHERE n < 10",
        "SELECT * FROM (SELECT * FROM a UNION ALL SELECT * FROM b UNION ALL SELECT * FROM c) x \
         JOIN (SELECT * FROM d UNION ALL SELECT * FROM e) y USING (id) NATURAL JOIN f WHERE x.kind IN (1, 2, 3)",
        "SELECT sum(a) OVER w, avg(a) OVER w, count(*) OVER w FROM items WINDOW w AS (PARTITION BY b ORDER BY id)",
    ] {
        found(fine);
    }
}

#[test]
fn names_that_multiply_are_bounded_by_what_they_stand_for() {
    for fine in [chain(10, 2), chain(4, 6), chain(150, 1), chain(1, 60)] {
        assert_eq!(found(&fine).reads, BTreeSet::new());
    }
    for bomb in [chain(20, 2), chain(8, 8), chain(900, 1)] {
        assert_eq!(refused(&bomb), StatementError::TooMuchWork, "{bomb}");
    }
    // Wherever the names are used, and whichever comes first.
    let bomb = chain(20, 2);
    let (head, _) = bomb.rsplit_once(" SELECT").unwrap();
    for tail in [
        "DELETE FROM items WHERE 1 IN (SELECT x FROM c20)",
        "INSERT INTO items SELECT x FROM c20",
        "SELECT (SELECT x FROM c20)",
        "SELECT 1 FROM (SELECT 1 WHERE EXISTS (SELECT 1 FROM c20))",
    ] {
        let bomb = format!("{head} {tail}");
        assert_eq!(refused(&bomb), StatementError::TooMuchWork, "{bomb}");
    }
    // A name is its own rows so far, not its query once more.
    found(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 9) SELECT x FROM n",
    );
}
