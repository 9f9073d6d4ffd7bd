//! What one plugin's lasting directory may come to in a backup.
//!
//! Each has its share and no more, so that none keeps the others, or the installation, from being backed up; and
//! none makes a backup many times as large as what it keeps on the disk. What those before it have left over is
//! shared by those that come.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Component, Path};

use rustix::fs::Stat;

use super::tree::{Met, Why};
use super::{LISTED_ENTRY_BYTES, listed};

/// Entries that all plugins' directories have together. The rest of those that an archive may have are for
/// everything else.
const ENTRIES: usize = super::ENTRY_LIMIT / 10 * 9;
/// Bytes that they have together of the manifest. The rest of the largest one that is read is for everything else.
const NAMES_BYTES: u64 = super::MANIFEST_LIMIT_BYTES / 10 * 8;
/// Bytes of one plugin's files that take no place on the disk, for which no quota was paid: holes, what the file
/// system has compressed, and further names of a file. 1 GiB: sparse files of databases are some megabytes.
const UNBACKED_BYTES: u64 = 1 << 30;
/// So many times what takes place on the disk may come to it, where that is more: text and tables are compressed to
/// a fifth of their size.
const UNBACKED_TIMES: u64 = 4;
/// Bytes of a file that are never counted as a hole: some file systems keep small files with their names.
const SMALL_BYTES: u64 = 4096;
/// What `st_blocks` counts in (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// What plugins may have: all, or one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    entries: usize,
    names: u64,
    /// Of each plugin, whatever the others have.
    unbacked: u64,
}

impl Share {
    /// What all have together.
    pub(super) const ALL: Self = Self {
        entries: ENTRIES,
        names: NAMES_BYTES,
        unbacked: UNBACKED_BYTES,
    };

    /// A smaller one of all, to be used up in a test.
    #[cfg(test)]
    pub(super) fn small(entries: usize, names: u64, unbacked: u64) -> Self {
        Self {
            entries,
            names,
            unbacked,
        }
    }
}

/// How many bytes the disk of a file has of everything.
type Used = fn(&File) -> u64;

/// What is left of the shares, plugin by plugin.
#[derive(Debug)]
pub(super) struct Budget {
    /// What is for the plugins that come.
    rest: Share,
    /// How many come.
    to_come: usize,
    /// The plugin that is being read.
    plugin: OsString,
    share: Share,
    left: Share,
    used: Used,
    /// The disks that the plugin's files are on, and of what each has, how much no file was counted for yet.
    disks: BTreeMap<u64, u64>,
    /// Bytes of its files that take place on a disk: no more than the disk has of everything. Files that share
    /// their content (copies that are clones) each have all of it, and the disk has it once.
    backed: u64,
    /// Bytes that take none, and were taken.
    taken: u64,
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
    /// What so many plugins have together.
    pub(super) fn new(all: Share, plugins: usize) -> Self {
        let nobody = Share {
            entries: 0,
            names: 0,
            unbacked: 0,
        };
        Self {
            rest: all,
            to_come: plugins,
            plugin: OsString::new(),
            share: nobody,
            left: nobody,
            used,
            disks: BTreeMap::new(),
            backed: 0,
            taken: 0,
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
            self.begin(plugin);
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
        if let Some((Met::File(file), stat)) = entry {
            let unbacked = self.unbacked(file, stat);
            let limit = self
                .share
                .unbacked
                .max(self.backed.saturating_mul(UNBACKED_TIMES));
            let sum = self.taken.saturating_add(unbacked);
            if sum > limit {
                return Charged::Refused(Why::Unbacked { limit });
            }
            self.taken = sum;
        }
        Charged::Taken
    }

    /// The plugin whose entries are counted.
    pub(super) fn plugin(&self) -> &Path {
        Path::new(&self.plugin)
    }

    /// Gives the next plugin its part of what is left: as much as those that come after it have, and no less than
    /// if all had the same.
    fn begin(&mut self, plugin: &OsStr) {
        self.rest.entries += self.left.entries;
        self.rest.names += self.left.names;
        // One that has come since they were counted has what is left.
        let plugins = self.to_come.max(1);
        self.share = Share {
            entries: self.rest.entries / plugins,
            names: self.rest.names / plugins as u64,
            unbacked: self.rest.unbacked,
        };
        self.rest.entries -= self.share.entries;
        self.rest.names -= self.share.names;
        self.to_come = plugins - 1;
        self.left = self.share;
        self.plugin = plugin.to_owned();
        self.disks = BTreeMap::new();
        self.backed = 0;
        self.taken = 0;
        self.several = BTreeSet::new();
        self.is_spent = false;
    }

    /// Bytes of a file that are not on the disk, or were counted already; counts those that are.
    fn unbacked(&mut self, file: &File, stat: &Stat) -> u64 {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if stat.st_nlink > 1 && !self.several.insert((stat.st_dev, stat.st_ino)) {
            return size;
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        let backed = blocks.saturating_mul(BLOCK_BYTES);
        let used = self.used;
        let left = self.disks.entry(stat.st_dev).or_insert_with(|| used(file));
        let backed = backed.min(*left);
        *left -= backed;
        self.backed = self.backed.saturating_add(backed);
        size.saturating_sub(backed.max(SMALL_BYTES))
    }
}

/// Bytes that the file system of a file has of everything; where it does not say, what every file has counts.
fn used(file: &File) -> u64 {
    rustix::fs::fstatvfs(file).map_or(u64::MAX, |found| {
        let blocks = found.f_blocks.saturating_sub(found.f_bfree);
        blocks.saturating_mul(found.f_frsize)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn copies_that_share_their_content_are_counted_as_what_the_disk_has() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("whole");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        let share = Share::small(100, 1 << 20, 1 << 20);
        // So many files of 1 MiB, each with all of its blocks: what the disk has, and what is beyond it at most.
        let disks: [(Used, usize); 4] = [
            (|_| 1 << 30, 9),
            (|_| 3 << 20, 9),
            (|_| 1 << 20, 5),
            (|_| 0, 1),
        ];
        for (used, taken) in disks {
            let mut budget = Budget {
                used,
                ..Budget::new(share, 1)
            };
            let charge = |_: &usize| {
                let met = Met::File(File::open(&path).unwrap());
                let charged = budget.charge(Path::new("plugin/copy"), Some((&met, &stat)));
                matches!(charged, Charged::Taken)
            };
            assert_eq!((0..9).filter(charge).count(), taken);
        }
    }
}
