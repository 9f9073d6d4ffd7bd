//! Backups: everything of an installation that cannot be made again, in one plain tar file, and the
//! way back.
//!
//! A file of the installation or a directory of it is an [`Area`], a name of its own in the archive.
//! The last entry is the [`manifest`], with the digest, owner and mode of every other: an archive that
//! was cut off has none. Writing is [`write`], unpacking and comparing [`read`], what was unpacked [`unpacked`], the change of old for
//! new [`put`], and where there can be none [`mounted`].

pub(super) mod areas;
mod budget;
mod content;
pub(super) mod error;
pub(super) mod locks;
pub(super) mod manifest;
pub(super) mod mounted;
pub(super) mod owners;
mod private;
pub(super) mod put;
pub(super) mod read;
mod seeing;
pub(super) mod tree;
pub(super) mod unpacked;
pub(super) mod verify;
mod work;
pub(super) mod write;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The manifest's name in an archive.
const MANIFEST: &str = "manifest.json";
/// Entries of one archive: as many as some thirty plugins may have files by the quota that holds without another,
/// and those of everything else.
const ENTRY_LIMIT: usize = 2_000_000;
/// Longest path of an entry that is read, in bytes.
const PATH_LIMIT_BYTES: usize = 4096;
/// Longest path of an entry that is written. A restore puts the path of the directory that it unpacks into before
/// it, and the kernel takes 4095 bytes in all (PATH_MAX).
const WRITTEN_PATH_LIMIT_BYTES: usize = 3072;
/// How deep directories go: a plugin's own, in its lasting directory, are as deep as it likes.
const DEPTH_LIMIT: usize = 64;
/// Largest manifest: some 250 bytes for each entry, beside its path.
const MANIFEST_LIMIT_BYTES: u64 = 1 << 30;
/// What an entry takes in the manifest at most, beside its path: every key, the longest numbers and names of owners,
/// a digest, and the name of its area.
const LISTED_ENTRY_BYTES: u64 = 448;

/// A path of the archive as text: bytes that are no printable ASCII, and `%`, are `%XX`.
pub(super) fn text_of(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'!'..=b'~' if *byte != b'%' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Bytes of a path as the manifest has it.
fn listed(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_bytes().iter();
    let each = bytes.map(|byte| match byte {
        b'"' | b'\\' => 2,
        b'!'..=b'~' if *byte != b'%' => 1,
        _ => 3,
    });
    each.sum()
}

#[cfg(test)]
mod tests;
