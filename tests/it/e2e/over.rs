//! Ending what goes on beside a test.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends what goes on beside, also where something panics.
pub(super) struct Over<'a>(pub(super) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
