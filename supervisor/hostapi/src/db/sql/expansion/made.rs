//! What an expression is made of, and how much that is once its columns are replaced.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Visit, Visitor, WindowType};

use super::Part;

/// A number of expressions, tables and selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Those that stay what they are.
    pub(super) fixed: u64,
    /// Columns, for each of which something else may stand in the end.
    pub(super) columns: u64,
}

impl Amount {
    /// One column of a table.
    pub(super) const COLUMN: Self = Self {
        fixed: 0,
        columns: 1,
    };

    /// Of `node`, but for the queries in it.
    pub(super) fn outside_queries(node: &impl Visit) -> Self {
        Measure::of(node).made.amount
    }

    pub(super) fn of(expr: &Expr) -> Self {
        if is_column(expr) {
            return Self::COLUMN;
        }
        Self {
            fixed: 1,
            columns: 0,
        }
    }

    pub(super) fn add(&mut self, other: Self, times: u64) {
        let more = |to: u64, one: u64| to.saturating_add(one.saturating_mul(times));
        self.fixed = more(self.fixed, other.fixed);
        self.columns = more(self.columns, other.columns);
    }

    /// With `column` in the place of each column.
    pub(super) fn with(self, column: Self) -> Self {
        let mut all = Self {
            fixed: self.fixed,
            columns: 0,
        };
        all.add(column, self.columns);
        all
    }

    /// What is as large as each of both.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            fixed: self.fixed.max(other.fixed),
            columns: self.columns.max(other.columns),
        }
    }

    pub(super) fn total(self) -> u64 {
        self.fixed.saturating_add(self.columns)
    }
}

/// What stands in one place.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Beside what is in queries.
    pub(super) amount: Amount,
    /// Queries in it, and how often each.
    pub(super) queries: BTreeMap<usize, u64>,
    /// How often it names a window, which is copied there.
    pub(super) windows: u64,
}

impl Made {
    /// Of `node`, whose outermost queries `define` makes parts of.
    pub(super) fn of(node: &impl Visit, mut define: impl FnMut(*const Query) -> Part) -> Self {
        let Measure {
            mut made, queries, ..
        } = Measure::of(node);
        for query in queries {
            let Part(part) = define(query);
            made.queries.insert(part, 1);
        }
        made
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.amount.add(other.amount, 1);
        self.windows = self.windows.saturating_add(other.windows);
        self.add_queries(other);
    }

    pub(super) fn add_queries(&mut self, other: &Self) {
        for (query, times) in &other.queries {
            *self.queries.entry(*query).or_default() += times;
        }
    }
}

pub(super) fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

/// Whether a window is named where this stands.
pub(super) fn names_window(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else {
        return false;
    };
    match &function.over {
        Some(WindowType::NamedWindow(_)) => true,
        Some(WindowType::WindowSpec(window)) => window.window_name.is_some(),
        None => false,
    }
}

#[derive(Default)]
struct Measure {
    made: Made,
    queries: Vec<*const Query>,
    /// Queries around the current place.
    depth: usize,
}

impl Measure {
    fn of(node: &impl Visit) -> Self {
        let mut measure = Self::default();
        let _all: ControlFlow<()> = node.visit(&mut measure);
        measure
    }
}

impl Visitor for Measure {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 {
            self.queries.push(std::ptr::from_ref(query));
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth == 0 {
            self.made.amount.add(Amount::of(expr), 1);
            self.made.windows += u64::from(names_window(expr));
        }
        ControlFlow::Continue(())
    }
}
