//! The detached signatures of a stage: `FILE.sig` beside `FILE`, read from the sealed copy together
//! with the hash that the copying took, so that a signature speaks of the very bytes that run.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use pinfold_policy::{FileHash, SIGNATURE_LIMIT_BYTES, SIGNATURE_SUFFIX, StagedFile};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::{Deserialize, Serialize};

use super::verdict::Refused;

/// Most signatures of a package. An entry has one, and few have more programs.
pub const SIGNATURES_LIMIT: usize = 32;

/// Longest path of a file whose signature is looked at: the longest that a policy's `entry` has.
const PATH_LIMIT_BYTES: usize = 512;

/// One signature, not yet read or verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachedSignature {
    /// Path of the signed file below the plugin's directory.
    pub file: String,
    /// SHA-256 of that file in the stage.
    pub sha256: FileHash,
    /// What the `.sig` file has: at most one byte more than a signature can have.
    pub content: Vec<u8>,
}

/// The signatures of one plugin's stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signatures(Vec<DetachedSignature>);

impl Signatures {
    /// Those of `files` in the sealed copy.
    pub(super) fn gather(mount: BorrowedFd<'_>, files: &[StagedFile]) -> Result<Self, Refused> {
        let mut found = Vec::new();
        for signature in files {
            let signed = signature
                .path
                .strip_suffix(SIGNATURE_SUFFIX)
                .and_then(|path| {
                    let is_short = path.len() <= PATH_LIMIT_BYTES;
                    files.iter().find(|file| is_short && file.path == path)
                });
            let Some(signed) = signed else {
                continue;
            };
            if found.len() == SIGNATURES_LIMIT {
                let message = format!("over {SIGNATURES_LIMIT} signatures (*{SIGNATURE_SUFFIX})");
                return Err(Refused::Files(message));
            }
            found.push(DetachedSignature {
                file: signed.path.clone(),
                sha256: signed.sha256,
                content: read(mount, &signature.path)?,
            });
        }
        Ok(Self(found))
    }

    /// The signature of this file, where it has one.
    #[must_use]
    pub fn of(&self, file: &str) -> Option<&DetachedSignature> {
        self.0.iter().find(|one| one.file == file)
    }
}

#[cfg(test)]
impl From<Vec<DetachedSignature>> for Signatures {
    fn from(signatures: Vec<DetachedSignature>) -> Self {
        Self(signatures)
    }
}

fn read(mount: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, Refused> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut content = Vec::new();
    openat2(mount, path, flags, Mode::empty(), resolve)
        .map_err(Into::into)
        .and_then(|opened| {
            File::from(opened)
                .take(SIGNATURE_LIMIT_BYTES as u64 + 1)
                .read_to_end(&mut content)
        })
        .map_err(|error: std::io::Error| Refused::Host(format!("{path}: {error}")))?;
    Ok(content)
}
