//! How many calls of one kind are under way. One too many is refused, never queued: what waited here
//! could be waiting for itself.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of calls under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(AtomicUsize);

/// One call's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a UnderWay);

impl UnderWay {
    /// A place, if fewer than `limit` are taken.
    pub(crate) fn enter(&self, limit: usize) -> Option<Place<'_>> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < limit).then_some(count + 1)
            })
            .ok()
            .map(|_| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
