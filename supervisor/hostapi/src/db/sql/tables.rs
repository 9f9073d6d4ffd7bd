//! Every table that a query or a write touches, found by walking the whole tree.
//!
//! A name in `FROM` is a table unless a `WITH` that is in scope defines it. Scopes are SQLite's:
//! the names of a `WITH` hold in all of its own parts, earlier, later and itself, and in the whole
//! query that it heads; a name with a schema before it is never one of them; neither is the target
//! of a write.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FromTable, ObjectName, ObjectNamePart, OnConflict, OnConflictAction, OnInsert, Query,
    Select, SelectItem, SetExpr, SqliteOnConflict, Statement, TableFactor, TableObject,
    TableWithJoins, Visit, Visitor,
};
use sqlparser::tokenizer::Location;

use super::expansion::{Expanded, Expansion, Part};
use super::{
    Classified, NAME_LIMIT_BYTES, RowChanges, StatementError, StatementKind, TABLE_LIMIT, function,
    needle,
};

/// What `statement`, which is a query, reads.
pub(super) fn of_query(statement: &Statement) -> Result<Classified, StatementError> {
    let walk = Walk::over(statement, &[statement], None)?;
    Ok(walk.into_classified(StatementKind::Query))
}

/// What `inner` writes and reads. `statement` is `inner` itself, or a `WITH` before it.
pub(super) fn of_write(
    statement: &Statement,
    inner: &Statement,
) -> Result<Classified, StatementError> {
    let target = target(inner)?;
    let walk = Walk::over(statement, &[statement, inner], Some(target))?;
    Ok(Classified {
        changes: changes(inner),
        ..walk.into_classified(StatementKind::Write)
    })
}

/// What a write does to rows that are there. An insert may take the place of some.
fn changes(write: &Statement) -> RowChanges {
    let replaces = |or: Option<SqliteOnConflict>| or == Some(SqliteOnConflict::Replace);
    match write {
        Statement::Insert(insert) => RowChanges {
            removed: insert.replace_into || replaces(insert.or),
            updated: insert.on.is_some(),
        },
        Statement::Update(update) => RowChanges {
            removed: replaces(update.or),
            updated: true,
        },
        _ => RowChanges {
            removed: true,
            updated: false,
        },
    }
}

/// The one table that a write changes.
fn target(statement: &Statement) -> Result<&ObjectName, StatementError> {
    let returning = StatementError::NotPermitted { what: "RETURNING" };
    let odd = StatementError::NotPermitted {
        what: "this form of write",
    };
    match statement {
        Statement::Insert(insert) if insert.returning.is_some() => Err(returning),
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name)
                if insert.multi_table_insert_type.is_none() && !insert.has_table_keyword =>
            {
                Ok(name)
            }
            _ => Err(odd),
        },
        Statement::Update(update) if update.returning.is_some() => Err(returning),
        Statement::Update(update) => only_table(std::slice::from_ref(&update.table)).ok_or(odd),
        Statement::Delete(delete) if delete.returning.is_some() => Err(returning),
        Statement::Delete(delete) if delete.using.is_some() || !delete.tables.is_empty() => {
            Err(odd)
        }
        Statement::Delete(delete) => match &delete.from {
            FromTable::WithFromKeyword(from) => only_table(from).ok_or(odd),
            FromTable::WithoutKeyword(_) => Err(odd),
        },
        _ => Err(odd),
    }
}

fn only_table(from: &[TableWithJoins]) -> Option<&ObjectName> {
    match from {
        [
            TableWithJoins {
                relation:
                    TableFactor::Table {
                        name, args: None, ..
                    },
                joins,
            },
        ] if joins.is_empty() => Some(name),
        _ => None,
    }
}

