//! What the parts of a statement come to.

use std::collections::BTreeMap;

use super::arm::Arm;
use super::made::{Amount, Made};
use super::{Contents, Expansion, Part, STATEMENT};
use crate::db::sql::StatementError;

/// Most expressions, tables and selects of a statement with all that replaced. A statement
/// without inner queries has a fifth of it at most.
const EXPANDED_LIMIT: u64 = 100_000;

/// Most queries on one way from the outermost to a table. SQLite goes into each on its stack.
const DEPTH_LIMIT: usize = 200;

/// Columns that a table is taken to have where `*` stands for them.
const TABLE_COLUMNS: u64 = 64;

/// What a statement comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::db::sql) struct Expanded {
    /// Expressions, tables and selects with all that replaced.
    pub(in crate::db::sql) size: u64,
    /// Whether it is a query that is several, united.
    pub(in crate::db::sql) is_united: bool,
}

impl Expansion {
    /// How large the statement becomes; fails where that is past the limits.
    pub(in crate::db::sql) fn check(&self) -> Result<Expanded, StatementError> {
        let Part(statement) = STATEMENT;
        let mut sizes = vec![State::Unknown; self.parts.len()];
        let all = self.size(statement, 0, &mut sizes);
        let size = all.map_or(u64::MAX, |all| all.whole.total().saturating_add(all.work));
        if size > EXPANDED_LIMIT {
            return Err(StatementError::TooMuchWork);
        }
        let outermost = self.parts.first().map(|part| part.own.queries.keys());
        let is_united =
            |part: &usize| matches!(sizes.get(*part), Some(State::Known(one)) if one.arms > 1);
        Ok(Expanded {
            size,
            is_united: outermost.is_some_and(|mut parts| parts.any(is_united)),
        })
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
            work: contents
                .work
                .saturating_add(contents.overs.saturating_mul(contents.overs)),
            ..Size::default()
        };
        let sources = self.sources(&contents.arms, depth, sizes, &mut all)?;
        let queries = self.queries(contents, depth, sizes, &mut all)?;
        let mut window = contents.windows.amount;
        window.add(queries.of(&contents.windows), 1);
        for arm in &contents.arms {
            let mut row = Amount::default();
            for made in &arm.columns {
                let inner = queries.of(made);
                let mut amount = made.amount;
                amount.add(window, made.windows);
                amount.add(inner, 1);
                all.whole.add(inner.with(sources.column), sources.copies);
                row.add(amount.with(sources.column), 1);
                all.column = all.column.or(amount.with(sources.column));
                all.asked = all.asked.or(amount.with(sources.asked));
            }
            let [every, of_one] = arm.wildcards;
            if every + of_one > 0 {
                all.column = all.column.or(sources.column);
                all.asked = all.asked.or(sources.asked);
            }
            for (columns, times) in [(sources.row, every), (sources.widest, of_one)] {
                row.add(columns, times);
                all.whole.add(columns, times.saturating_mul(sources.copies));
            }
            all.row = all.row.or(row);
        }
        // An alias stands for a column of this one, a name for one of its sources.
        let named = sources.column.or(all.column);
        let has_aliases = !contents.aliases.is_empty();
        let by_alias =
            contents.by_alias_within || !contents.aliases.is_disjoint(&self.columns_of_named);
        let mut own = contents.own.amount.with(sources.column);
        own.add(
            window.with(if has_aliases { named } else { sources.column }),
            contents.own.windows,
        );
        let inner = queries.of(&contents.own);
        let seen = if by_alias { named } else { sources.column };
        own.add(inner.with(seen.or(all.equal.value())), 1);
        own.add(all.column, contents.by_alias);
        all.whole.add(own, sources.copies);
        all.whole.fixed = all
            .whole
            .fixed
            .saturating_add(contents.text_of_named.saturating_mul(sources.copies));
        all.whole.add(all.filters.with(all.equal.value()), 1);
        if contents.is_settled {
            all.column = Amount::COLUMN;
            all.arms = 1;
        }
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
            let (mut copies, mut pushed, mut row) = (1_u64, 0_u64, Amount::default());
            for (to, times) in &arm.sources {
                let one = self.size(*to, depth + 1, sizes)?;
                all.take(&one, *times);
                all.filters.add(one.filters, *times);
                all.equal.and(one.equal, *times);
                read.add(one.whole, *times);
                sources.column = sources.column.or(one.column);
                sources.asked = sources.asked.or(one.asked);
                row.add(one.row, *times);
                sources.widest = sources.widest.or(one.row);
                copies = copies.saturating_mul(power(one.arms, *times));
                pushed = pushed.saturating_add(one.pushed.saturating_mul(*times));
            }
            row.add(Amount::COLUMN, arm.tables.saturating_mul(TABLE_COLUMNS));
            if arm.tables > 0 {
                sources.widest.columns = sources.widest.columns.max(TABLE_COLUMNS);
            }
            sources.row = sources.row.or(row);
            sources.copies = sources.copies.max(copies);
            sources.pushed = sources.pushed.max(pushed);
            copies_of_all = copies_of_all.saturating_add(copies);
            pushed_of_all = pushed_of_all.saturating_add(pushed).saturating_add(1);
        }
        all.arms = copies_of_all.max(1);
        all.pushed = pushed_of_all.max(1);
        all.whole.add(read, sources.copies);
        let coalesced = arms.iter().map(|arm| arm.coalesced).max().unwrap_or(0);
        for column in [&mut sources.column, &mut sources.asked] {
            let one = *column;
            column.add(one, coalesced);
            column.fixed = column.fixed.saturating_add(coalesced.min(1));
        }
        for arm in arms {
            let filters = arm.filters.with(sources.asked);
            all.filters.add(filters, 1);
            all.whole.add(filters, sources.pushed);
            all.whole.add(sources.widest, arm.naturals * 2);
            for other in &arm.equal {
                all.equal.also(other.with(sources.asked));
            }
        }
        Some(sources)
    }

    /// The queries in expressions of a part, also added to `all` of it.
    fn queries(
        &self,
        contents: &Contents,
        depth: usize,
        sizes: &mut [State],
        all: &mut Size,
    ) -> Option<Queries> {
        let columns = contents.arms.iter().flat_map(|arm| &arm.columns);
        let in_columns = columns.flat_map(|made| &made.queries);
        let mut queries = BTreeMap::new();
        for (query, times) in in_columns.chain(&contents.own.queries) {
            let one = self.size(*query, depth + 1, sizes)?;
            all.take(&one, *times);
            queries.insert(*query, one.whole);
        }
        Some(Queries(queries))
    }
}

