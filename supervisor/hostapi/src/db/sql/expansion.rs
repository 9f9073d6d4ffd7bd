//! How large a statement becomes once every name that a `WITH` defines is replaced by its query.
//!
//! SQLite does that before it looks at any clock: twenty short queries, each reading the one before
//! twice, take gigabytes and minutes. So the size is reckoned here first, and bounded.

use std::collections::HashMap;

use sqlparser::ast::Query;

use super::StatementError;

/// Most expressions, tables and selects of a statement with its names replaced. A statement without
/// names that stand for others has a fifth of it at most.
const EXPANDED_LIMIT: u64 = 100_000;

/// Most names on one way from the outermost query to a table. SQLite goes into each on its stack.
const DEPTH_LIMIT: usize = 200;

/// A query of its own: the statement, or what a name stands for.
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
        self.within.push(own.unwrap_or(self.here()));
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
            Some((weight, _)) if weight <= EXPANDED_LIMIT => Ok(()),
            _ => Err(StatementError::TooMuchWork),
        }
    }

    /// Weight and depth of a part with its names replaced; none where it is too deep.
    fn size(&self, part: usize, depth: usize, sizes: &mut [Size]) -> Option<(u64, usize)> {
        let weight = self.parts.get(part)?;
        match sizes.get(part)? {
            Size::Known(weight, below) if depth + below <= DEPTH_LIMIT => {
                return Some((*weight, *below));
            }
            Size::Known(..) => return None,
            // A name within its own query is not replaced: it is the rows so far.
            Size::Open => return Some((0, 0)),
            Size::Unknown if depth > DEPTH_LIMIT => return None,
            Size::Unknown => *sizes.get_mut(part)? = Size::Open,
        }
        let (mut sum, mut below) = (weight.own, 0);
        for (to, times) in &weight.refers_to {
            let (weight, depth) = self.size(*to, depth + 1, sizes)?;
            sum = sum.saturating_add(weight.saturating_mul(*times));
            below = below.max(depth + 1);
        }
        *sizes.get_mut(part)? = Size::Known(sum, below);
        Some((sum, below))
    }

    fn here(&self) -> Part {
        self.within.last().copied().unwrap_or(STATEMENT)
    }
}

#[derive(Clone, Copy)]
enum Size {
    Unknown,
    /// Being reckoned.
    Open,
    Known(u64, usize),
}
