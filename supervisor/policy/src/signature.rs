//! Detached signatures of plugins, in the form of GoatFlow's own: ed25519 over the 32 raw bytes of
//! the SHA-256 of a whole file, kept beside it as `FILE.sig`.
//!
//! Verification is strict (RFC 8032, section 5.1.7, with what it leaves open closed): the scalar
//! must be reduced, neither the key nor the signature's point may be of small order, encodings must
//! be the canonical ones, and the equation is checked without the cofactor. What one strict verifier
//! accepts all accept.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;

use crate::hex;

/// What is signed: the SHA-256 of a whole file, raw.
pub type FileHash = [u8; 32];

/// Ends the name of a detached signature: `FILE.sig`.
pub const SIGNATURE_SUFFIX: &str = ".sig";

/// Longest signature file: 128 digits and a newline.
pub const SIGNATURE_LIMIT_BYTES: usize = 129;

/// An ed25519 signature. Says nothing of whom it is by until [`PublicKey::verifies`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// Why the content of a `.sig` file is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Too few or too many bytes.
    #[error("it has {}{found} bytes, a signature is 128 hex digits and at most one newline", if *.found > SIGNATURE_LIMIT_BYTES { "at least " } else { "" })]
    Length {
        /// Bytes of the file, or of what was read of it.
        found: usize,
    },
    /// Something else than a hex digit.
    #[error("byte {at} of it is no hex digit")]
    Digit {
        /// Its place, from 0.
        at: usize,
    },
}

impl Signature {
    /// Reads the content of a `.sig` file: 128 hex digits of either case, of which at most one
    /// newline follows.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn parse(content: &[u8]) -> Result<Self, SignatureError> {
        let digits = content.strip_suffix(b"\n").unwrap_or(content);
        if digits.len() != 128 {
            return Err(SignatureError::Length {
                found: content.len(),
            });
        }
        match hex::decode(digits) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(at) => Err(SignatureError::Digit { at }),
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Signature {
    /// The content of a `.sig` file: 128 lower-case digits, no newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

/// An ed25519 public key that is fit to verify with. Printed and written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why a text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// Too few or too many bytes.
    #[error("it has {found} bytes, a public key is 64 hex digits and at most one newline")]
    Length {
        /// Bytes of the text.
        found: usize,
    },
    /// Something else than a hex digit.
    #[error("byte {at} of it is no hex digit")]
    Digit {
        /// Its place, from 0.
        at: usize,
    },
    /// No point of the curve, or not in its one canonical form.
    #[error("it is no point of the curve in its canonical form")]
    Point,
    /// A point of small order: signatures that it verifies can be made by anybody.
    #[error("it is of small order: anybody can sign for it")]
    SmallOrder,
}

impl PublicKey {
    /// Reads a key file: 64 hex digits of either case, of which at most one newline follows.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn parse(content: &[u8]) -> Result<Self, PublicKeyError> {
        let digits = content.strip_suffix(b"\n").unwrap_or(content);
        if digits.len() != 64 {
            return Err(PublicKeyError::Length {
                found: content.len(),
            });
        }
        match hex::decode(digits) {
            Ok(bytes) => Self::from_bytes(&bytes),
            Err(at) => Err(PublicKeyError::Digit { at }),
        }
    }

    /// Takes the 32 bytes of a key.
    ///
    /// # Errors
    /// [`PublicKeyError::Point`] and [`PublicKeyError::SmallOrder`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::Point)?;
        if key.is_weak() {
            return Err(PublicKeyError::SmallOrder);
        }
        // Decompression reduces a coordinate that was not: only the reduced form is a key.
        if key.to_edwards().compress().to_bytes() != *bytes {
            return Err(PublicKeyError::Point);
        }
        Ok(Self(key))
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` is this key's over a file with this SHA-256. Strict; a key of small order
    /// verifies nothing here either.
    #[must_use]
    pub fn verifies(&self, file: &FileHash, signature: &Signature) -> bool {
        self.verifies_text(file, signature)
    }

    /// The same of any bytes.
    pub(crate) fn verifies_text(&self, text: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(text, &signature).is_ok()
    }

    pub(crate) fn of(key: VerifyingKey) -> Self {
        Self(key)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
#[path = "signature/tests.rs"]
mod tests;
