//! The stages that are kept, under their digest.
//!
//! While there is room all are. Where there is none, a stage goes that nothing runs from, the one that
//! was staged longest ago first: before all others those that are nobody's newest, and only where
//! these are not enough the newest of plugins that have no directory any more. The newest of a plugin
//! that is there stays, because between its stage and its launch nothing runs from it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use pinfold_policy::{Digest, PluginId};

use super::{Signatures, Stage};

/// Most stages kept.
pub const STAGES_LIMIT: usize = 1024;

/// Most plugins remembered, those that are gone among them; a machine runs some hundreds.
pub const PLUGINS_LIMIT: usize = 4096;

/// Every stage of this launcher. Instances hold the [`Rc`] of theirs.
#[derive(Debug)]
pub struct Shelf {
    /// Most memory that all stages together may take.
    limit_bytes: u64,
    stages: BTreeMap<Digest, Kept>,
    /// The newest stage of each plugin.
    newest: BTreeMap<PluginId, Digest>,
    clock: u64,
}

/// One stage on the shelf.
#[derive(Debug)]
pub struct Kept {
    /// The stage.
    pub stage: Rc<Stage>,
    /// The plugins whose directories had this content, each with the signatures that lay there when
    /// it was staged last: these are not part of the digest. Only these plugins are launched from
    /// it: otherwise one plugin's program could run under another's policy.
    pub plugins: BTreeMap<PluginId, Rc<Signatures>>,
    used: u64,
}

/// Why a stage is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// What may not go leaves it no room.
    #[error(
        "no room for a stage that takes {wanted_bytes} bytes of memory: {stages} stages that take \
         {bytes} bytes are in use or the newest of a plugin that is there, and at most \
         {STAGES_LIMIT} that take {limit_bytes} bytes are kept (stages-memory in launcher.toml)"
    )]
    Full {
        /// What it takes, see [`Stage::memory_bytes`].
        wanted_bytes: u64,
        /// How many may not go.
        stages: usize,
        /// What those take.
        bytes: u64,
        /// What all may take.
        limit_bytes: u64,
    },
    /// Too many plugins were staged that are there still.
    #[error("{PLUGINS_LIMIT} plugins that are there or run have been staged, which is the most")]
    Plugins,
}

impl Shelf {
    /// An empty one, for so many bytes.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            stages: BTreeMap::new(),
            newest: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Keeps a stage as the newest of `plugin`; one of the same digest that is kept already stays
    /// and the new copy goes, but for its signatures. `gone` are plugins that have no directory any
    /// more and of which nothing runs: what is kept for them may go where there is no room.
    ///
    /// # Errors
    /// [`ShelfError`] where the limits are met by stages that may not go.
    pub fn put(
        &mut self,
        plugin: &PluginId,
        mut stage: Stage,
        gone: &BTreeSet<PluginId>,
    ) -> Result<Rc<Stage>, ShelfError> {
        self.make_room_for_plugin(plugin, gone)?;
        self.clock += 1;
        let digest = stage.digest();
        let signatures = Rc::new(std::mem::take(&mut stage.signatures));
        let before = self.newest.insert(plugin.clone(), digest);
        if let Some(kept) = self.stages.get_mut(&digest) {
            kept.used = self.clock;
            kept.plugins.insert(plugin.clone(), signatures);
            return Ok(Rc::clone(&kept.stage));
        }
        let made = self.make_room(stage.memory_bytes(), gone);
        made.inspect_err(|_| {
            // What was the newest before is it still.
            match before {
                Some(before) => self.newest.insert(plugin.clone(), before),
                None => self.newest.remove(plugin),
            };
        })?;
        let stage = Rc::new(stage);
        let kept = Kept {
            stage: Rc::clone(&stage),
            plugins: [(plugin.clone(), signatures)].into(),
            used: self.clock,
        };
        self.stages.insert(digest, kept);
        Ok(stage)
    }

