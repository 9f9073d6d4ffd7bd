//! What a statement is and which tables it touches: text in, [`Classified`] or a reason out.
//!
//! Refused is what is not known to be harmless: what the parser does not understand, more than one
//! statement, every kind of statement that is not listed, every table-like thing and every function
//! that is not listed. The text is screened first ([`screen`]) for all that the parser's lexer and
//! the database's own might read differently, for the decision is worth only as much as their
//! agreement.

mod expansion;
mod function;
mod needle;
mod schema;
mod screen;
mod tables;

use std::collections::BTreeSet;

use sqlparser::ast::{SetExpr, Statement};
use sqlparser::dialect::SQLiteDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Location;

pub use self::needle::NEEDLE_LIMIT_BYTES;

/// Longest statement, in bytes.
pub const SQL_LIMIT_BYTES: usize = 64 * 1024;

/// Most placeholders of a statement.
pub const PARAMETER_LIMIT: usize = 1_000;

/// Most tables of a statement: each is compared with all that the plugin asks for. Queries of more than
/// 64 the database itself does not join.
const TABLE_LIMIT: usize = 200;

/// Longest name of a table, an index or a schema.
const NAME_LIMIT_BYTES: usize = 255;

/// Nesting that the parser follows; it is the parser's own default, chosen for small stacks.
const RECURSION_LIMIT: usize = 50;

/// The SQL that a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite 3.
    Sqlite,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// Reads rows.
    Query,
    /// Inserts, changes or deletes rows.
    Write,
    /// Creates, changes or drops a table or an index.
    Schema,
}

/// What a statement does to rows that are there: foreign keys may carry that on to other tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowChanges {
    /// It may remove some.
    pub removed: bool,
    /// It may change some.
    pub updated: bool,
}

/// A statement that is understood. Names of tables are in lower case and without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// What it does.
    pub kind: StatementKind,
    /// Tables and views that rows are read from. The target of a write is not among them unless
    /// it is also read by a sub-select or a join.
    pub reads: BTreeSet<String>,
    /// Tables whose rows are changed.
    pub writes: BTreeSet<String>,
    /// Tables that are created, changed or dropped, or whose indexes are.
    pub schema: BTreeSet<String>,
    /// Tables, among those that are read, to which a foreign key is made that carries their changes
    /// on to its own table.
    pub followed: BTreeSet<String>,
    /// What becomes of rows that are there, in the tables that are written or dropped.
    pub changes: RowChanges,
    /// The index that is dropped: it belongs to a table that only the database knows.
    pub dropped_index: Option<String>,
    /// How many values it needs.
    pub placeholders: usize,
    /// Which of them, from 0, are searched for in texts: none may be longer than
    /// [`NEEDLE_LIMIT_BYTES`].
    pub needles: BTreeSet<usize>,
    /// Where they stand, until it is known which they are.
    needle_places: BTreeSet<Location>,
    /// Whether the number of result columns depends on the schema (`*`).
    pub wildcard: bool,
    /// Expressions, tables and selects once the database has replaced names by what they stand for; 0 for a
    /// change of schema.
    pub expanded: u64,
    /// Whether its rows come from several queries, united: what reads from it is made anew for each.
    pub is_united: bool,
}

/// Why a statement is not run, whatever is granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The parser does not understand it.
    #[error("statement is not understood: {message}")]
    Unparsable {
        /// The parser's words, with the place.
        message: String,
    },
    /// Nothing there.
    #[error("statement is empty")]
    Empty,
    /// More than one statement.
    #[error("more than one statement in one call")]
    Several,
    /// A character or token outside the SQL that is let through.
    #[error("{token:?} is not permitted in a statement")]
    Token {
        /// The token, cut to a few characters.
        token: String,
    },
    /// A placeholder that is neither `?` nor `?N`, or both kinds in one statement.
    #[error(
        "placeholder {placeholder:?} is not permitted: write ? or, throughout, ?1 to ?{PARAMETER_LIMIT}"
    )]
    Placeholder {
        /// The placeholder.
        placeholder: String,
    },
    /// More placeholders than [`PARAMETER_LIMIT`].
    #[error("statement has more than {PARAMETER_LIMIT} placeholders")]
    TooManyPlaceholders,
    /// An expression that is nested too deeply.
    #[error("statement is nested too deeply")]
    TooDeep,
    /// One whose work is not bounded by its length: names of a `WITH` that stand for each other many
    /// times over, columns made of many others of inner queries, or dozens of searches in texts.
    #[error(
        "statement is too much work: it repeats a WITH or columns of inner queries, or searches in texts, too often"
    )]
    TooMuchWork,
    /// Too many tables.
    #[error("statement has more than {TABLE_LIMIT} tables")]
    TooManyTables,
    /// A name that is too long to be compared and repeated.
    #[error("the name of a table or an index is longer than {NAME_LIMIT_BYTES} bytes")]
    LongName,
    /// A text to search for that is long, or that only the database knows.
    #[error(
        "what {function} searches for must be a literal or a parameter of at most {NEEDLE_LIMIT_BYTES} bytes"
    )]
    Needle {
        /// The function.
        function: String,
    },
    /// A kind of statement, or a part of one, that no plugin may use.
    #[error("{what} is not permitted")]
    NotPermitted {
        /// What it is.
        what: &'static str,
    },
    /// A function that is not on the list.
    #[error("function {function:?} is not permitted")]
    Function {
        /// Its name.
        function: String,
    },
    /// A schema other than `main`.
    #[error("schema {schema:?} is not permitted")]
    Schema {
        /// Its name.
        schema: String,
    },
    /// A table that shows or changes the database itself.
    #[error("table {table:?} is not permitted")]
    Table {
        /// Its name.
        table: String,
    },
    /// A statement that writes, passed as a query.
    #[error("a query may only read")]
    NotAQuery,
    /// A statement that reads, passed for execution.
    #[error("a statement without result was expected, this one reads")]
    NotAWrite,
    /// An index that the database does not have.
    #[error("no such index: {index}")]
    UnknownIndex {
        /// Its name.
        index: String,
    },
}

