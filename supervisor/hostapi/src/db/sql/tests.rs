use super::*;

pub(super) fn found(sql: &str) -> Classified {
    classify(sql, Dialect::Sqlite).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub(super) fn refused(sql: &str) -> StatementError {
    match classify(sql, Dialect::Sqlite) {
        Err(error) => error,
        Ok(found) => panic!("{sql}: {found:?}"),
    }
}

fn names(set: &BTreeSet<String>) -> String {
    set.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_table_of_a_query_is_found() {
    for (sql, reads) in [
        ("SELECT 1", ""),
        ("VALUES (1), (2)", ""),
        ("SELECT * FROM items", "items"),
        ("select * from ITEMS as users", "items"),
        ("SELECT * FROM items, users", "items users"),
        ("SELECT * FROM items u, users v", "items users"),
        (
            "SELECT * FROM items JOIN users USING (id) LEFT JOIN orders ON 1",
            "items orders users",
        ),
        (
            "SELECT * FROM (items NATURAL JOIN users) CROSS JOIN orders",
            "items orders users",
        ),
        ("SELECT * FROM \"users\"", "users"),
        ("SELECT * FROM `users`", "users"),
        ("SELECT * FROM [users]", "users"),
        ("SELECT * FROM 'users'", "users"),
        ("SELECT * FROM main.users", "users"),
        ("SELECT * FROM \"MAIN\".[Users]", "users"),
        ("SELECT * FROM/**/users", "users"),
        ("SELECT * FROM--\nusers", "users"),
        (
            "SELECT (SELECT max(id) FROM users) FROM items",
            "items users",
        ),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM users)", "users"),
        (
            "SELECT 1 FROM items WHERE id IN (SELECT id FROM users)",
            "items users",
        ),
        (
            "SELECT 1 FROM items WHERE id IN (1, (SELECT id FROM users))",
            "items users",
        ),
        (
            "SELECT 1 FROM items GROUP BY (SELECT 1 FROM users)",
            "items users",
        ),
        (
            "SELECT 1 FROM items GROUP BY 1 HAVING (SELECT 1 FROM users)",
            "items users",
        ),
        (
            "SELECT 1 FROM items ORDER BY (SELECT 1 FROM users)",
            "items users",
        ),
        (
            "SELECT 1 FROM items LIMIT (SELECT 1 FROM users)",
            "items users",
        ),
        (
            "SELECT 1 FROM items LIMIT 1 OFFSET (SELECT 1 FROM users)",
            "items users",
        ),
        (
            "SELECT 1 FROM items LIMIT (SELECT 1 FROM users), (SELECT 1 FROM orders)",
            "items orders users",
        ),
        (
            "SELECT 1 FROM items JOIN orders ON (SELECT 1 FROM users)",
            "items orders users",
        ),
        ("SELECT CASE WHEN (SELECT 1 FROM users) THEN 1 END", "users"),
        (
            "SELECT count(*) FILTER (WHERE (SELECT 1 FROM users)) FROM items",
            "items users",
        ),
        (
            "SELECT sum(1) OVER (ORDER BY (SELECT 1 FROM users)) FROM items",
            "items users",
        ),
        (
            "SELECT sum(1) OVER w FROM items WINDOW w AS (PARTITION BY (SELECT 1 FROM users))",
            "items users",
        ),
        ("SELECT CAST((SELECT 1 FROM users) AS TEXT)", "users"),
        ("SELECT abs((SELECT id FROM users))", "users"),
        (
            "SELECT group_concat(id, (SELECT 1 FROM users)) FROM items",
            "items users",
        ),
        (
            "SELECT 1 UNION SELECT id FROM users EXCEPT SELECT id FROM orders",
            "orders users",
        ),
        ("VALUES ((SELECT id FROM users))", "users"),
        (
            "SELECT * FROM (SELECT * FROM (SELECT * FROM users))",
            "users",
        ),
        ("SELECT * FROM json_each((SELECT name FROM users))", "users"),
        ("SELECT * FROM items, json_tree(items.name)", "items"),
        ("SELECT x'00', 0x1F, 1e3, .5, 'a''b', \"c\" -- end", ""),
        ("SELECT * FROM sqlite_schema", "sqlite_schema"),
    ] {
        assert_eq!(names(&found(sql).reads), reads, "{sql}");
    }
}

#[test]
fn a_name_defined_by_with_is_no_table_where_it_holds_and_one_elsewhere() {
    for (sql, reads) in [
        ("WITH users AS (SELECT 1) SELECT * FROM users", ""),
        ("WITH Users AS (SELECT 1) SELECT * FROM \"USERS\"", ""),
        (
            "WITH users AS (SELECT * FROM items) SELECT * FROM users",
            "items",
        ),
        ("WITH t AS (SELECT * FROM users) SELECT * FROM t", "users"),
        ("WITH users AS (SELECT 1) SELECT * FROM main.users", "users"),
        (
            "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
            "",
        ),
        (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 9) SELECT x FROM n",
            "",
        ),
        (
            "SELECT * FROM (WITH users AS (SELECT 1) SELECT * FROM users), users",
            "users",
        ),
        (
            "SELECT (WITH users AS (SELECT 1) SELECT 1 FROM users) FROM users",
            "users",
        ),
        (
            "WITH a AS (WITH users AS (SELECT 1) SELECT * FROM users) SELECT * FROM a, users",
            "users",
        ),
        (
            "WITH users AS (SELECT 1) SELECT 1 FROM items ORDER BY (SELECT 1 FROM users)",
            "items",
        ),
        (
            "WITH users AS (SELECT 1) SELECT 1 UNION SELECT * FROM users",
            "",
        ),
    ] {
        assert_eq!(names(&found(sql).reads), reads, "{sql}");
    }
}

