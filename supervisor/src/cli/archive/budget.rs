//! What one plugin's lasting directory may come to in a backup.
//!
//! Each has its share and no more, so that none keeps the others, or the installation, from being backed up; and
//! none makes a backup much larger than what it keeps on the disk.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path};

use rustix::fs::Stat;

use super::tree::{Met, Why};
use super::{LISTED_ENTRY_BYTES, listed};

/// Entries that all plugins' directories have together. The rest of those that an archive may have are for
/// everything else.
const ENTRIES: usize = super::ENTRY_LIMIT / 10 * 9;
/// Bytes that they have together of the manifest: half of the largest one that is read.
const NAMES_BYTES: u64 = super::MANIFEST_LIMIT_BYTES / 2;
/// Bytes of one plugin's files that take no place on the disk, for which no quota was paid: holes, and further
/// names of a file. 1 GiB: sparse files of databases are some megabytes.
const UNBACKED_BYTES: u64 = 1 << 30;
/// Bytes of a file that are never counted as a hole: some file systems keep small files with their names.
const SMALL_BYTES: u64 = 4096;
/// What `st_blocks` counts in (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The share of each of so many plugins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    entries: usize,
    names: u64,
    unbacked: u64,
}

impl Share {
    pub(super) fn of(plugins: usize) -> Self {
        let plugins = plugins.max(1);
        Self {
            entries: ENTRIES / plugins,
            names: NAMES_BYTES / plugins as u64,
            unbacked: UNBACKED_BYTES,
        }
    }

    /// A smaller one, to be used up in a test.
    #[cfg(test)]
    pub(super) fn small(entries: usize, names: u64, unbacked: u64) -> Self {
        Self {
            entries,
            names,
            unbacked,
        }
    }
}

/// What is left of the shares, plugin by plugin.
#[derive(Debug)]
pub(super) struct Budget {
    share: Share,
    /// The plugin that is being read.
    plugin: OsString,
    left: Share,
    /// Files with several names that were met.
    several: BTreeSet<(u64, u64)>,
    /// Whether it was said that the rest is left out.
    is_spent: bool,
}

/// What becomes of an entry.
pub(super) enum Charged {
    Taken,
    /// It is left out, for this reason.
    Refused(Why),
    /// The plugin's share is used up: the reason is told of the plugin, once.
    Spent(Option<Why>),
}

impl Budget {
    pub(super) fn new(share: Share) -> Self {
        Self {
            share,
            plugin: OsString::new(),
            left: share,
            several: BTreeSet::new(),
            is_spent: false,
        }
    }

    /// Counts an entry, by its path below the directory of all (empty: that directory itself).
    pub(super) fn charge(&mut self, below: &Path, entry: Option<(&Met, &Stat)>) -> Charged {
        let Some(Component::Normal(plugin)) = below.components().next() else {
            return Charged::Taken;
        };
        if plugin != self.plugin {
            *self = Self::new(self.share);
            self.plugin = plugin.to_owned();
        }
        if self.is_spent {
            return Charged::Spent(None);
        }
        // Twice: it may be listed as one that was written meanwhile.
        let names = LISTED_ENTRY_BYTES + 2 * listed(below);
        let why = if self.left.entries == 0 {
            let limit = self.share.entries;
            Some(Why::Share { limit })
        } else if self.left.names < names {
            let limit = self.share.names;
            Some(Why::Names { limit })
        } else {
            None
        };
        if why.is_some() {
            self.is_spent = true;
            return Charged::Spent(why);
        }
        self.left.entries -= 1;
        self.left.names -= names;
        if let Some((Met::File(_), stat)) = entry {
            let unbacked = self.unbacked(stat);
            if unbacked > self.left.unbacked {
                let limit = self.share.unbacked;
                return Charged::Refused(Why::Unbacked { limit });
            }
            self.left.unbacked -= unbacked;
        }
        Charged::Taken
    }

    /// The plugin whose entries are counted.
    pub(super) fn plugin(&self) -> &Path {
        Path::new(&self.plugin)
    }

    /// Bytes of a file that are not on the disk, or were counted under another name.
    fn unbacked(&mut self, stat: &Stat) -> u64 {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if stat.st_nlink > 1 && !self.several.insert((stat.st_dev, stat.st_ino)) {
            return size;
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        let backed = blocks.saturating_mul(BLOCK_BYTES);
        size.saturating_sub(backed.max(SMALL_BYTES))
    }
}
