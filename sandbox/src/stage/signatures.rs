//! The detached signatures of a stage: `FILE.sig` beside `FILE`, and that of the whole package, read
//! in the pass that copies and hashes the files, so that a signature is compared with the very bytes
//! that run. They are not in the stage: no digest covers them.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use pinfold_policy::{
    FileHash, PACKAGE_SIGNATURE_FILE, PACKAGE_SIGNATURE_LIMIT_BYTES, SIGNATURE_LIMIT_BYTES,
    SIGNATURE_SUFFIX, StagedFile,
};
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
pub struct Signatures {
    /// What the package's signature file has, where there is one: at most one byte more than it can
    /// have.
    package: Option<Vec<u8>>,
    programs: Vec<DetachedSignature>,
}

impl Signatures {
    /// Those of `files`, from the `*.sig` files beside them by path.
    pub(super) fn gather(
        signatures: Vec<(String, Vec<u8>)>,
        files: &[StagedFile],
    ) -> Result<Self, Refused> {
        let mut found = Vec::new();
        let mut package = None;
        for (path, content) in signatures {
            // Of the package, whatever else may be called like that.
            if path == PACKAGE_SIGNATURE_FILE {
                package = Some(content);
                continue;
            }
            let signed = path.strip_suffix(SIGNATURE_SUFFIX).and_then(|path| {
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
                content,
            });
        }
        Ok(Self {
            package,
            programs: found,
        })
    }

    /// The content of the package's signature file, where there is one.
    #[must_use]
    pub fn of_package(&self) -> Option<&[u8]> {
        self.package.as_deref()
    }

    /// The signature of this file, where it has one.
    #[must_use]
    pub fn of(&self, file: &str) -> Option<&DetachedSignature> {
        self.programs.iter().find(|one| one.file == file)
    }
}

#[cfg(test)]
impl From<Vec<DetachedSignature>> for Signatures {
    fn from(programs: Vec<DetachedSignature>) -> Self {
        Self {
            package: None,
            programs,
        }
    }
}

#[cfg(test)]
impl Signatures {
    /// The same, with a package's signature.
    pub(crate) fn with_package(self, content: &[u8]) -> Self {
        Self {
            package: Some(content.to_vec()),
            ..self
        }
    }
}

/// The beginning of a `*.sig` file.
pub(super) fn read(opened: OwnedFd, path: &str) -> Result<Vec<u8>, Refused> {
    let limit = match path {
        PACKAGE_SIGNATURE_FILE => PACKAGE_SIGNATURE_LIMIT_BYTES,
        _ => SIGNATURE_LIMIT_BYTES,
    };
    let mut content = Vec::new();
    File::from(opened)
        .take(limit as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| Refused::Files(format!("read {path:?}: {error}")))?;
    Ok(content)
}