#[test]
fn the_target_of_a_write_is_told_from_what_it_reads() {
    for (sql, writes, reads) in [
        ("INSERT INTO items (name) VALUES (?)", "items", ""),
        ("INSERT OR REPLACE INTO items VALUES (1)", "items", ""),
        ("INSERT OR IGNORE INTO items DEFAULT VALUES", "items", ""),
        ("REPLACE INTO items VALUES (1)", "items", ""),
        ("INSERT INTO items SELECT * FROM users", "items", "users"),
        ("INSERT INTO items SELECT * FROM items", "items", "items"),
        (
            "INSERT INTO items VALUES ((SELECT password FROM users))",
            "items",
            "users",
        ),
        (
            "INSERT INTO items (id) VALUES (1) ON CONFLICT (id) DO NOTHING",
            "items",
            "",
        ),
        (
            "INSERT INTO items (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = (SELECT 1 FROM users)",
            "items",
            "users",
        ),
        ("UPDATE items SET name = 'x' WHERE id = 1", "items", ""),
        (
            "UPDATE OR IGNORE main.items AS i SET name = 'x'",
            "items",
            "",
        ),
        (
            "UPDATE items SET name = (SELECT name FROM users)",
            "items",
            "users",
        ),
        (
            "UPDATE items SET name = u.name FROM users u",
            "items",
            "users",
        ),
        (
            "UPDATE items SET (a, b) = (SELECT 1, 2 FROM users)",
            "items",
            "users",
        ),
        ("DELETE FROM items", "items", ""),
        (
            "DELETE FROM items WHERE id IN (SELECT id FROM users)",
            "items",
            "users",
        ),
        (
            "WITH t AS (SELECT * FROM users) INSERT INTO items SELECT * FROM t",
            "items",
            "users",
        ),
        (
            "WITH items AS (SELECT 1) INSERT INTO items SELECT * FROM items",
            "items",
            "",
        ),
        (
            "WITH items AS (SELECT 1) UPDATE items SET id = 1",
            "items",
            "",
        ),
        ("WITH items AS (SELECT 1) DELETE FROM items", "items", ""),
    ] {
        let found = found(sql);
        assert_eq!(found.kind, StatementKind::Write, "{sql}");
        assert_eq!(
            (names(&found.writes).as_str(), names(&found.reads).as_str()),
            (writes, reads),
            "{sql}"
        );
    }
}

