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
