//! What a plugin's task takes over from the daemon before, and its handle knows of it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::generations::Generations;

/// The plugin's numbers, and whether it has asked for what the daemon before has left of it.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) generations: Generations,
    asked: AtomicBool,
}

impl Inherited {
    /// Whether the daemon before may have left an instance: true once, for whoever then asks the launcher.
    pub(super) fn may_be_left(&self) -> bool {
        !self.asked.swap(true, Ordering::Relaxed)
    }

    /// Whether somebody has asked for it.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_before_has_left_is_asked_for_once() {
        let inherited = Inherited::default();
        assert!(!inherited.was_asked());
        assert!(inherited.may_be_left());
        assert!(inherited.was_asked());
        assert!(!inherited.may_be_left());
    }
}
