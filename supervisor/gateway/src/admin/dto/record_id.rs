//! The id of a record that was written down before it was done.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names a record of an act that the policies' owner wrote down before doing it: 32 digits of
/// hexadecimal, lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordId(String);

/// Not 32 digits of hexadecimal, lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record's id is 32 digits of hexadecimal, lower case")]
pub struct RecordIdError;

impl RecordId {
    /// Digits of an id.
    pub const LENGTH: usize = 32;

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(text: &str) -> Result<Self, RecordIdError> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == Self::LENGTH && text.bytes().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(RecordIdError)
    }
}

impl TryFrom<String> for RecordId {
    type Error = RecordIdError;

    fn try_from(text: String) -> Result<Self, RecordIdError> {
        text.parse()
    }
}

impl From<RecordId> for String {
    fn from(id: RecordId) -> Self {
        id.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_path_and_no_pattern() {
        let id = "0".repeat(31) + "f";
        assert_eq!(id.parse::<RecordId>().unwrap().as_str(), id);
        let long = id.clone() + "0";
        for text in ["", "..", &long, &id.to_uppercase(), &id.replace('f', "/")] {
            assert_eq!(text.parse::<RecordId>(), Err(RecordIdError), "{text}");
        }
    }
}
