//! How large a statement becomes once SQLite has replaced its names: every name that a `WITH` defines by its
//! query, every column of an inner query and every alias by what it is made of, and every name of a window by
//! the window.
//!
//! SQLite does so before it looks at any clock: twenty short queries, each reading the one before
//! twice, or each adding the one before's column to itself, take gigabytes and minutes. So the size is
//! reckoned here first, and bounded. Which column a name means only the schema tells: each is taken for the
//! largest that it may be.

mod made;
mod size;

use std::collections::{HashMap, HashSet};

use sqlparser::ast::{
    Expr, GroupByExpr, Join, JoinConstraint, JoinOperator, NamedWindowExpr, OrderByKind, Query,
    Select, SelectItem, SetExpr, Update, UpdateTableFromKind, Values, Visit,
};

use self::made::{Amount, Made, names_window};

/// What a `SELECT` costs the database beside its expressions, as many of which take as much memory.
const SELECT: Amount = Amount {
    fixed: 10,
    columns: 0,
};

const TABLE: Amount = Amount {
    fixed: 1,
    columns: 0,
};

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
    /// Columns in the query of a `WITH`: they are looked for where its name stands, also among aliases there.
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
    /// Its columns that are made of something.
    columns: Vec<Made>,
    /// How many times all columns of its sources are columns of its own, and how many times those of one.
    wildcards: [u64; 2],
    aliases: HashSet<String>,
    /// How often a column of its own may stand for a name or a number in it.
    by_alias: u64,
    /// Whether one may for a name in a query in it.
    by_alias_within: bool,
    /// The windows that it defines.
    windows: Made,
}

/// One `SELECT`, or `VALUES`, or what stands outside of all.
#[derive(Default)]
struct Arm {
    /// The parts that it reads from, and how often each.
    sources: HashMap<usize, u64>,
    /// What rows must fulfil, which is asked of sources too.
    filters: Amount,
    /// Joins in which all columns of one name in two sources are one.
    naturals: u64,
    /// Joins after which a column is the first that is there, of so many more than one.
    coalesced: u64,
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
                SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right]),
                SetExpr::Values(values) => self.values(values),
                SetExpr::Query(inner) => {
                    self.here().arms.push(Arm::default());
                    self.source(inner);
                    self.here().wildcards[0] += 1;
                }
                _ => {}
            }
        }
    }

    pub(super) fn leave(&mut self) {
        self.within.pop();
    }

    fn values(&mut self, values: &Values) {
        self.here().arms.push(Arm::default());
        for value in values.rows.iter().flat_map(|row| &row.content) {
            let made = self.made(value);
            self.here().columns.push(made);
        }
    }

    /// The query at the current place has these rows, maybe beside others.
    pub(super) fn select(&mut self, select: &Select) {
        self.here().arms.push(Arm {
            filters: Amount::outside_queries(&select.selection),
            ..Arm::default()
        });
        for table in &select.from {
            self.joins(&table.joins);
        }
        for window in &select.named_window {
            let made = self.made(window);
            let here = self.here();
            for (query, times) in &made.queries {
                *here.own.queries.entry(*query).or_default() += times;
            }
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
                SelectItem::Wildcard(_) => self.here().wildcards[0] += 1,
                SelectItem::QualifiedWildcard(..) => self.here().wildcards[1] += 1,
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAliases { expr, .. } => {
                    let made = self.made(expr);
                    self.here().columns.push(made);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let made = self.made(expr);
                    self.here().columns.push(made);
                    self.here().aliases.insert(name(&alias.value));
                }
            }
        }
        let here = self.here();
        here.own.amount.add(SELECT, 1);
        if let GroupByExpr::Expressions(terms, _) = &select.group_by {
            here.by_alias += terms.len() as u64;
        }
    }

    /// An update of rows that others are read for.
    pub(super) fn update(&mut self, update: &Update) {
        let filters = Amount::outside_queries(&update.selection);
        self.here().arm().filters.add(filters, 1);
        let (UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) =
            match &update.from {
                Some(from) => from,
                None => return,
            };
        for table in from {
            self.joins(&table.joins);
        }
    }

    /// The tables at the current place are joined so.
    pub(super) fn joins(&mut self, joins: &[Join]) {
        for join in joins {
            use JoinOperator as By;
            let (constraint, may_lack_left) = match &join.join_operator {
                By::Right(by) | By::RightOuter(by) | By::FullOuter(by) => (by, true),
                By::Join(by) | By::Inner(by) | By::Left(by) | By::LeftOuter(by) => (by, false),
                By::CrossJoin(by) => (by, false),
                // SQLite has no other.
                _ => continue,
            };
            let here = self.here();
            let arm = here.arm();
            match constraint {
                JoinConstraint::On(expr) => arm.filters.add(Amount::outside_queries(expr), 1),
                JoinConstraint::Using(names) => {
                    // One column of each side, for each name as often as it stands there.
                    let equal = names.len() as u64 * 2;
                    arm.filters.add(Amount::COLUMN, equal);
                    arm.coalesced += u64::from(may_lack_left);
                    here.own.amount.add(Amount::COLUMN, equal);
                }
                JoinConstraint::Natural => {
                    arm.naturals += 1;
                    arm.coalesced += u64::from(may_lack_left);
                }
                JoinConstraint::None => {}
            }
        }
    }

    /// A table, or a name for a query, stands at the current place.
    pub(super) fn table(&mut self) {
        self.here().own.amount.add(TABLE, 1);
    }

    /// An expression stands at the current place, and is so much work beside.
    pub(super) fn expression(&mut self, expr: &Expr, work: u64) {
        if let Expr::Identifier(column) = expr {
            self.alias(name(&column.value));
        }
        let here = self.here();
        here.own.amount.add(Amount::of(expr), 1);
        here.own.windows += u64::from(names_window(expr));
        here.work = here.work.saturating_add(work);
    }

    /// This name stands at the current place, and is perhaps an alias.
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

/// Names are compared without regard to ASCII case.
fn name(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
