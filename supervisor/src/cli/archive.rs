//! Backups: everything of an installation that cannot be made again, in one plain tar file, and the
//! way back.
//!
//! A file of the installation or a directory of it is an [`Area`], a name of its own in the archive.
//! The last entry is the [`manifest`], with the digest, owner and mode of every other: an archive that
//! was cut off has none. Writing is [`write`], unpacking and comparing [`read`], the change of old for
//! new [`put`].

pub(super) mod areas;
pub(super) mod error;
pub(super) mod locks;
pub(super) mod manifest;
pub(super) mod owners;
mod private;
pub(super) mod put;
pub(super) mod read;
pub(super) mod tree;
pub(super) mod verify;
mod work;
pub(super) mod write;

/// The manifest's name in an archive.
const MANIFEST: &str = "manifest.json";
/// Entries of one archive.
const ENTRY_LIMIT: usize = 1_000_000;
/// Longest path of an entry, in bytes.
const PATH_LIMIT_BYTES: usize = 4096;
/// How deep directories go: a plugin's own, in its lasting directory, are as deep as it likes.
const DEPTH_LIMIT: usize = 64;
/// Largest manifest: that of as many entries as there may be.
const MANIFEST_LIMIT_BYTES: u64 = 1 << 30;

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

#[cfg(test)]
mod tests;