#[test]
fn a_change_of_schema_names_the_tables_it_changes() {
    for (sql, schema, reads) in [
        (
            "CREATE TABLE gk_a (id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT NOT NULL DEFAULT 'x')",
            "gk_a",
            "",
        ),
        (
            "CREATE TABLE IF NOT EXISTS main.gk_a (id INT, UNIQUE (id)) WITHOUT ROWID",
            "gk_a",
            "",
        ),
        (
            "CREATE TABLE gk_a (id INT REFERENCES users (id))",
            "gk_a",
            "users",
        ),
        (
            "CREATE TABLE gk_a (id INT, FOREIGN KEY (id) REFERENCES users (id))",
            "gk_a",
            "users",
        ),
        ("CREATE TABLE gk_a AS SELECT * FROM users", "gk_a", "users"),
        ("ALTER TABLE gk_a ADD COLUMN n TEXT", "gk_a", ""),
        (
            "ALTER TABLE gk_a ADD COLUMN n INT REFERENCES users (id)",
            "gk_a",
            "users",
        ),
        ("ALTER TABLE gk_a DROP COLUMN n", "gk_a", ""),
        ("ALTER TABLE gk_a RENAME COLUMN n TO m", "gk_a", ""),
        ("ALTER TABLE gk_a RENAME TO users", "gk_a users", ""),
        ("DROP TABLE IF EXISTS gk_a", "gk_a", ""),
        (
            "CREATE UNIQUE INDEX IF NOT EXISTS gk_i ON gk_a (n) WHERE n > 1",
            "gk_a",
            "",
        ),
    ] {
        let found = found(sql);
        assert_eq!(found.kind, StatementKind::Schema, "{sql}");
        assert_eq!(
            (names(&found.schema).as_str(), names(&found.reads).as_str()),
            (schema, reads),
            "{sql}"
        );
        assert!(found.writes.is_empty());
    }
    let dropped = found("DROP INDEX \"GK_I\"");
    assert_eq!(dropped.dropped_index.as_deref(), Some("gk_i"));
}

#[test]
fn a_table_that_is_renamed_again_and_again_counts_each_time() {
    let renamed = |times: usize| {
        let names: Vec<String> = (0..times).map(|n| format!("RENAME TO t{n}")).collect();
        format!("ALTER TABLE gk_a {}", names.join(", "))
    };
    assert_eq!(found(&renamed(199)).schema.len(), 200);
    let error = refused(&renamed(200));
    assert_eq!(error.to_string(), "statement has more than 200 tables");
}

#[test]
fn what_is_never_permitted_says_so() {
    for (sql, text) in [
        ("PRAGMA table_info(users)", "PRAGMA is not permitted"),
        ("ATTACH DATABASE '/x' AS x", "ATTACH is not permitted"),
        ("  vacuum into '/x'", "VACUUM is not permitted"),
        ("DETACH x", "DETACH is not permitted"),
        ("REINDEX", "REINDEX is not permitted"),
        ("BEGIN", "BEGIN is not permitted"),
        ("COMMIT", "COMMIT is not permitted"),
        ("ROLLBACK", "ROLLBACK is not permitted"),
        ("SAVEPOINT s", "SAVEPOINT is not permitted"),
        ("EXPLAIN SELECT 1", "EXPLAIN is not permitted"),
        (
            "CREATE VIEW v AS SELECT * FROM users",
            "CREATE VIEW is not permitted",
        ),
        (
            "CREATE VIRTUAL TABLE v USING fts5(a)",
            "CREATE VIRTUAL TABLE is not permitted",
        ),
        (
            "SELECT load_extension('x')",
            "function \"load_extension\" is not permitted",
        ),
        (
            "SELECT * FROM pragma_table_info('users')",
            "function \"pragma_table_info\" is not permitted",
        ),
        (
            "SELECT * FROM pragma_table_list",
            "table \"pragma_table_list\" is not permitted",
        ),
        ("SELECT * FROM dbstat", "table \"dbstat\" is not permitted"),
        (
            "SELECT * FROM temp.users",
            "schema \"temp\" is not permitted",
        ),
        (
            "SELECT * FROM sqlite_temp_schema",
            "table \"sqlite_temp_schema\" is not permitted",
        ),
        (
            "DELETE FROM sqlite_schema",
            "table \"sqlite_schema\" is not permitted",
        ),
        ("SELECT 1; SELECT 2", "more than one statement in one call"),
        ("", "statement is empty"),
        (" ; ", "statement is empty"),
        ("SELECT :a", "\":\" is not permitted in a statement"),
        ("SELECT 1\0", "\"\\0\" is not permitted in a statement"),
        (
            "INSERT INTO items VALUES (1) RETURNING *",
            "RETURNING is not permitted",
        ),
    ] {
        assert_eq!(refused(sql).to_string(), text, "{sql}");
    }
}

