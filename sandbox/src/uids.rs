//! User ids for plugins and their reapers.
//!
//! Several launchers share a machine (the service, a developer's, tests), so each leases a *block*
//! of ids: a file in the lease directory, named after the block's first id, whose content is the
//! state directory it serves and whose flock(2) is the lease. A block is not used for another
//! state directory while the first one exists. Which plugin has which id is in the state
//! directory, so a plugin keeps its id, and with it its lasting directory.
//!
//! The first half of a block is for plugins, one id each for ever; the second for reapers, one for
//! each running instance.

mod lease;
mod overlap;
mod record;

use std::collections::BTreeSet;
use std::path::Path;

use pinfold_policy::{PluginId, UidRange};

pub use lease::LeaseError;
pub use overlap::OverlapError;
pub use record::RecordError;

/// Ids of one block: 1,024 plugins and as many running instances.
const BLOCK_IDS: u32 = 2048;

/// The ids that this launcher hands out.
#[derive(Debug)]
pub struct Uids {
    lease: lease::Lease,
    record: record::Record,
    reapers: BTreeSet<u32>,
}

/// Why there is no user id.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UidError {
    /// The range belongs to somebody.
    #[error(transparent)]
    Overlap(#[from] OverlapError),
    /// No block.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The list of plugins' ids.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Every id of the block is taken.
    #[error("all {count} user ids of the block from {first} are taken by {users}")]
    Exhausted {
        /// First id of that half.
        first: u32,
        /// How many there are.
        count: u32,
        /// `plugins` or `running instances`.
        users: &'static str,
    },
}

impl Uids {
    /// Leases a block of `range` for the launcher of `state_dir`.
    ///
    /// # Errors
    /// [`UidError`].
    pub fn lease(
        range: UidRange,
        lease_dir: &Path,
        state_dir: &Path,
        passwd: &Path,
        subuid: &Path,
    ) -> Result<Self, UidError> {
        overlap::check(range, passwd, subuid)?;
        let lease = lease::Lease::take(range, BLOCK_IDS, lease_dir, state_dir)?;
        let record = record::Record::open(state_dir)?;
        Ok(Self {
            lease,
            record,
            reapers: BTreeSet::new(),
        })
    }

    /// First id of the block and their number.
    #[must_use]
    pub fn block(&self) -> (u32, u32) {
        (self.lease.first(), self.lease.count())
    }

    /// The plugin's id: the recorded one, or the next free one, recorded before it is returned.
    ///
    /// # Errors
    /// [`UidError::Exhausted`] and [`UidError::Record`].
    pub fn plugin(&mut self, plugin: &PluginId) -> Result<u32, UidError> {
        let (first, count) = (self.lease.first(), self.lease.count() / 2);
        let ours = first..first + count;
        if let Some(uid) = self.record.uid(plugin).filter(|uid| ours.contains(uid)) {
            return Ok(uid);
        }
        let taken: BTreeSet<u32> = self.record.uids().collect();
        let uid = ours
            .into_iter()
            .find(|uid| !taken.contains(uid))
            .ok_or(UidError::Exhausted {
                first,
                count,
                users: "plugins",
            })?;
        self.record.add(plugin, uid)?;
        Ok(uid)
    }

    /// An id for a reaper, until [`Self::release_reaper`].
    ///
    /// # Errors
    /// [`UidError::Exhausted`].
    pub fn reaper(&mut self) -> Result<u32, UidError> {
        let half = self.lease.count() / 2;
        let (first, count) = (self.lease.first() + half, self.lease.count() - half);
        let uid = (first..first + count)
            .find(|uid| !self.reapers.contains(uid))
            .ok_or(UidError::Exhausted {
                first,
                count,
                users: "running instances",
            })?;
        self.reapers.insert(uid);
        Ok(uid)
    }

    /// Takes a reaper's id back, once nothing runs under it.
    pub fn release_reaper(&mut self, uid: u32) {
        self.reapers.remove(&uid);
    }
}

#[cfg(test)]
mod tests;
