//! How large a statement becomes once SQLite has replaced its names: every name that a `WITH` defines by its
//! query, every column of an inner query and every alias by what it is made of, and every name of a window by
//! the window; and once it has put what a column must equal in the column's place, and made what reads from united
//! queries anew for each of these.
//!
//! SQLite does so before it looks at any clock: twenty short queries, each reading the one before
//! twice, or each adding the one before's column to itself, take gigabytes and minutes. So the size is
//! reckoned here first, and bounded. Which column a name means only the schema tells: each is taken for the
//! largest that it may be.

mod arm;
mod made;
mod size;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    DoUpdate, Expr, GroupByExpr, Join, NamedWindowExpr, OrderByKind, Query, Select, SelectItem,
    SetExpr, SetOperator, SetQuantifier, Update, UpdateTableFromKind, Values, Visit,
    visit_expressions,
};

use self::arm::Arm;
use self::made::{Amount, Made, names_window};
pub(super) use self::size::Expanded;

/// What a `SELECT` costs the database beside its expressions, as many of which take as much memory.
const SELECT: Amount = Amount {
    fixed: 10,
    columns: 0,
};

const TABLE: Amount = Amount {
    fixed: 1,
    columns: 0,
};

/// Unique indexes that a table is taken to have.
const UNIQUE_INDEXES: u64 = 100;

/// The statement, or a query in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(usize);

const STATEMENT: Part = Part(0);

/// The parts of one statement, and how often each refers to which.
pub(super) struct Expansion {
    parts: Vec<Contents>,
    /// Which part a query is, by its address: the tree stands still while it is walked.
    bodies: HashMap<*const Query, Part>,
    /// The part of each query around the current place, innermost last.
    within: Vec<Part>,
    /// Columns in the query of a `WITH`, in lower case: they are looked for where its name stands, also among aliases there.
    columns_of_named: HashSet<String>,
}

/// Where a part stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In a `WITH`.
    Named,
    /// Where its rows are read.
    Source,
    /// In an expression.
    #[default]
    Expression,
}

/// What stands in a part.
#[derive(Default)]
struct Contents {
    place: Place,
    /// All of it but what it reads from, and queries in its columns.
    own: Made,
    /// Work that it is beside being there.
    work: u64,
    /// Its `SELECT`s: more than one where they are united.
    arms: Vec<Arm>,
    /// Its rows are made before they are read: no column of it is replaced but in what is asked of them.
    is_settled: bool,
    /// How long the queries in it are as they are written, and those of its `WITH` among them.
    text: u64,
    text_of_named: u64,
    /// Functions over a window.
    overs: u64,
    /// In lower case.
    aliases: HashSet<String>,
    /// How often a column of its own may stand for a name or a number in it.
    by_alias: u64,
    /// Whether one may for a name in a query in it.
    by_alias_within: bool,
    /// The windows that it defines.
    windows: Made,
}

impl Default for Expansion {
    fn default() -> Self {
        Self {
            parts: vec![Contents::default()],
            bodies: HashMap::new(),
            within: Vec::new(),
            columns_of_named: HashSet::new(),
        }
    }
}

impl Expansion {
    /// A name stands for this query, which is visited later.
    pub(super) fn named(&mut self, query: &Query) -> Part {
        self.define(query, Place::Named)
    }

    /// Something reads from this query, which stands at the current place and is visited later.
    pub(super) fn source(&mut self, query: &Query) {
        let part = self.define(query, Place::Source);
        self.refer(part);
    }

    fn define(&mut self, query: *const Query, place: Place) -> Part {
        let part = Part(self.parts.len());
        self.parts.push(Contents {
            place,
            ..Contents::default()
        });
        self.bodies.insert(query, part);
        part
    }

    /// What `node`, which is visited later, is made of.
    fn made(&mut self, node: &impl Visit) -> Made {
        Made::of(node, |query| self.define(query, Place::Expression))
    }

