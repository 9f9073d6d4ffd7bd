//! Whether a plugin's files look changed, where nobody tells: by what their directories say.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Most entries that are looked at: a stage has no more.
const ENTRIES_LIMIT: usize = 4096;
/// Deepest directory that is looked at: a stage goes no deeper.
const DEPTH_LIMIT: usize = 16;

/// A number that changes, as far as anybody can tell, when a file below the directory does: names,
/// inodes, sizes, modes and times of change. Links are not followed.
pub(super) fn fingerprint(directory: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut entries = ENTRIES_LIMIT;
    walk(directory, DEPTH_LIMIT, &mut entries, &mut hasher);
    hasher.finish()
}

fn walk(directory: &Path, depth: usize, entries: &mut usize, hasher: &mut DefaultHasher) {
    let Ok(listed) = fs::read_dir(directory) else {
        // That it cannot be read is what there is to know.
        false.hash(hasher);
        return;
    };
    let mut names: Vec<_> = listed
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .take(*entries)
        .collect();
    *entries -= names.len();
    names.sort_unstable();
    for name in names {
        name.hash(hasher);
        let path = directory.join(&name);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        (metadata.ino(), metadata.size(), metadata.mode()).hash(hasher);
        (metadata.ctime(), metadata.ctime_nsec()).hash(hasher);
        if metadata.is_dir() && depth > 0 {
            walk(&path, depth - 1, entries, hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_a_file_and_only_then() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let before = fingerprint(place.path());
        assert_eq!(fingerprint(place.path()), before);
        fs::write(deep.join("file"), "x").unwrap();
        let with_file = fingerprint(place.path());
        assert_ne!(with_file, before);
        fs::read(deep.join("file")).unwrap();
        assert_eq!(fingerprint(place.path()), with_file);
        fs::write(deep.join("file"), "xx").unwrap();
        assert_ne!(fingerprint(place.path()), with_file);
    }
}
