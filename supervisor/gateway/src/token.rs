//! Bearer tokens: how they are made, printed, hashed and compared. Where they are kept is the
//! caller's affair; only the hash ever is.

use std::fmt;

use chrono::{DateTime, Utc};
use pinfold_policy::User;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Random bytes in a token. With 256 bits a plain hash is as good as a slow one.
const TOKEN_BYTES: usize = 32;
/// What each token begins with, so that scanners find leaked ones.
const PREFIX: &str = "pf_";
/// Longest bearer token that is looked at: foreign tokens are longer, none is this long.
pub const TOKEN_LIMIT_BYTES: usize = 512;

/// A text that is never printed by accident; its memory is overwritten when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text into custody.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one who shall have it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("read random bytes for a token")]
pub struct NewTokenError(#[source] getrandom::Error);

/// Makes a token: `pf_` and 64 hex digits, 256 random bits from the kernel.
///
/// # Errors
/// [`NewTokenError`] when the kernel gives no random bytes.
pub fn new_token() -> Result<Secret, NewTokenError> {
    let mut random = Zeroizing::new([0_u8; TOKEN_BYTES]);
    getrandom::fill(random.as_mut_slice()).map_err(NewTokenError)?;
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 2 * TOKEN_BYTES));
    text.push_str(PREFIX);
    push_hex(&mut text, random.as_slice());
    Ok(Secret(text))
}

/// SHA-256 of a token's text. `==` takes the same time whatever it finds.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash([u8; TOKEN_BYTES]);

impl TokenHash {
    /// Hashes a token as a client sent it.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The 32 bytes, to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; TOKEN_BYTES] {
        &self.0
    }

    /// A stored hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; TOKEN_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`TokenHashError`]
    pub fn from_hex(text: &str) -> Result<Self, TokenHashError> {
        let digits = text.as_bytes();
        if digits.len() != 2 * TOKEN_BYTES {
            return Err(TokenHashError {
                bytes: digits.len(),
            });
        }
        let mut bytes = [0_u8; TOKEN_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let mut value = 0;
            for digit in pair {
                value = value << 4
                    | match digit {
                        b'0'..=b'9' => digit - b'0',
                        b'a'..=b'f' => digit - b'a' + 10,
                        _ => {
                            return Err(TokenHashError {
                                bytes: digits.len(),
                            });
                        }
                    };
            }
            *byte = value;
        }
        Ok(Self(bytes))
    }

    /// 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        let mut text = String::with_capacity(2 * TOKEN_BYTES);
        push_hex(&mut text, &self.0);
        text
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TryFrom<String> for TokenHash {
    type Error = TokenHashError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_hex(&text)
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hash.to_hex()
    }
}

/// A text is no hash of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token hash has {bytes} bytes or other digits: expected are 64 lower-case hex digits")]
pub struct TokenHashError {
    /// Length of the text.
    pub bytes: usize,
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Public id, by which it is listed and revoked.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// Stable id of the user for whom it stands.
    pub user: String,
    /// Roles; `admin` is the administrator's.
    pub roles: Vec<String>,
    /// Hash of the token's text.
    pub hash: TokenHash,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it ends by itself, if it does.
    pub expires: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked: Option<DateTime<Utc>>,
}

impl TokenRecord {
    /// Whether a token with this hash is accepted now.
    #[must_use]
    pub fn accepts(&self, hash: &TokenHash, now: DateTime<Utc>) -> bool {
        self.hash == *hash && self.is_valid(now)
    }

    /// Whether it is neither revoked nor past its end.
    #[must_use]
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }

    /// The user for whom it stands.
    #[must_use]
    pub fn to_user(&self) -> User {
        User {
            id: self.user.clone(),
            login: self.user.clone(),
            roles: self.roles.clone(),
        }
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).expect("a nibble is a hex digit"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(token: &str) -> TokenRecord {
        TokenRecord {
            id: "t1".into(),
            name: "ci".into(),
            user: "ann".into(),
            roles: vec!["admin".into()],
            hash: TokenHash::of(token),
            created: DateTime::UNIX_EPOCH,
            expires: None,
            revoked: None,
        }
    }

    #[test]
    fn tokens_are_long_printable_and_different() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!(one.expose().len(), 67);
        assert!(one.expose().starts_with("pf_"));
        assert!(one.expose().bytes().skip(3).all(|c| c.is_ascii_hexdigit()));
        assert_ne!(one.expose(), two.expose());
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = new_token().unwrap();
        for text in [
            format!("{token}"),
            format!("{token:?}"),
            format!("{:?}", record("x")),
        ] {
            assert!(text.contains("[redacted]"));
            assert!(!text.contains(token.expose()));
            assert!(!text.contains(&TokenHash::of("x").to_hex()));
        }
    }

    /// FIPS 180-4's example for "abc".
    #[test]
    fn hash_is_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_hex(), expected);
        assert!(TokenHash::from_hex(expected).unwrap() == TokenHash::of("abc"));
    }

    #[test]
    fn revoked_and_ended_tokens_are_refused() {
        let hash = TokenHash::of("t");
        let now = DateTime::from_timestamp(1000, 0).unwrap();
        let mut token = record("t");
        assert!(token.accepts(&hash, now));
        token.expires = Some(now);
        assert!(!token.accepts(&hash, now));
        token.expires = DateTime::from_timestamp(1001, 0);
        assert!(token.accepts(&hash, now));
        token.revoked = Some(now);
        assert!(!token.accepts(&hash, now));
    }

    proptest! {
        #[test]
        fn a_hash_equals_another_exactly_when_the_tokens_do(a in ".{0,80}", b in ".{0,80}") {
            prop_assert!(TokenHash::of(&a) == TokenHash::of(&a));
            prop_assert_eq!(TokenHash::of(&a) == TokenHash::of(&b), a == b);
        }

        #[test]
        fn a_single_flipped_bit_is_noticed(bytes: [u8; 32], bit in 0_usize..256) {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(TokenHash::from_bytes(bytes) != TokenHash::from_bytes(other));
        }

        #[test]
        fn hex_reads_back(bytes: [u8; 32]) {
            let hash = TokenHash::from_bytes(bytes);
            prop_assert!(TokenHash::from_hex(&hash.to_hex()).unwrap() == hash);
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,70}") {
            prop_assume!(text.len() != 64 || text.bytes().any(|c| !matches!(c, b'0'..=b'9' | b'a'..=b'f')));
            prop_assert!(TokenHash::from_hex(&text).is_err());
        }
    }
}
