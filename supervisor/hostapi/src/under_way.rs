//! How many calls of one kind are under way. One too many is refused, never queued: what waited here
//! could be waiting for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of calls under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(AtomicUsize);

/// One call's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a UnderWay);

/// The same of what goes on when the call is answered.
#[derive(Debug)]
pub(crate) struct OwnedPlace(Arc<UnderWay>);

impl UnderWay {
    /// A place, if fewer than `limit` are taken.
    pub(crate) fn enter(&self, limit: usize) -> Option<Place<'_>> {
        // One that is made gives its place back.
        self.count(limit).then(|| Place(self))
    }

    /// The same, to be kept for as long as is wanted.
    pub(crate) fn enter_owned(self: &Arc<Self>, limit: usize) -> Option<OwnedPlace> {
        self.count(limit).then(|| OwnedPlace(Arc::clone(self)))
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self, limit: usize) -> bool {
        let more = |count| (count < limit).then_some(count + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

impl Drop for OwnedPlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
