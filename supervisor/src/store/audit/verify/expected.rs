//! Records that were seen before, and what it means that one of them is not there.

use pinfold_policy::Digest;

use super::{BrokenTrail, REMOVED, Walk};
use crate::store::audit::chain::Part;

/// What is known of a record that was seen before, beside its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) hash: Digest,
    /// Its part, where that is known: the number does not tell it, as both parts share one numbering.
    pub(crate) part: Option<Part>,
}

impl From<Digest> for Seen {
    fn from(hash: Digest) -> Self {
        Self { hash, part: None }
    }
}

impl Walk {
    /// Why a record that was seen before was not met; `None` where all were. One that is known to have
    /// been removed goes before one of which that cannot be told.
    pub(super) fn unmet(&self) -> Option<BrokenTrail> {
        let mut untold = None;
        for (&number, seen) in &self.missing {
            match self.why_unmet(number, seen.part) {
                error @ (BrokenTrail::TooOld { .. } | BrokenTrail::OldOrRemoved { .. }) => {
                    untold = untold.or(Some(error));
                }
                error => return Some(error),
            }
        }
        untold
    }

    fn why_unmet(&self, number: i64, part: Option<Part>) -> BrokenTrail {
        if number > self.last {
            let last = self.last;
            return BrokenTrail::Cut { number, last };
        }
        let could_be = |of: &Part| part.is_none_or(|part| part == *of);
        let parts = Part::ALL.into_iter().filter(could_be);
        let (trimmed, whole): (Vec<_>, Vec<_>) =
            parts.partition(|part| number <= self.removed(*part));
        match (trimmed.first(), whole.first()) {
            (None, _) => BrokenTrail::Broken {
                number,
                why: REMOVED,
            },
            (Some(_), None) => {
                let removed = trimmed.iter().map(|part| self.removed(*part)).max();
                BrokenTrail::TooOld {
                    number,
                    first: removed.unwrap_or(0) + 1,
                }
            }
            // Nothing in the trail tells a number that was the one part's from one that was the other's.
            (Some(trimmed), Some(whole)) => BrokenTrail::OldOrRemoved {
                number,
                trimmed: trimmed.as_str(),
                removed: self.removed(*trimmed),
                other: whole.as_str(),
            },
        }
    }
}