/// The walk over a tree.
#[derive(Default)]
pub(super) struct Walk<'a> {
    /// Statements that may stand here; any other is one hidden in an expression.
    statements: Vec<&'a Statement>,
    target: Option<&'a ObjectName>,
    /// Names defined by the `WITH`s around the current place, innermost last, and what they stand for.
    scopes: Vec<Vec<(String, Part)>>,
    expansion: Expansion,
    expanded: Expanded,
    /// Places of the placeholders that are searched for.
    pub(super) needles: BTreeSet<Location>,
    /// The next relation is a function's name, already checked.
    is_function: bool,
    pub(super) reads: BTreeSet<String>,
    pub(super) written: Option<String>,
    pub(super) wildcard: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn over(
        statement: &Statement,
        statements: &[&'a Statement],
        target: Option<&'a ObjectName>,
    ) -> Result<Self, StatementError> {
        let mut walk = Self {
            statements: statements.to_vec(),
            target,
            ..Self::default()
        };
        match statement.visit(&mut walk) {
            ControlFlow::Continue(()) => {
                walk.expanded = walk.expansion.check()?;
                Ok(walk)
            }
            ControlFlow::Break(error) => Err(*error),
        }
    }

    fn into_classified(self, kind: StatementKind) -> Classified {
        Classified {
            changes: RowChanges::default(),
            kind,
            reads: self.reads,
            writes: self.written.into_iter().collect(),
            schema: BTreeSet::new(),
            followed: BTreeSet::new(),
            expanded: self.expanded.size,
            is_united: self.expanded.is_united,
            dropped_index: None,
            placeholders: 0,
            needle_places: self.needles,
            needles: BTreeSet::new(),
            wildcard: self.wildcard,
        }
    }

    fn relation(&mut self, name: &ObjectName) -> Result<(), StatementError> {
        if std::mem::take(&mut self.is_function) {
            return Ok(());
        }
        let (qualified, table) = table_name(name)?;
        self.expansion.table();
        if self.target.is_some_and(|target| std::ptr::eq(target, name)) {
            self.written = Some(writable(table)?);
            return Ok(());
        }
        let mut defined = self.scopes.iter().rev().flatten();
        if !qualified && let Some((_, part)) = defined.find(|(name, _)| *name == table) {
            self.expansion.refer(*part);
            return Ok(());
        }
        self.expansion.rows();
        add(&mut self.reads, readable(table)?)
    }

    fn table_factor(&mut self, factor: &TableFactor) -> Result<(), StatementError> {
        match factor {
            TableFactor::Table { args: None, .. } => Ok(()),
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => {
                self.expansion.joins(&table_with_joins.joins);
                Ok(())
            }
            TableFactor::Derived { subquery, .. } => {
                self.expansion.source(subquery);
                Ok(())
            }
            TableFactor::Table {
                name,
                args: Some(_),
                ..
            } => {
                function::check_table_function(name)?;
                self.is_function = true;
                Ok(())
            }
            _ => Err(StatementError::NotPermitted {
                what: "this form of table",
            }),
        }
    }

    fn query(&mut self, query: &Query) -> Result<(), StatementError> {
        self.expansion.enter(query);
        let mut defined = Vec::new();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            if cte.from.is_some() {
                return Err(StatementError::NotPermitted {
                    what: "this form of WITH",
                });
            }
            let part = self.expansion.named(&cte.query);
            defined.push((cte.alias.name.value.to_ascii_lowercase(), part));
        }
        self.scopes.push(defined);
        if !query.locks.is_empty() || !query.pipe_operators.is_empty() {
            return Err(StatementError::NotPermitted {
                what: "this form of query",
            });
        }
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
                SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right]),
                // Which statement may stand here is decided where it is visited.
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) => {}
                SetExpr::Merge(_) | SetExpr::Table(_) => {
                    return Err(StatementError::NotPermitted {
                        what: "this form of query",
                    });
                }
            }
        }
        Ok(())
    }

    fn select(&mut self, select: &Select) -> Result<(), StatementError> {
        self.expansion.select(select);
        if select.into.is_some() || !select.lateral_views.is_empty() {
            return Err(StatementError::NotPermitted {
                what: "this form of SELECT",
            });
        }
        self.wildcard |= select.projection.iter().any(|item| {
            matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
            )
        });
        Ok(())
    }

    fn expr(&mut self, expr: &Expr) -> Result<(), StatementError> {
        if let Expr::Function(function) = expr {
            function::check(&function.name)?;
        }
        let weight = needle::weigh(expr, &mut self.needles)?;
        self.expansion.expression(expr, weight);
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), StatementError> {
        match statement {
            Statement::Update(update) => self.expansion.update(update),
            Statement::Insert(insert) => {
                if let Some(OnInsert::OnConflict(OnConflict {
                    conflict_target: None,
                    action: OnConflictAction::DoUpdate(update),
                })) = &insert.on
                {
                    self.expansion.update_on_any_conflict(update);
                }
            }
            _ => {}
        }
        if self
            .statements
            .iter()
            .any(|known| std::ptr::eq(*known, statement))
        {
            return Ok(());
        }
        Err(StatementError::NotPermitted {
            what: "a statement within a statement",
        })
    }
}