    pub(super) fn enter(&mut self, query: &Query) {
        let address = std::ptr::from_ref(query);
        let part = match self.bodies.get(&address) {
            Some(part) => *part,
            None => {
                let Part(part) = self.define(address, Place::Expression);
                *self.here().own.queries.entry(part).or_default() += 1;
                Part(part)
            }
        };
        self.within.push(part);
        let ordered = query.order_by.as_ref().map(|order| &order.kind);
        if let Some(OrderByKind::Expressions(terms)) = ordered {
            self.here().by_alias += terms.len() as u64;
        }
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::SetOperation {
                    left,
                    right,
                    op,
                    set_quantifier,
                } => {
                    bodies.extend([left.as_ref(), right]);
                    let keeps_all =
                        *op == SetOperator::Union && *set_quantifier == SetQuantifier::All;
                    self.here().is_settled |= !keeps_all;
                }
                SetExpr::Values(values) => self.values(values),
                SetExpr::Query(inner) => {
                    self.here().arms.push(Arm::default());
                    self.source(inner);
                    self.here().arm().wildcards[0] += 1;
                }
                _ => {}
            }
        }
    }

    pub(super) fn leave(&mut self) {
        let left = self.here();
        let text = left.text.saturating_add(left.own.amount.total());
        let is_named = left.place == Place::Named;
        self.within.pop();
        let around = self.here();
        around.text = around.text.saturating_add(text);
        if is_named {
            around.text_of_named = around.text_of_named.saturating_add(text);
        }
    }

    fn values(&mut self, values: &Values) {
        self.here().arms.push(Arm::default());
        for value in values.rows.iter().flat_map(|row| &row.content) {
            let made = self.made(value);
            self.here().arm().columns.push(made);
        }
    }

    /// The query at the current place has these rows, maybe beside others.
    pub(super) fn select(&mut self, select: &Select) {
        let mut arm = Arm::default();
        if let Some(filter) = &select.selection {
            arm.filter(filter);
        }
        self.here().arms.push(arm);
        for table in &select.from {
            self.joins(&table.joins);
        }
        for window in &select.named_window {
            let made = self.made(window);
            let here = self.here();
            here.own.add_queries(&made);
            here.windows.add(&made);
            // Made of another, of which it is a copy.
            let NamedWindowExpr::WindowSpec(window) = &window.1 else {
                here.own.windows += 1;
                continue;
            };
            here.own.windows += u64::from(window.window_name.is_some());
        }
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(_) => self.here().arm().wildcards[0] += 1,
                SelectItem::QualifiedWildcard(..) => self.here().arm().wildcards[1] += 1,
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAliases { expr, .. } => {
                    let made = self.made(expr);
                    self.here().arm().columns.push(made);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let made = self.made(expr);
                    self.here().arm().columns.push(made);
                    self.here().aliases.insert(alias.value.to_ascii_lowercase());
                }
            }
        }
        let here = self.here();
        here.own.amount.add(SELECT, 1);
        here.is_settled |= select.distinct.is_some() || select.having.is_some();
        if let GroupByExpr::Expressions(terms, _) = &select.group_by {
            here.by_alias += terms.len() as u64;
            here.is_settled |= !terms.is_empty();
        }
    }

    /// An update of rows that others are read for.
    pub(super) fn update(&mut self, update: &Update) {
        if let Some(filter) = &update.selection {
            self.here().arm().filter(filter);
        }
        let (UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) =
            match &update.from {
                Some(from) => from,
                None => return,
            };
        for table in from {
            self.joins(&table.joins);
        }
    }

    /// What an insert does instead, on a conflict with any unique index of its table: it stands in the statement once
    /// for each.
    pub(super) fn update_on_any_conflict(&mut self, update: &DoUpdate) {
        let mut written = Amount::default();
        let _all: ControlFlow<()> = visit_expressions(update, |expr| {
            written.add(Amount::of(expr), 1);
            ControlFlow::Continue(())
        });
        self.here().own.amount.add(written, UNIQUE_INDEXES);
    }

    /// The tables at the current place are joined so.
    pub(super) fn joins(&mut self, joins: &[Join]) {
        let here = self.here();
        for join in joins {
            let equal = here.arm().join(join);
            here.own.amount.add(Amount::COLUMN, equal);
        }
    }

    /// A table, or a name for a query, stands at the current place.
    pub(super) fn table(&mut self) {
        self.here().own.amount.add(TABLE, 1);
    }

    /// The rows of a table are read at the current place.
    pub(super) fn rows(&mut self) {
        self.here().arm().tables += 1;
    }

    /// An expression stands at the current place, and is so much work beside.
    pub(super) fn expression(&mut self, expr: &Expr, work: u64) {
        if let Expr::Identifier(column) = expr {
            self.alias(column.value.to_ascii_lowercase());
        }
        let here = self.here();
        here.own.amount.add(Amount::of(expr), 1);
        here.own.windows += u64::from(names_window(expr));
        here.overs +=
            u64::from(matches!(expr, Expr::Function(function) if function.over.is_some()));
        here.work = here.work.saturating_add(work);
    }

    /// This name, in lower case, stands at the current place, and is perhaps an alias.
    fn alias(&mut self, column: String) {
        let mut visible = true;
        for (out, Part(around)) in self.within.iter().rev().enumerate() {
            let Some(part) = self.parts.get_mut(*around) else {
                return;
            };
            if visible && part.aliases.contains(&column) {
                part.by_alias += u64::from(out == 0);
                part.by_alias_within |= out > 0;
            }
            match part.place {
                Place::Expression => visible = true,
                // It does not see who reads it, but those around.
                Place::Source => visible = false,
                Place::Named => {
                    self.columns_of_named.insert(column);
                    return;
                }
            }
        }
    }

    /// A query's name stands at the current place, which reads from it.
    pub(super) fn refer(&mut self, Part(to): Part) {
        *self.here().arm().sources.entry(to).or_default() += 1;
    }

    fn here(&mut self) -> &mut Contents {
        let Part(here) = self.within.last().copied().unwrap_or(STATEMENT);
        self.parts
            .get_mut(here)
            .expect("a part is made before it is entered, and stays")
    }
}

impl Contents {
    /// The one at the current place.
    fn arm(&mut self) -> &mut Arm {
        if self.arms.is_empty() {
            self.arms.push(Arm::default());
        }
        self.arms.last_mut().expect("one was there or is now")
    }
}

#[cfg(test)]
mod tests;