impl StatementError {
    /// Whether a statement of this kind may be passed for a query, or for execution.
    pub(crate) const fn of_kind(writes: bool, kind: StatementKind) -> Result<(), Self> {
        match (writes, kind) {
            (false, StatementKind::Query)
            | (true, StatementKind::Write | StatementKind::Schema) => Ok(()),
            (false, _) => Err(Self::NotAQuery),
            (true, StatementKind::Query) => Err(Self::NotAWrite),
        }
    }
}

/// Understands one statement.
///
/// # Errors
/// [`StatementError`] for all that is not known to be harmless.
pub fn classify(sql: &str, dialect: Dialect) -> Result<Classified, StatementError> {
    understand(sql, dialect).map(|(classified, _)| classified)
}

/// As [`classify`], and where the statement ends: before a final semicolon and what follows it.
pub(super) fn understand(
    sql: &str,
    dialect: Dialect,
) -> Result<(Classified, usize), StatementError> {
    let Dialect::Sqlite = dialect;
    let dialect = SQLiteDialect {};
    let screened = screen::screen(sql, &dialect)?;
    if let Some(what) = screened.first_word.as_deref().and_then(never_first) {
        return Err(StatementError::NotPermitted { what });
    }
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .with_tokens_with_locations(screened.tokens);
    let unparsable = |error: sqlparser::parser::ParserError| StatementError::Unparsable {
        message: error.to_string(),
    };
    let mut statements = parser.parse_statements().map_err(unparsable)?.into_iter();
    let statement = match (statements.next(), statements.next()) {
        (None, _) => return Err(StatementError::Empty),
        (Some(_), Some(_)) => return Err(StatementError::Several),
        (Some(statement), None) => statement,
    };
    let mut found = of_statement(&statement)?;
    found.placeholders = screened.placeholders;
    let places = std::mem::take(&mut found.needle_places);
    let needles = screened.places.iter();
    found.needles = needles
        .filter(|(place, _)| places.contains(place))
        .map(|(_, parameter)| *parameter)
        .collect();
    Ok((found, screened.end))
}

fn of_statement(statement: &Statement) -> Result<Classified, StatementError> {
    match statement {
        Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) => {
                tables::of_write(statement, inner)
            }
            _ => tables::of_query(statement),
        },
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
            tables::of_write(statement, statement)
        }
        Statement::CreateTable(_)
        | Statement::AlterTable(_)
        | Statement::CreateIndex(_)
        | Statement::Drop { .. } => schema::of_schema_change(statement),
        other => Err(StatementError::NotPermitted {
            what: name_of(other),
        }),
    }
}

/// Statements that no plugin may use, by their first word: told before parsing, for the parser
/// does not know all their forms. What is not listed here is refused all the same.
fn never_first(word: &str) -> Option<&'static str> {
    const NEVER: [&str; 14] = [
        "PRAGMA",
        "ATTACH",
        "DETACH",
        "VACUUM",
        "EXPLAIN",
        "ANALYZE",
        "REINDEX",
        "BEGIN",
        "START",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
    ];
    NEVER
        .into_iter()
        .find(|never| never.eq_ignore_ascii_case(word))
}

/// What another statement that is never permitted is called.
fn name_of(statement: &Statement) -> &'static str {
    match statement {
        Statement::CreateView(_) => "CREATE VIEW",
        Statement::CreateTrigger(_) => "CREATE TRIGGER",
        Statement::DropTrigger(_) => "DROP TRIGGER",
        Statement::CreateVirtualTable { .. } => "CREATE VIRTUAL TABLE",
        _ => "this kind of statement",
    }
}

/// Body of the fuzz target: whatever the text, an answer comes, and what is let through is
/// consistent in itself.
///
/// # Panics
/// Where that does not hold.
pub fn fuzz_classify(sql: &str) {
    let Ok(found) = classify(sql, Dialect::Sqlite) else {
        return;
    };
    let Classified {
        kind,
        reads,
        writes,
        schema,
        followed,
        changes: _,
        dropped_index,
        placeholders,
        needles,
        needle_places,
        wildcard: _,
        expanded: _,
        is_united: _,
    } = &found;
    assert!(needle_places.is_empty() && needles.iter().all(|needle| needle < placeholders));
    assert!(*placeholders <= PARAMETER_LIMIT);
    for name in reads.iter().chain(writes).chain(schema) {
        assert_eq!(*name, name.to_ascii_lowercase());
    }
    match kind {
        StatementKind::Query => {
            assert!(writes.is_empty() && schema.is_empty() && dropped_index.is_none());
            assert!(followed.is_empty());
        }
        StatementKind::Write => {
            assert!(writes.len() == 1 && schema.is_empty() && dropped_index.is_none());
            assert!(followed.is_empty());
        }
        StatementKind::Schema => {
            assert!(writes.is_empty() && (schema.is_empty() == dropped_index.is_some()));
            assert!(followed.is_subset(reads));
        }
    }
    // The answer must not depend on white space or a final semicolon.
    assert_eq!(
        classify(&format!(" \n{sql}\n;"), Dialect::Sqlite).as_ref(),
        Ok(&found),
        "{sql}"
    );
}

#[cfg(test)]
#[path = "sql/tests.rs"]
mod tests;