/// The visitor's way of saying `?`.
fn flow(result: Result<(), StatementError>) -> ControlFlow<Box<StatementError>> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl Visitor for Walk<'_> {
    type Break = Box<StatementError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        flow(self.query(query))
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        self.expansion.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        flow(self.select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        flow(self.table_factor(factor))
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<Self::Break> {
        flow(self.relation(name))
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        flow(self.statement(statement))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        flow(self.expr(expr))
    }
}

/// Whether a schema stands before the name, which then is `main`, and the name in lower case.
/// SQLite compares names without regard to ASCII case, and to no other.
pub(super) fn table_name(name: &ObjectName) -> Result<(bool, String), StatementError> {
    let ident = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) if ident.value.len() > NAME_LIMIT_BYTES => {
            Err(StatementError::LongName)
        }
        ObjectNamePart::Identifier(ident) => Ok(ident.value.to_ascii_lowercase()),
        ObjectNamePart::Function(_) => Err(StatementError::NotPermitted {
            what: "a name that is computed",
        }),
    };
    match name.0.as_slice() {
        [table] => Ok((false, ident(table)?)),
        [schema, table] => match ident(schema)?.as_str() {
            "main" => Ok((true, ident(table)?)),
            other => Err(StatementError::Schema {
                schema: other.into(),
            }),
        },
        _ => Err(StatementError::NotPermitted {
            what: "a name of more than two parts",
        }),
    }
}

/// One more table that a statement reads.
pub(super) fn add(reads: &mut BTreeSet<String>, table: String) -> Result<(), StatementError> {
    reads.insert(table);
    if reads.len() > TABLE_LIMIT {
        return Err(StatementError::TooManyTables);
    }
    Ok(())
}

/// Tables that are there in every database without having been made, and show or change it as a
/// whole. `sqlite_schema` and its like are not among them: they need a grant of their own.
const BUILT_IN: [&str; 11] = [
    "dbstat",
    "sqlite_dbpage",
    "sqlite_dbdata",
    "sqlite_dbptr",
    "sqlite_memstat",
    "sqlite_stmt",
    "bytecode",
    "tables_used",
    "fts3tokenize",
    "json_each",
    "json_tree",
];

fn readable(table: String) -> Result<String, StatementError> {
    let refused = BUILT_IN.contains(&table.as_str())
        || table.starts_with("pragma_")
        || table.starts_with("sqlite_temp_");
    if refused {
        Err(StatementError::Table { table })
    } else {
        Ok(table)
    }
}

/// A table that may be written to, created or dropped, where it is granted.
pub(super) fn writable(table: String) -> Result<String, StatementError> {
    if table.starts_with("sqlite_") {
        return Err(StatementError::Table { table });
    }
    readable(table)
}