/// What queries come to.
struct Queries(BTreeMap<usize, Amount>);

impl Queries {
    /// Those in an expression.
    fn of(&self, made: &Made) -> Amount {
        let mut amount = Amount::default();
        for (query, times) in &made.queries {
            amount.add(self.0.get(query).copied().unwrap_or_default(), *times);
        }
        amount
    }
}

/// What the arms of a part read from.
struct Sources {
    /// The largest of the columns.
    column: Amount,
    /// The same where it is asked for in what rows must fulfil.
    asked: Amount,
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
            asked: Amount::COLUMN,
            row: Amount::default(),
            widest: Amount::COLUMN,
            copies: 1,
            pushed: 0,
        }
    }
}

/// What columns must be equal to. Where it is constant it takes their places, in what other columns must be
/// equal to as well, which may be constant after that.
#[derive(Clone, Copy)]
struct Equal {
    /// How often the first may stand in the last.
    product: u64,
    /// The largest that is constant.
    constant: u64,
    /// What the others add.
    added: u64,
}

impl Equal {
    const NOTHING: Self = Self {
        product: 1,
        constant: 0,
        added: 0,
    };

    /// A column must also be equal to this.
    fn also(&mut self, other: Amount) {
        if other.columns == 0 {
            self.constant = self.constant.max(other.fixed);
        } else {
            self.product = self.product.saturating_mul(other.columns);
            self.added = self.added.saturating_add(other.fixed);
        }
    }

    /// And to all of these, which so many times hold for other columns.
    fn and(&mut self, other: Self, times: u64) {
        self.product = self.product.saturating_mul(power(other.product, times));
        self.constant = self.constant.max(other.constant);
        let added = other.added.saturating_mul(times);
        self.added = self.added.saturating_add(added);
    }

    /// The largest that may come to stand in the place of a column.
    fn value(self) -> Amount {
        let fixed = self.constant.saturating_add(self.added);
        Amount {
            fixed: fixed.saturating_mul(self.product),
            columns: self.product,
        }
    }
}

fn power(base: u64, times: u64) -> u64 {
    base.saturating_pow(u32::try_from(times).unwrap_or(u32::MAX))
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
    /// The largest of its columns, for who reads it.
    column: Amount,
    /// The same in what is asked of its rows.
    asked: Amount,
    /// All columns of one of its rows.
    row: Amount,
    /// How many `SELECT`s it is in the end, united.
    arms: u64,
    /// How often what its rows must fulfil comes to stand in it.
    pushed: u64,
    /// What rows of it, and of what it reads, must fulfil.
    filters: Amount,
    equal: Equal,
    /// How many queries lie below on the longest way.
    below: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            whole: Amount::default(),
            work: 0,
            column: Amount::COLUMN,
            asked: Amount::COLUMN,
            row: Amount::default(),
            arms: 1,
            pushed: 1,
            filters: Amount::default(),
            equal: Equal::NOTHING,
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
