//! When to write: at once, or after other tasks had their turn to add to it.

/// Turns in a row that must have gathered nothing before none is given any more.
const PATIENCE: u8 = 4;
/// Writes after which a turn is tried again.
const TRIED_EVERY: u8 = 32;

/// Decides for each write whether it waits one turn of the scheduler, by whether that has lately gathered more.
///
/// Many callers that were woken by one read each add a request a moment later: one write for all of them costs the
/// kernel, and the peer, a fraction of one write each. A single caller has nobody to wait for, and soon does not.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Bytes that were queued when the turn was given.
    given_at: Option<usize>,
    patience: u8,
    untried: u8,
}

impl Gathering {
    /// Whether the write of `queued` bytes waits one turn. Never twice in a row.
    pub(super) fn waits(&mut self, queued: usize) -> bool {
        if queued == 0 {
            return false;
        }
        if let Some(before) = self.given_at.take() {
            self.patience = if queued > before {
                PATIENCE
            } else {
                self.patience.saturating_sub(1)
            };
            return false;
        }
        self.untried = self.untried.saturating_add(1);
        if self.patience == 0 && self.untried < TRIED_EVERY {
            return false;
        }
        self.untried = 0;
        self.given_at = Some(queued);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as one caller's do: nobody adds anything in its turn. Returns how many turns were given.
    fn lonely_writes(gathering: &mut Gathering, writes: usize) -> usize {
        let given = (0..writes).filter(|_| {
            let given = gathering.waits(10);
            assert!(!given || !gathering.waits(10), "a second turn for a write");
            given
        });
        given.count()
    }

    #[test]
    fn a_single_caller_soon_waits_for_nobody() {
        let mut gathering = Gathering::default();
        assert!(!gathering.waits(0), "a turn for nothing");
        lonely_writes(&mut gathering, 100);
        let turns = lonely_writes(&mut gathering, 320);
        assert_eq!(turns, 320 / usize::from(TRIED_EVERY));
    }

    #[test]
    fn while_turns_gather_more_each_write_waits_one() {
        let mut gathering = Gathering::default();
        while !gathering.waits(10) {}
        assert!(!gathering.waits(20));
        for _ in 0..100 {
            assert!(gathering.waits(10));
            assert!(!gathering.waits(20));
        }
        assert_eq!(
            lonely_writes(&mut gathering, usize::from(PATIENCE)),
            usize::from(PATIENCE)
        );
        assert_eq!(lonely_writes(&mut gathering, 1), 0);
    }
}
