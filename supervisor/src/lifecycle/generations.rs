//! The numbers of one plugin's instances, counted on from one daemon to the next.

use std::sync::atomic::{AtomicU64, Ordering};

use pinfold_policy::Generation;

/// The greatest number that is believed of an instance that another daemon started: one each second for
/// a hundred years. What it would take to count there is not lost here either.
const BELIEVED_LIMIT: u64 = 100 * 366 * 24 * 60 * 60;

/// How many instances of a plugin there have been.
#[derive(Debug, Default)]
pub(super) struct Generations(AtomicU64);

impl Generations {
    /// Number of the next instance.
    pub(super) fn next(&self) -> Generation {
        Generation(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Has the numbers go on after this one, which the daemon before gave; whether it can have given it.
    pub(super) fn go_on_after(&self, generation: Generation) -> bool {
        let is_believed = (1..=BELIEVED_LIMIT).contains(&generation.0);
        if is_believed {
            self.0.fetch_max(generation.0, Ordering::Relaxed);
        }
        is_believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_those_of_the_daemon_before() {
        let generations = Generations::default();
        assert!(generations.go_on_after(Generation(7)));
        assert_eq!(generations.next(), Generation(8));
        assert!(generations.go_on_after(Generation(3)));
        assert_eq!(generations.next(), Generation(9));
    }

    #[test]
    fn a_number_that_no_daemon_gives_is_not_counted_on_from() {
        let generations = Generations::default();
        for number in [0, BELIEVED_LIMIT + 1, u64::MAX] {
            assert!(!generations.go_on_after(Generation(number)), "{number}");
        }
        assert_eq!(generations.next(), Generation(1));
        assert!(generations.go_on_after(Generation(BELIEVED_LIMIT)));
        assert_eq!(generations.next(), Generation(BELIEVED_LIMIT + 1));
    }
}
