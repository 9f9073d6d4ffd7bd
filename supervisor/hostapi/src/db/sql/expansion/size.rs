//! What the parts of a statement come to.

use std::collections::HashMap;

use super::made::{Amount, Made};
use super::{Arm, Expansion, Part, STATEMENT};
use crate::db::sql::StatementError;

/// Most expressions, tables and selects of a statement with all that replaced. A statement
/// without inner queries has a fifth of it at most.
const EXPANDED_LIMIT: u64 = 100_000;

/// Most queries on one way from the outermost to a table. SQLite goes into each on its stack.
const DEPTH_LIMIT: usize = 200;

impl Expansion {
    /// How large the statement becomes; fails where that is past the limits.
    pub(in crate::db::sql) fn check(&self) -> Result<u64, StatementError> {
        let Part(statement) = STATEMENT;
        let mut sizes = vec![State::Unknown; self.parts.len()];
        match self.size(statement, 0, &mut sizes) {
            Some(all) if all.total() <= EXPANDED_LIMIT => Ok(all.total()),
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
        let sources = self.sources(&contents.arms, depth, sizes, &mut all)?;
        let Sources { column, copies, .. } = sources;
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
            all.whole.add(queries.with(column), copies);
            all.row.add(amount.with(column), 1);
            all.column = all.column.or(amount.with(column));
        }
        let [every, of_one] = contents.wildcards;
        if every + of_one > 0 {
            all.column = all.column.or(column);
        }
        for (columns, times) in [(sources.row, every), (sources.widest, of_one)] {
            all.row.add(columns, times);
            all.whole.add(columns, times.saturating_mul(copies));
        }
        let mut own = contents.own.amount;
        own.add(window, contents.own.windows);
        all.whole.add(own.with(column), copies);
        let by_alias =
            contents.by_alias_within || !contents.aliases.is_disjoint(&self.columns_of_named);
        let seen = if by_alias {
            all.column.or(column)
        } else {
            column
        };
        all.whole.add(inner(&contents.own).with(seen), copies);
        all.whole
            .add(all.column, contents.by_alias.saturating_mul(copies));
        *sizes.get_mut(part)? = State::Known(all);
        Some(all)
    }

    /// What the arms of a part read from, also added to `all` of it.
    fn sources(
        &self,
        arms: &[Arm],
        depth: usize,
        sizes: &mut [State],
        all: &mut Size,
    ) -> Option<Sources> {
        let mut sources = Sources::default();
        let mut read = Amount::default();
        let (mut copies_of_all, mut pushed_of_all) = (0_u64, 0_u64);
        for arm in arms {
            let (mut copies, mut pushed) = (1_u64, 0_u64);
            for (to, times) in &arm.sources {
                let one = self.size(*to, depth + 1, sizes)?;
                all.take(&one, *times);
                read.add(one.whole, *times);
                sources.column = sources.column.or(one.column);
                sources.row.add(one.row, *times);
                sources.widest = sources.widest.or(one.row);
                let power = u32::try_from(*times).unwrap_or(u32::MAX);
                copies = copies.saturating_mul(one.arms.saturating_pow(power));
                pushed = pushed.saturating_add(one.pushed.saturating_mul(*times));
            }
            sources.copies = sources.copies.max(copies);
            copies_of_all = copies_of_all.saturating_add(copies);
            pushed_of_all = pushed_of_all.saturating_add(pushed).saturating_add(1);
            sources.pushed = sources.pushed.max(pushed);
        }
        all.arms = copies_of_all.max(1);
        all.pushed = pushed_of_all.max(1);
        all.whole.add(read, sources.copies);
        let coalesced = arms.iter().map(|arm| arm.coalesced).max().unwrap_or(0);
        if coalesced > 0 {
            let one = sources.column;
            sources.column.fixed = sources.column.fixed.saturating_add(1);
            sources.column.add(one, coalesced);
        }
        for arm in arms {
            let filters = arm.filters.with(sources.column);
            all.whole.add(filters, sources.pushed);
            all.whole.add(sources.widest, arm.naturals * 2);
        }
        Some(sources)
    }
}

/// What the arms of a part read from.
struct Sources {
    /// The largest of the columns.
    column: Amount,
    /// All columns.
    row: Amount,
    /// All columns of the one that has most.
    widest: Amount,
    /// How often SQLite makes what reads from them: for each way of taking one arm of each that is united.
    copies: u64,
    /// How often what rows must fulfil comes to stand in them, which SQLite asks in each of their arms too.
    pushed: u64,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            column: Amount::COLUMN,
            row: Amount::COLUMN,
            widest: Amount::COLUMN,
            copies: 1,
            pushed: 0,
        }
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
    /// How many `SELECT`s it is in the end, united.
    arms: u64,
    /// How often what its rows must fulfil comes to stand in it.
    pushed: u64,
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
            arms: 1,
            pushed: 1,
            below: 0,
        }
    }
}

impl Size {
    fn total(&self) -> u64 {
        self.whole.total().saturating_add(self.work)
    }

    /// A part below this one, and how often it stands there.
    fn take(&mut self, below: &Self, times: u64) {
        self.work = self.work.saturating_add(below.work.saturating_mul(times));
        self.below = self.below.max(below.below + 1);
    }
}