#[test]
fn placeholders_are_counted_and_odd_ones_refused() {
    for (sql, needed) in [
        ("SELECT 1", 0),
        ("SELECT ?, '?', \"?\" -- ?\n, ? /* ? */", 2),
        ("SELECT ?2, ?1, ?2", 2),
        ("SELECT ?7", 7),
    ] {
        assert_eq!(found(sql).placeholders, needed, "{sql}");
    }
    // ?0 and $0 would be an index of -1 in the driver.
    for sql in [
        "SELECT ?0",
        "SELECT $0",
        "SELECT $1",
        "SELECT ?1, ?",
        "SELECT ?1001",
        "SELECT ?99999999999999999999",
        "SELECT ?١",
    ] {
        assert!(
            matches!(refused(sql), StatementError::Placeholder { .. }),
            "{sql}"
        );
    }
    let many = format!("SELECT {}", vec!["?"; PARAMETER_LIMIT + 1].join(","));
    assert_eq!(refused(&many), StatementError::TooManyPlaceholders);
}

/// A stack as small as the smallest that a task may run on.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(work)
        .unwrap();
    thread.join().unwrap();
}

#[test]
fn depth_is_bounded_in_every_direction() {
    on_a_small_stack(|| {
        let n = 20_000;
        for sql in [
            format!("SELECT 1{}", "+1".repeat(n)),
            format!("SELECT 1{}", " OR 1".repeat(9_000)),
            format!("SELECT 1{}", " COLLATE x".repeat(5_000)),
            format!("SELECT {}1", "- ".repeat(n)),
            format!("SELECT {}1", "NOT ".repeat(9_000)),
            format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(4_000)),
            format!("SELECT * FROM {}a{}", "(".repeat(n), ")".repeat(n)),
            "SELECT * FROM (".repeat(4_000),
            "SELECT abs(".repeat(4_000),
            "WITH a AS (".repeat(4_000),
            format!(
                "SELECT {}1{}",
                "CASE WHEN ".repeat(3_000),
                " THEN 1 END".repeat(3_000)
            ),
            format!("SELECT {}", "1,".repeat(30_000)),
            ")".repeat(n),
        ] {
            let error = refused(&sql);
            assert!(
                matches!(
                    error,
                    StatementError::TooDeep | StatementError::Unparsable { .. }
                ),
                "{error}"
            );
        }
        // As deep as is let through, and as wide.
        found(&format!("SELECT 1{}", "+1".repeat(1_000)));
        found(&format!("SELECT {}", vec!["-1"; 5_000].join(",")));
        found(&format!(
            "INSERT INTO items VALUES {}",
            vec!["(1, -2, 'x')"; 1_500].join(",")
        ));
    });
}

