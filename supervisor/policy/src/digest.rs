//! The digest of a stage: what was verified, and therefore what runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hex;
use crate::signature::SIGNATURE_SUFFIX;

/// SHA-256 over a stage's canonical manifest. Printed as `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no digest: it is \"sha256:\" and 64 hex digits")]
pub struct DigestParseError {
    /// The text, cut at 80 characters.
    pub text: String,
}

impl FromStr for Digest {
    type Err = DigestParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DigestParseError {
            text: text.chars().take(80).collect(),
        };
        let digits = text.strip_prefix("sha256:").ok_or_else(error)?.as_bytes();
        // One digest has one text.
        if digits.iter().any(u8::is_ascii_uppercase) {
            return Err(error());
        }
        hex::decode(digits).map(Self).map_err(|_| error())
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestParseError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// One regular file of a stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StagedFile {
    /// Path below the plugin's directory, `/`-separated, without leading `/`, `.` or `..`.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Whether any execute bit was set.
    pub executable: bool,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// The regular files of a stage, sorted by path. Detached signatures (`*.sig`) are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageManifest {
    files: Vec<StagedFile>,
}

impl StageManifest {
    /// Takes the files in any order; `*.sig` files are left out.
    #[must_use]
    pub fn new(mut files: Vec<StagedFile>) -> Self {
        files.retain(|file| !file.path.ends_with(SIGNATURE_SUFFIX));
        files.sort();
        Self { files }
    }

    /// The files, sorted by path.
    #[must_use]
    pub fn files(&self) -> &[StagedFile] {
        &self.files
    }

    /// The digest: SHA-256 over a domain prefix, the number of files and, for each in order, path
    /// length and path, size, execute bit and content digest; lengths and sizes are 64-bit
    /// big-endian, so no two manifests share their bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"pinfold stage 1\0");
        hash.update((self.files.len() as u64).to_be_bytes());
        for file in &self.files {
            hash.update((file.path.len() as u64).to_be_bytes());
            hash.update(file.path.as_bytes());
            hash.update(file.size.to_be_bytes());
            hash.update([u8::from(file.executable)]);
            hash.update(file.sha256);
        }
        Digest(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> StagedFile {
        StagedFile {
            path: path.into(),
            size: 3,
            executable: false,
            sha256: [7; 32],
        }
    }

    #[test]
    fn order_and_signatures_do_not_count_and_everything_else_does() {
        let base = StageManifest::new(vec![file("a"), file("b")]).digest();
        assert_eq!(
            base,
            StageManifest::new(vec![file("b"), file("a"), file("a.sig")]).digest()
        );
        for other in [
            vec![file("a")],
            vec![file("a"), file("c")],
            vec![
                file("a"),
                StagedFile {
                    size: 4,
                    ..file("b")
                },
            ],
            vec![
                file("a"),
                StagedFile {
                    executable: true,
                    ..file("b")
                },
            ],
            vec![
                file("a"),
                StagedFile {
                    sha256: [8; 32],
                    ..file("b")
                },
            ],
        ] {
            assert_ne!(base, StageManifest::new(other).digest());
        }
    }

    #[test]
    fn text_form_round_trips_and_other_forms_are_refused() {
        let digest = StageManifest::default().digest();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let upper = format!("sha256:{}", "AB".repeat(32));
        for bad in ["", "sha256:", "md5:00", &"0".repeat(64), &upper] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
