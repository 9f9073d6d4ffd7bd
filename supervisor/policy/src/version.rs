//! Versions of plugins, as signatures state them and policies ask for the least.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest version, in bytes.
const VERSION_LIMIT_BYTES: usize = 64;

/// Most numbers of a version.
const NUMBERS: usize = 4;

/// A version: one to four numbers with dots between, and perhaps `-` and what it comes before
/// (`1.2.0-rc.1`). Ordered as Semantic Versioning has it (<https://semver.org>, section 11); numbers
/// that are left out are 0, so that `1.2` is neither older nor newer than `1.2.0`.
///
/// Printed as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: Box<str>,
    numbers: [u64; NUMBERS],
    before: Vec<Identifier>,
}

/// A part of what a version comes before: numbers are less than words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(Box<str>),
}

/// A text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no version: write one to four numbers with dots, such as 1.2.0, or 1.2.0-rc.1 for \
     what comes before it"
)]
pub struct VersionError {
    /// The text, cut at 80 characters.
    pub text: String,
}

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || VersionError {
            text: text.chars().take(80).collect(),
        };
        if text.len() > VERSION_LIMIT_BYTES {
            return Err(error());
        }
        let (release, before) = match text.split_once('-') {
            Some((release, before)) => (release, Some(before)),
            None => (text, None),
        };
        let mut numbers = [0; NUMBERS];
        let mut places = numbers.iter_mut();
        for part in release.split('.') {
            let place = places.next().ok_or_else(error)?;
            *place = number(part).ok_or_else(error)?;
        }
        let before = before.map(|before| before.split('.').map(identifier).collect());
        let before: Option<Vec<_>> = before.unwrap_or_else(|| Some(Vec::new()));
        Ok(Self {
            text: text.into(),
            numbers,
            before: before.ok_or_else(error)?,
        })
    }
}

/// A number in its one form: no sign, no zeros before it.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    (is_plain && is_short).then(|| text.parse().ok())?
}

fn identifier(text: &str) -> Option<Identifier> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.is_empty() || !text.bytes().all(fits) {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(Identifier::Number);
    }
    Some(Identifier::Word(text.into()))
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.before.is_empty(), other.before.is_empty()) {
                // What comes before a version is older than it.
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => self.before.cmp(&other.before),
            }
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_in_the_order_of_semantic_versioning() {
        // The first seven are the example of section 11.
        let ordered = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.0.1",
            "1.2",
            "1.10.0",
            "2",
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(
                    version(one).cmp(&version(other)),
                    at.cmp(&other_at),
                    "{one} {other}"
                );
            }
        }
        assert_eq!(version("1.2"), version("1.2.0"));
        assert_eq!(version("1.2").to_string(), "1.2");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let long = format!("1.0-{}", "a".repeat(64));
        for wrong in [
            "",
            "v1",
            "1.",
            ".1",
            "1..2",
            "1.2.3.4.5",
            "01.2",
            "+1",
            "1.0-",
            "1.0-a..b",
            "1.0-01",
            "1.0-ä",
            "1.0+build",
            "18446744073709551616",
            "1 .0",
            &long,
        ] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_version_or_an_error(text in "[0-9a-c.+-]{0,20}") {
            if let Ok(version) = text.parse::<Version>() {
                proptest::prop_assert_eq!(version.to_string(), text);
            }
        }
    }
}
