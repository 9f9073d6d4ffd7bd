//! How large a statement becomes once every name that a `WITH` defines is replaced by its query, and every
//! column of an inner query by what it is made of.
//!
//! SQLite does both before it looks at any clock: twenty short queries, each reading the one before
//! twice, or each adding the one before's column to itself, take gigabytes and minutes. So the size is
//! reckoned here first, and bounded.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Select, SelectItem, visit_expressions};

use super::StatementError;

/// Most expressions, tables and selects of a statement with its names and columns replaced. A statement
/// without inner queries has a fifth of it at most.
const EXPANDED_LIMIT: u64 = 100_000;

/// Most queries on one way from the outermost to a table. SQLite goes into each on its stack.
const DEPTH_LIMIT: usize = 200;

/// The statement, or a query in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(usize);

const STATEMENT: Part = Part(0);

/// The parts of one statement, and how often each refers to which.
pub(super) struct Expansion {
    parts: Vec<Weight>,
    /// Which part a query is, by its address: the tree stands still while it is walked.
    bodies: HashMap<*const Query, Part>,
    /// The part of each query around the current place, innermost last.
    within: Vec<Part>,
}

#[derive(Default)]
struct Weight {
    own: u64,
    refers_to: HashMap<usize, u64>,
    /// Most columns of inner queries that one of its own is made of.
    widest: u64,
}

impl Default for Expansion {
    fn default() -> Self {
        Self {
            parts: vec![Weight::default()],
            bodies: HashMap::new(),
            within: Vec::new(),
        }
    }
}

impl Expansion {
    /// A name stands for this query, which is visited later.
    pub(super) fn define(&mut self, query: &Query) -> Part {
        let part = Part(self.parts.len());
        self.parts.push(Weight::default());
        self.bodies.insert(std::ptr::from_ref(query), part);
        part
    }

    pub(super) fn enter(&mut self, query: &Query) {
        let own = self.bodies.get(&std::ptr::from_ref(query)).copied();
        let part = own.unwrap_or_else(|| {
            let part = self.define(query);
            self.refer(part);
            part
        });
        self.within.push(part);
    }

    /// The query at the current place has these rows, maybe beside others.
    pub(super) fn select(&mut self, select: &Select) {
        let Part(here) = self.here();
        if let Some(part) = self.parts.get_mut(here) {
            let widest = select.projection.iter().map(columns).max();
            part.widest = part.widest.max(widest.unwrap_or_default());
        }
    }

    pub(super) fn leave(&mut self) {
        self.within.pop();
    }

    /// Something of this weight stands at the current place.
    pub(super) fn count(&mut self, weight: u64) {
        let Part(here) = self.here();
        if let Some(part) = self.parts.get_mut(here) {
            part.own = part.own.saturating_add(weight);
        }
    }

    /// A name stands at the current place.
    pub(super) fn refer(&mut self, Part(to): Part) {
        let Part(here) = self.here();
        if let Some(part) = self.parts.get_mut(here) {
            *part.refers_to.entry(to).or_default() += 1;
        }
    }

    /// Whether the statement stays within the limits.
    pub(super) fn check(&self) -> Result<(), StatementError> {
        let mut sizes = vec![Size::Unknown; self.parts.len()];
        match self.size(STATEMENT.0, 0, &mut sizes) {
            Some(all) if all.weight <= EXPANDED_LIMIT => Ok(()),
            _ => Err(StatementError::TooMuchWork),
        }
    }

    /// A part with its names and columns replaced; none where it is too deep.
    fn size(&self, part: usize, depth: usize, sizes: &mut [Size]) -> Option<Replaced> {
        let weight = self.parts.get(part)?;
        match sizes.get(part)? {
            Size::Known(known) if depth + known.below <= DEPTH_LIMIT => return Some(*known),
            Size::Known(_) => return None,
            // A name within its own query is not replaced: it is the rows so far.
            Size::Open => return Some(Replaced::default()),
            Size::Unknown if depth > DEPTH_LIMIT => return None,
            Size::Unknown => *sizes.get_mut(part)? = Size::Open,
        }
        let (mut inner, mut column) = (Replaced::default(), 1);
        for (to, times) in &weight.refers_to {
            let one = self.size(*to, depth + 1, sizes)?;
            let all = one.weight.saturating_mul(*times);
            inner.weight = inner.weight.saturating_add(all);
            inner.below = inner.below.max(one.below + 1);
            column = column.max(one.column);
        }
        let replaced = Replaced {
            weight: inner
                .weight
                .saturating_add(weight.own.saturating_mul(column)),
            column: weight.widest.max(1).saturating_mul(column),
            below: inner.below,
        };
        *sizes.get_mut(part)? = Size::Known(replaced);
        Some(replaced)
    }

    fn here(&self) -> Part {
        self.within.last().copied().unwrap_or(STATEMENT)
    }
}

/// How many columns are named in what a query gives as one.
fn columns(item: &SelectItem) -> u64 {
    let mut count = 0;
    let _all: ControlFlow<()> = visit_expressions(item, |expr| {
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            count += 1;
        }
        ControlFlow::Continue(())
    });
    count
}

#[derive(Clone, Copy)]
enum Size {
    Unknown,
    /// Being reckoned.
    Open,
    Known(Replaced),
}

/// What a part comes to.
#[derive(Clone, Copy, Default)]
struct Replaced {
    /// All of it.
    weight: u64,
    /// The largest of its columns, in columns of tables.
    column: u64,
    /// How many queries lie below on the longest way.
    below: usize,
}
