//! One `SELECT` of a query, or `VALUES`, or what stands outside of all.

use std::collections::BTreeMap;

use sqlparser::ast::{BinaryOperator, Expr, Join, JoinConstraint, JoinOperator};

use super::made::{Amount, Made, is_column};

#[derive(Default)]
pub(super) struct Arm {
    /// The parts that it reads from, and how often each.
    pub(super) sources: BTreeMap<usize, u64>,
    /// How many tables it reads.
    pub(super) tables: u64,
    /// Its columns that are made of something.
    pub(super) columns: Vec<Made>,
    /// How many times all columns of its sources are columns of its own, and how many times those of one.
    pub(super) wildcards: [u64; 2],
    /// What rows must fulfil, but for queries in it. It is asked of sources too.
    pub(super) filters: Amount,
    /// What columns must be equal to, in all of its rows.
    pub(super) equal: Vec<Amount>,
    /// Joins in which all columns of one name in two sources are one.
    pub(super) naturals: u64,
    /// Joins after which a column is the first that is there, of so many more than one.
    pub(super) coalesced: u64,
}

impl Arm {
    /// Rows must fulfil this.
    pub(super) fn filter(&mut self, filter: &Expr) {
        self.filters.add(Amount::outside_queries(filter), 1);
        let mut terms = vec![filter];
        while let Some(term) = terms.pop() {
            let Expr::BinaryOp { left, op, right } = unbracketed(term) else {
                continue;
            };
            match op {
                BinaryOperator::And => terms.extend([left.as_ref(), right]),
                BinaryOperator::Eq => {
                    for (column, other) in [(left, right), (right, left)] {
                        if is_column(unbracketed(column)) {
                            self.equal.push(Amount::outside_queries(other.as_ref()));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A table is joined so; gives how many columns are compared because of their names.
    pub(super) fn join(&mut self, join: &Join) -> u64 {
        use JoinOperator as By;
        let (constraint, may_lack_left) = match &join.join_operator {
            By::Right(by) | By::RightOuter(by) | By::FullOuter(by) => (by, true),
            By::Join(by) | By::Inner(by) | By::Left(by) | By::LeftOuter(by) => (by, false),
            By::CrossJoin(by) => (by, false),
            // SQLite has no other.
            _ => return 0,
        };
        let by_name = match constraint {
            JoinConstraint::On(expr) => {
                self.filter(expr);
                return 0;
            }
            JoinConstraint::None => return 0,
            // One column of each side, for each name as often as it stands there.
            JoinConstraint::Using(names) => names.len() as u64 * 2,
            JoinConstraint::Natural => {
                self.naturals += 1;
                0
            }
        };
        self.filters.add(Amount::COLUMN, by_name);
        self.coalesced += u64::from(may_lack_left);
        by_name
    }
}

fn unbracketed(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}
