//! What the parts of a statement come to.

use std::collections::HashMap;

use super::made::{Amount, Made};
use super::{Expansion, Part, STATEMENT};
use crate::db::sql::StatementError;

/// Most expressions, tables and selects of a statement with all that replaced. A statement
/// without inner queries has a fifth of it at most.
const EXPANDED_LIMIT: u64 = 100_000;

/// Most queries on one way from the outermost to a table. SQLite goes into each on its stack.
const DEPTH_LIMIT: usize = 200;

impl Expansion {
    /// Whether the statement stays within the limits.
    pub(in crate::db::sql) fn check(&self) -> Result<(), StatementError> {
        let Part(statement) = STATEMENT;
        let mut sizes = vec![State::Unknown; self.parts.len()];
        match self.size(statement, 0, &mut sizes) {
            Some(all) if all.whole.total().saturating_add(all.work) <= EXPANDED_LIMIT => Ok(()),
            _ => Err(StatementError::TooMuchWork),
        }
    }

    /// A part with all replaced; none where it is too deep.
    fn size(&self, part: usize, depth: usize, sizes: &mut [State]) -> Option<Size> {
        let contents = self.parts.get(part)?;
        match sizes.get(part)? {
            State::Known(known) if depth + known.below <= DEPTH_LIMIT => return Some(*known),
            State::Known(_) => return None,
            // A name within its own query is not replaced: it is the rows so far.
            State::Open => return Some(Size::default()),
            State::Unknown if depth > DEPTH_LIMIT => return None,
            State::Unknown => *sizes.get_mut(part)? = State::Open,
        }
        let mut all = Size {
            work: contents.work,
            ..Size::default()
        };
        let (mut column, mut row, mut widest) = (Amount::COLUMN, Amount::COLUMN, Amount::COLUMN);
        for (to, times) in &contents.sources {
            let one = self.size(*to, depth + 1, sizes)?;
            all.take(&one, *times);
            all.whole.add(one.whole, *times);
            column = column.or(one.column);
            row.add(one.row, *times);
            widest = widest.or(one.row);
        }
        let mut queries = HashMap::new();
        let in_columns = contents.columns.iter().flat_map(|made| &made.queries);
        for (query, times) in in_columns.chain(&contents.own.queries) {
            let one = self.size(*query, depth + 1, sizes)?;
            all.take(&one, *times);
            queries.insert(*query, one.whole);
        }
        let inner = |made: &Made| {
            let mut amount = Amount::default();
            for (query, times) in &made.queries {
                amount.add(queries.get(query).copied().unwrap_or_default(), *times);
            }
            amount
        };
        let mut window = contents.windows.amount;
        window.add(inner(&contents.windows), 1);
        for made in &contents.columns {
            let queries = inner(made);
            let mut amount = made.amount;
            amount.add(window, made.windows);
            amount.add(queries, 1);
            all.whole.add(queries.with(column), 1);
            all.row.add(amount.with(column), 1);
            all.column = all.column.or(amount.with(column));
        }
        let [every, of_one] = contents.wildcards;
        if every + of_one > 0 {
            all.column = all.column.or(column);
        }
        for (columns, times) in [(row, every), (widest, of_one)] {
            all.row.add(columns, times);
            all.whole.add(columns, times);
        }
        let mut own = contents.own.amount;
        own.add(window, contents.own.windows);
        all.whole.add(own.with(column), 1);
        let named = &self.columns_of_named;
        let by_alias = contents.by_alias_within || !contents.aliases.is_disjoint(named);
        let seen = if by_alias {
            all.column.or(column)
        } else {
            column
        };
        all.whole.add(inner(&contents.own).with(seen), 1);
        all.whole.add(all.column, contents.by_alias);
        *sizes.get_mut(part)? = State::Known(all);
        Some(all)
    }
}

#[derive(Clone, Copy)]
enum State {
    Unknown,
    /// Being reckoned.
    Open,
    Known(Size),
}

/// What a part comes to.
#[derive(Clone, Copy)]
struct Size {
    /// All of it.
    whole: Amount,
    work: u64,
    /// The largest of its columns.
    column: Amount,
    /// All of its columns.
    row: Amount,
    /// How many queries lie below on the longest way.
    below: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            whole: Amount::default(),
            work: 0,
            column: Amount::COLUMN,
            row: Amount::default(),
            below: 0,
        }
    }
}

impl Size {
    /// A part below this one, and how often it stands there.
    fn take(&mut self, below: &Self, times: u64) {
        self.work = self.work.saturating_add(below.work.saturating_mul(times));
        self.below = self.below.max(below.below + 1);
    }
}
