//! The key that signs: what a plugin's author keeps. The launcher has no use for it.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::hex;
use crate::signature::{FileHash, PublicKey, Signature};

/// An ed25519 private key. Its bytes are wiped when it goes; `Debug` prints none of them.
pub struct PrivateKey(SigningKey);

/// Why a text is no private key. Never says anything of the text's digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// Too few or too many bytes.
    #[error(
        "it has {found} bytes, a private key is 128 hex digits (seed and public key) or 64 (seed), \
         and at most one newline"
    )]
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
    /// The second half is not the public key of the first.
    #[error("its second half is not the public key of its first")]
    Halves,
}

impl PrivateKey {
    /// Makes the key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a key file: 128 hex digits (Go's `ed25519.PrivateKey`, which is seed and public key) or
    /// 64 (the seed alone), of either case, of which at most one newline follows.
    ///
    /// # Errors
    /// [`PrivateKeyError`].
    pub fn parse(content: &[u8]) -> Result<Self, PrivateKeyError> {
        let digits = content.strip_suffix(b"\n").unwrap_or(content);
        let no_digit = |at| PrivateKeyError::Digit { at };
        match digits.len() {
            64 => {
                let seed = Zeroizing::new(hex::decode(digits).map_err(no_digit)?);
                Ok(Self::from_seed(&seed))
            }
            128 => {
                let pair = Zeroizing::new(hex::decode(digits).map_err(no_digit)?);
                let key = SigningKey::from_keypair_bytes(&pair);
                key.map(Self).map_err(|_| PrivateKeyError::Halves)
            }
            _ => Err(PrivateKeyError::Length {
                found: content.len(),
            }),
        }
    }

    /// The content of a key file: 128 lower-case digits, no newline, as Go programs read it.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(&*Zeroizing::new(self.0.to_keypair_bytes())))
    }

    /// What verifies its signatures.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of(self.0.verifying_key())
    }

    /// Signs a file of which this is the SHA-256.
    #[must_use]
    pub fn sign(&self, file: &FileHash) -> Signature {
        self.sign_text(file)
    }

    /// Signs any bytes: whoever calls it sees to it that they are no file's hash.
    pub(crate) fn sign_text(&self, text: &[u8]) -> Signature {
        Signature::from_bytes(self.0.sign(text).to_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 1: seed and public key.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn both_forms_of_a_key_file_are_read_and_one_is_written() {
        let long = format!("{SEED}{PUBLIC}");
        for text in [
            SEED.to_owned(),
            SEED.to_uppercase(),
            long.clone(),
            format!("{long}\n"),
        ] {
            let key = PrivateKey::parse(text.as_bytes()).unwrap();
            assert_eq!(key.public_key().to_string(), PUBLIC);
            assert_eq!(*key.to_hex(), long);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_none_of_it_is_told() {
        let crossed = format!("{SEED}{SEED}");
        let two_newlines = format!("{SEED}\n\n");
        let spoilt = format!("x{}", SEED.get(1..).unwrap());
        for (text, error) in [
            (&crossed, PrivateKeyError::Halves),
            (&two_newlines, PrivateKeyError::Length { found: 66 }),
            (&spoilt, PrivateKeyError::Digit { at: 0 }),
        ] {
            assert_eq!(PrivateKey::parse(text.as_bytes()).unwrap_err(), error);
        }
        let key = PrivateKey::parse(SEED.as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey([redacted])");
    }
}
