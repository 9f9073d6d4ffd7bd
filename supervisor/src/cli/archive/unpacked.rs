//! What was unpacked, until it is put in place: whose it becomes, and where it lies meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pinfold_policy::PluginId;

use super::areas::{Area, AreaKind};
use super::error::{ArchiveError, file};
use super::manifest::{Manifest, OwnerOf};
use super::owners::Owners;
use super::private::{Private, carry, remove};
use super::write::parent;

/// An area that was unpacked and is not in its place yet.
#[derive(Debug)]
pub(in crate::cli) struct Staged {
    pub(in crate::cli) area: Area,
    /// Where it lies meanwhile: on the file system of its place, once it was given to its owner.
    pub(in crate::cli) at: PathBuf,
}

/// Something whose owner is known once the plugins' ids here are.
#[derive(Debug)]
pub(super) struct Unowned {
    pub(super) plugin: Option<PluginId>,
    pub(super) path: PathBuf,
    pub(super) owner: OwnerOf,
    /// Links have no mode.
    pub(super) mode: Option<u32>,
}

/// What was unpacked. What is not taken out of it is removed with it.
#[derive(Debug)]
pub(in crate::cli) struct Unpacked {
    pub(in crate::cli) manifest: Manifest,
    pub(in crate::cli) staged: Vec<Staged>,
    /// Areas of the archive for which there is no place here.
    pub(in crate::cli) unplaced: BTreeSet<&'static str>,
    pub(super) unowned: Vec<Unowned>,
    /// Where databases are.
    pub(super) private: Option<Private>,
    pub(super) is_root: bool,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        for staged in &self.staged {
            // What stays is removed by the next one.
            remove(&staged.at).unwrap_or_default();
        }
    }
}

impl Unpacked {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            manifest: Manifest::default(),
            staged: Vec::new(),
            unplaced: BTreeSet::new(),
            unowned: Vec::new(),
            private: None,
            is_root: nix::unistd::geteuid().is_root(),
        }
    }

    /// Where an area was unpacked.
    pub(in crate::cli) fn at(&self, name: &str) -> Option<&Path> {
        let staged = self.staged.iter().find(|staged| staged.area.name == name);
        staged.map(|staged| staged.at.as_path())
    }

    /// The plugins that have a lasting directory in it.
    pub(in crate::cli) fn lasting(&self) -> BTreeSet<&PluginId> {
        let plugins = self.unowned.iter().filter_map(|one| one.plugin.as_ref());
        plugins.collect()
    }

    /// Gives everything to its owner: what was a plugin's to who is that plugin here.
    pub(in crate::cli) fn give(
        &mut self,
        ids: &BTreeMap<PluginId, u32>,
    ) -> Result<(), ArchiveError> {
        let mut owners = Owners::default();
        // What is in a directory comes before it: once it is somebody else's, that one may write there.
        for one in std::mem::take(&mut self.unowned).into_iter().rev() {
            let failed = |action| file(action, &one.path);
            if self.is_root {
                let (mut uid, mut gid) = owners.here(&one.owner);
                if let Some(plugin) = &one.plugin
                    && let (Some(was), Some(is)) = (self.manifest.ids.get(plugin), ids.get(plugin))
                {
                    uid = if one.owner.uid == *was { *is } else { uid };
                    gid = if one.owner.gid == *was { *is } else { gid };
                }
                std::os::unix::fs::lchown(&one.path, Some(uid), Some(gid))
                    .map_err(failed("give away"))?;
            }
            if let Some(mode) = one.mode {
                fs::set_permissions(&one.path, fs::Permissions::from_mode(mode))
                    .map_err(failed("set the mode of"))?;
            }
        }
        self.bring()
    }

    /// Has what was verified elsewhere lie on the file system of its place.
    fn bring(&mut self) -> Result<(), ArchiveError> {
        if self.private.as_ref().is_none_or(Private::is_beside) {
            return Ok(());
        }
        let databases = self.staged.iter_mut();
        for staged in databases.filter(|it| it.area.kind == AreaKind::Database) {
            let to = beside(&staged.area.path);
            carry(&staged.at, &to)?;
            staged.at = to;
        }
        Ok(())
    }
}

/// Where an area is unpacked: beside its place, so that one rename puts it there.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".restoring");
    parent(path).join(name)
}