    /// The stage of this plugin with this digest, and its signatures.
    #[must_use]
    pub fn get(&self, plugin: &PluginId, digest: &Digest) -> Option<(Rc<Stage>, Rc<Signatures>)> {
        let kept = self.stages.get(digest)?;
        let signatures = kept.plugins.get(plugin)?;
        Some((Rc::clone(&kept.stage), Rc::clone(signatures)))
    }

    /// The digest of a plugin's newest stage.
    #[must_use]
    pub fn newest(&self, plugin: &PluginId) -> Option<Digest> {
        self.newest.get(plugin).copied()
    }

    /// The plugins that are remembered.
    pub fn plugins(&self) -> impl Iterator<Item = &PluginId> {
        self.newest.keys()
    }

    /// Every stage.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.stages.values()
    }

    /// Lets go what nobody needs until one more stage that takes `bytes` fits; nothing, where that
    /// would not be enough.
    fn make_room(&mut self, bytes: u64, gone: &BTreeSet<PluginId>) -> Result<(), ShelfError> {
        let (of_gone, of_others): (Vec<_>, Vec<_>) = self
            .newest
            .iter()
            .partition(|(plugin, _)| gone.contains(*plugin));
        let digests = |newest: Vec<(&PluginId, &Digest)>| -> BTreeSet<Digest> {
            newest.into_iter().map(|(_, digest)| *digest).collect()
        };
        let (of_gone, of_others) = (digests(of_gone), digests(of_others));
        let mut dispensable: Vec<(bool, u64, Digest, u64)> = self
            .stages
            .values()
            .filter(|kept| Rc::strong_count(&kept.stage) == 1)
            .map(|kept| (kept.stage.digest(), kept))
            .filter(|(digest, _)| !of_others.contains(digest))
            .map(|(digest, kept)| {
                let is_newest = of_gone.contains(&digest);
                (is_newest, kept.used, digest, kept.stage.memory_bytes())
            })
            .collect();
        dispensable.sort_unstable();
        let mut stages = self.stages.len();
        let kept = self.stages.values();
        let mut held: u64 = kept.map(|kept| kept.stage.memory_bytes()).sum();
        let mut going = BTreeSet::new();
        let mut candidates = dispensable.into_iter();
        while stages >= STAGES_LIMIT || held.saturating_add(bytes) > self.limit_bytes {
            let Some((_, _, digest, its_bytes)) = candidates.next() else {
                return Err(ShelfError::Full {
                    wanted_bytes: bytes,
                    stages,
                    bytes: held,
                    limit_bytes: self.limit_bytes,
                });
            };
            stages -= 1;
            held -= its_bytes;
            going.insert(digest);
        }
        let without: BTreeSet<PluginId> = self
            .newest
            .iter()
            .filter(|(_, digest)| going.contains(*digest))
            .map(|(plugin, _)| plugin.clone())
            .collect();
        self.forget(&without);
        self.stages.retain(|digest, _| !going.contains(digest));
        Ok(())
    }

    /// Lets one more plugin be remembered: forgets one of `gone` where there are too many, the one that
    /// was staged longest ago.
    fn make_room_for_plugin(
        &mut self,
        plugin: &PluginId,
        gone: &BTreeSet<PluginId>,
    ) -> Result<(), ShelfError> {
        if self.newest.len() < PLUGINS_LIMIT || self.newest.contains_key(plugin) {
            return Ok(());
        }
        let staged = |plugin: &PluginId| {
            let kept = self.stages.get(self.newest.get(plugin)?)?;
            Some((kept.used, plugin.clone()))
        };
        let first = gone.iter().filter_map(staged).min();
        let (_, first) = first.ok_or(ShelfError::Plugins)?;
        self.forget(&BTreeSet::from([first]));
        Ok(())
    }

    /// Forgets plugins: no stage is theirs any more, and they cannot be launched before they are staged
    /// again. Stages that are nobody's go when there is no room.
    fn forget(&mut self, plugins: &BTreeSet<PluginId>) {
        self.newest.retain(|plugin, _| !plugins.contains(plugin));
        for kept in self.stages.values_mut() {
            kept.plugins.retain(|plugin, _| !plugins.contains(plugin));
        }
    }
}

#[cfg(test)]
mod tests;