/// A parser that tries one reading after another may take time that doubles with each bracket.
#[test]
fn no_statement_takes_long_to_understand() {
    let started = std::time::Instant::now();
    for depth in [20, 40, 48, 60] {
        for (open, close) in [
            ("(", ")"),
            ("(SELECT ", ")"),
            ("(SELECT * FROM ", ")"),
            ("abs(", ")"),
            ("1 IN (", ")"),
            ("1 IN ((", "))"),
            ("EXISTS (", ")"),
            ("CASE WHEN ", " THEN 1 END"),
            ("CAST(", " AS TEXT)"),
            ("x BETWEEN (", ") AND 1"),
            ("count(*) FILTER (WHERE ", ")"),
            ("sum(1) OVER (ORDER BY ", ")"),
            ("NOT (", ")"),
            ("-(", ")"),
            ("((1, ", "))"),
            ("interval (", ")"),
        ] {
            for (before, inside) in [
                ("SELECT ", "1"),
                ("SELECT * FROM ", "a"),
                ("SELECT 1 FROM a WHERE ", ""),
                ("INSERT INTO a VALUES ", "1 1"),
            ] {
                let whole = before.to_owned() + &open.repeat(depth) + inside + &close.repeat(depth);
                let broken = before.to_owned() + &open.repeat(depth) + inside;
                fuzz_classify(&whole);
                fuzz_classify(&broken);
            }
        }
    }
    assert!(
        started.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn columns_that_the_database_generates_are_refused() {
    let columns = "CREATE TABLE p (a INTEGER, b INTEGER AS (a + a), c INTEGER AS (b + b))";
    for made in [columns, "ALTER TABLE items ADD COLUMN c INTEGER AS (b + b)"] {
        let error = refused(made);
        assert!(
            matches!(error, StatementError::NotPermitted { what } if what == "a generated column"),
            "{error}"
        );
    }
}

#[test]
fn what_is_searched_for_is_seen_to_be_short() {
    for (sql, needles) in [
        (
            "SELECT replace(name, ' ', '-'), instr(name, char(10)) FROM items",
            vec![],
        ),
        (
            "SELECT ?, instr(name, lower(?)), rtrim(name, ?) FROM items WHERE a = ?",
            vec![1, 2],
        ),
        (
            "SELECT instr(name, +?), instr(name, -id) FROM items",
            vec![0],
        ),
        ("SELECT replace(?2, ?1, ?3)", vec![0]),
        (
            "SELECT trim(name), ltrim(name), unhex(name) FROM items",
            vec![],
        ),
        ("SELECT name LIKE '%' || ? || '%' FROM items", vec![]),
        ("CREATE INDEX i ON items (instr(name, 'x'))", vec![]),
    ] {
        assert_eq!(Vec::from_iter(found(sql).needles), needles, "{sql}");
    }
    let long = format!("SELECT replace(name, '{}', '') FROM items", "x".repeat(300));
    for sql in [
        long.as_str(),
        "SELECT instr(name, name) FROM items",
        "SELECT instr(name, +name) FROM items",
        "SELECT replace(name, +(+name) || 'x', '') FROM items",
        "SELECT \"instr\"(name, printf('%.*c', 9000000, 'a') || 'b') FROM items",
        "SELECT replace(name, (SELECT name FROM items), '') FROM items",
        "SELECT rtrim(name, name || 'x') FROM items",
        "SELECT \"trim\"(name, name) FROM items",
        "SELECT unhex(name, name) FROM items",
        "UPDATE items SET name = instr(name, hex(name))",
        "DELETE FROM items WHERE instr(name, upper(name))",
    ] {
        assert!(
            matches!(refused(sql), StatementError::Needle { .. }),
            "{sql}"
        );
    }
    let many = |times| vec!["name LIKE ?"; times].join(" OR ");
    found(&format!("SELECT 1 FROM items WHERE {}", many(40)));
    let sql = format!("SELECT 1 FROM items WHERE {}", many(60));
    assert_eq!(refused(&sql), StatementError::TooMuchWork);
    let sql = format!("SELECT {} FROM items", vec!["name GLOB '*'"; 60].join(", "));
    assert_eq!(refused(&sql), StatementError::TooMuchWork);
}

#[test]
fn the_list_of_functions_is_in_order() {
    assert!(function::PERMITTED.is_sorted());
}

#[test]
fn the_fuzz_body_holds_over_the_corpus() {
    for (_, sql) in corpus() {
        for end in 0..=sql.len() {
            if let Some(prefix) = sql.get(..end) {
                fuzz_classify(prefix);
            }
        }
    }
}

fn corpus() -> impl Iterator<Item = (usize, &'static str)> {
    include_str!("../../../tests/corpus/statements.sql")
        .split("\n--\n")
        .enumerate()
}

proptest::proptest! {
    #[test]
    fn the_fuzz_body_holds_over_mutations(
        at in 0_usize..4_000,
        junk in "[ -~\u{0}\u{a0}\u{feff}é]{0,6}",
        cut in 0_usize..12,
        pick in proptest::sample::Index::arbitrary(),
    ) {
        let all: Vec<_> = corpus().map(|(_, sql)| sql).collect();
        let mut chars: Vec<char> = pick.get(&all).chars().collect();
        let at = at % (chars.len() + 1);
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, junk.chars());
        fuzz_classify(&chars.into_iter().collect::<String>());
    }
}

use proptest::arbitrary::Arbitrary as _;
