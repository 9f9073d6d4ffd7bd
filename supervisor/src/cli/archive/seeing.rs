//! A directory's entries on their way into an archive: what is a plugin's within the plugin's share, and never the
//! end of the backup.

use std::fs;
use std::path::{Path, PathBuf};

use super::budget::{Budget, Charged};
use super::error::{ArchiveError, file};
use super::tree::{Met, See, Why, Within};
use super::write::Writing;

/// Writes a directory's entries as they are met.
pub(super) struct Seeing<'a> {
    /// Where it is.
    pub(super) top: &'a Path,
    /// Its path in the archive.
    pub(super) name: &'a Path,
    /// Of plugins' directories: what they do ends no backup.
    pub(super) budget: Option<Budget>,
    pub(super) writing: &'a mut Writing,
}

impl Seeing<'_> {
    fn path(&self, below: &Path) -> PathBuf {
        match below.as_os_str().is_empty() {
            true => self.name.to_owned(),
            false => self.name.join(below),
        }
    }

    /// Whether an entry is within what its plugin may have.
    fn charge(&mut self, below: &Path, entry: Option<(&Met, &rustix::fs::Stat)>) -> bool {
        let Some(budget) = &mut self.budget else {
            return true;
        };
        let (at, why) = match budget.charge(below, entry) {
            Charged::Taken => return true,
            Charged::Refused(why) => (below, why),
            Charged::Spent(Some(why)) => (budget.plugin(), why),
            Charged::Spent(None) => return false,
        };
        let path = self.name.join(at);
        self.writing.incomplete(&path, &why);
        false
    }
}

impl See for Seeing<'_> {
    fn met(
        &mut self,
        below: &Path,
        met: Met,
        stat: &rustix::fs::Stat,
    ) -> Result<Within, ArchiveError> {
        if !self.charge(below, Some((&met, stat))) {
            return Ok(Within::Passed);
        }
        let (path, full) = (self.path(below), self.top.join(below));
        let is_padded = self.budget.is_some();
        self.writing.met(&path, &full, met, stat, is_padded)?;
        Ok(Within::Wanted)
    }

    fn passed(&mut self, below: &Path, why: Why) -> Result<(), ArchiveError> {
        let path = self.top.join(below);
        // The directory of all is the launcher's own.
        if self.budget.is_none() || below.as_os_str().is_empty() {
            return Err(ArchiveError::of(why, &path));
        }
        if self.charge(below, None) {
            self.writing.incomplete(&self.path(below), &why);
        }
        Ok(())
    }
}

/// How many names are in a directory.
pub(super) fn count(path: &Path) -> Result<usize, ArchiveError> {
    Ok(fs::read_dir(path).map_err(file("list", path))?.count())
}
