//! The stages that are kept, under their digest.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use pinfold_policy::{Digest, PluginId};

use super::{Signatures, Stage};

/// Most stages kept.
pub const STAGES_LIMIT: usize = 1024;

/// Most plugins remembered; a machine runs some hundreds.
pub const PLUGINS_LIMIT: usize = 4096;

/// Every stage of this launcher. Instances hold the [`Rc`] of theirs.
#[derive(Debug)]
pub struct Shelf {
    /// Most bytes of all stages' files together; they are in memory.
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
    /// Every stage that is there must stay.
    #[error(
        "{stages} stages with {bytes} bytes are in use or the newest of their plugin: \
         at most {STAGES_LIMIT} with {limit_bytes} bytes are kept (stages-memory in launcher.toml)"
    )]
    Full {
        /// How many there are.
        stages: usize,
        /// Bytes of their files.
        bytes: u64,
        /// How many there may be.
        limit_bytes: u64,
    },
    /// Too many plugins were ever staged.
    #[error("{PLUGINS_LIMIT} plugins have been staged, which is the most")]
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
    /// and the new copy goes, but for its signatures.
    ///
    /// # Errors
    /// [`ShelfError`] where the limits are met by stages that may not go.
    pub fn put(&mut self, plugin: &PluginId, mut stage: Stage) -> Result<Rc<Stage>, ShelfError> {
        if self.newest.len() >= PLUGINS_LIMIT && !self.newest.contains_key(plugin) {
            return Err(ShelfError::Plugins);
        }
        self.clock += 1;
        let digest = stage.digest();
        let signatures = Rc::new(std::mem::take(&mut stage.signatures));
        let before = self.newest.insert(plugin.clone(), digest);
        if let Some(kept) = self.stages.get_mut(&digest) {
            kept.used = self.clock;
            kept.plugins.insert(plugin.clone(), signatures);
            return Ok(Rc::clone(&kept.stage));
        }
        self.make_room(stage.bytes()).inspect_err(|_| {
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

    /// Every stage.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.stages.values()
    }

    /// Lets the oldest go that nobody needs until one more with `bytes` fits; none, where that would
    /// not be enough.
    fn make_room(&mut self, bytes: u64) -> Result<(), ShelfError> {
        let newest: BTreeSet<Digest> = self.newest.values().copied().collect();
        let mut dispensable: Vec<(u64, Digest, u64)> = self
            .stages
            .iter()
            .filter(|(digest, kept)| Rc::strong_count(&kept.stage) == 1 && !newest.contains(digest))
            .map(|(digest, kept)| (kept.used, *digest, kept.stage.bytes()))
            .collect();
        dispensable.sort_unstable();
        let mut stages = self.stages.len();
        let mut held: u64 = self.stages.values().map(|kept| kept.stage.bytes()).sum();
        let mut going = Vec::new();
        let mut oldest = dispensable.into_iter();
        while stages >= STAGES_LIMIT || held.saturating_add(bytes) > self.limit_bytes {
            let Some((_, digest, its_bytes)) = oldest.next() else {
                return Err(ShelfError::Full {
                    stages,
                    bytes: held,
                    limit_bytes: self.limit_bytes,
                });
            };
            stages -= 1;
            held -= its_bytes;
            going.push(digest);
        }
        for digest in going {
            self.stages.remove(&digest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(number: u8, bytes: u64) -> Stage {
        Stage {
            mount: std::fs::File::open("/").unwrap().into(),
            digest: Digest([number; 32]),
            bytes,
            signatures: Signatures::default(),
            _attached: None,
        }
    }

    fn plugin(name: &str) -> PluginId {
        name.parse().unwrap()
    }

    const LIMIT: u64 = 1 << 31;
    const HALF: u64 = LIMIT / 2;

    #[test]
    fn the_oldest_unused_one_goes_and_the_newest_of_each_plugin_and_those_in_use_stay() {
        let mut shelf = Shelf::new(LIMIT);
        shelf.put(&plugin("a"), stage(1, HALF / 2)).unwrap();
        shelf.put(&plugin("a"), stage(2, HALF / 2)).unwrap();
        let used = shelf.put(&plugin("b"), stage(3, HALF / 2)).unwrap();
        shelf.put(&plugin("b"), stage(4, HALF / 2)).unwrap();
        // Full. 1 is old and unused; 2 and 4 are the newest; 3 is in use.
        shelf.put(&plugin("c"), stage(5, HALF / 2)).unwrap();
        assert!(shelf.get(&plugin("a"), &Digest([1; 32])).is_none());
        assert!(shelf.put(&plugin("d"), stage(6, HALF)).is_err());
        drop(used);
        shelf.put(&plugin("d"), stage(6, HALF / 2)).unwrap();
        let kept: Vec<u8> = shelf.iter().map(|kept| kept.stage.digest().0[0]).collect();
        assert_eq!(kept, [2, 4, 5, 6]);
    }

    #[test]
    fn the_same_bytes_are_kept_once() {
        let mut shelf = Shelf::new(LIMIT);
        let first = shelf.put(&plugin("a"), stage(1, 5)).unwrap();
        let second = shelf.put(&plugin("b"), stage(1, 5)).unwrap();
        assert!(Rc::ptr_eq(&first, &second));
        assert!(shelf.get(&plugin("b"), &Digest([1; 32])).is_some());
        assert!(shelf.get(&plugin("c"), &Digest([1; 32])).is_none());
        assert_eq!(shelf.iter().count(), 1);
    }

    #[test]
    fn a_signature_that_comes_later_counts_for_its_plugin_alone() {
        let signed = |content: &[u8]| {
            Signatures::from(vec![super::super::DetachedSignature {
                file: "probe".into(),
                sha256: [1; 32],
                content: content.to_vec(),
            }])
        };
        let with = |signatures| Stage {
            signatures,
            ..stage(1, 5)
        };
        let mut shelf = Shelf::new(LIMIT);
        let of = |shelf: &Shelf, name| {
            let (_, signatures) = shelf.get(&plugin(name), &Digest([1; 32])).unwrap();
            signatures.of("probe").map(|one| one.content.clone())
        };
        shelf.put(&plugin("a"), stage(1, 5)).unwrap();
        shelf.put(&plugin("b"), with(signed(b"b's"))).unwrap();
        assert_eq!(of(&shelf, "a"), None);
        shelf.put(&plugin("a"), with(signed(b"a's"))).unwrap();
        assert_eq!(of(&shelf, "a"), Some(b"a's".to_vec()));
        assert_eq!(of(&shelf, "b"), Some(b"b's".to_vec()));
        shelf.put(&plugin("b"), stage(1, 5)).unwrap();
        assert_eq!(of(&shelf, "b"), None);
    }

    #[test]
    fn a_refused_stage_leaves_the_newest_as_it_was() {
        let mut shelf = Shelf::new(LIMIT);
        shelf.put(&plugin("a"), stage(1, HALF)).unwrap();
        shelf.put(&plugin("b"), stage(2, HALF)).unwrap();
        assert!(shelf.put(&plugin("a"), stage(3, HALF + 1)).is_err());
        assert!(shelf.get(&plugin("a"), &Digest([1; 32])).is_some());
        assert!(shelf.put(&plugin("c"), stage(4, 1)).is_err());
    }
}
