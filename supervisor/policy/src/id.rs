//! Names of plugins, their generations and their running instances.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Name of a plugin: directory name, policy file name and registered name are all this.
///
/// Shape: `^[a-z0-9][a-z0-9_-]{0,62}$`, 1 to 63 bytes of ASCII. It is therefore safe in a path, a
/// host name, a cgroup name and a log line. A copy of it is another reference to the same text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginId(Arc<str>);

impl PluginId {
    /// Longest name in bytes: a host name label, and small enough for every path it is part of.
    pub const MAX_BYTES: usize = 63;

    /// Reads a name.
    ///
    /// # Errors
    /// [`PluginIdError`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, PluginIdError> {
        if text.is_empty() {
            return Err(PluginIdError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(PluginIdError::TooLong { bytes: text.len() });
        }
        for (at, c) in text.char_indices() {
            let allowed =
                c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && (c == '_' || c == '-'));
            if !allowed {
                return Err(PluginIdError::Character { character: c, at });
            }
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PluginId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginId {
    type Err = PluginIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for PluginId {
    type Error = PluginIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<PluginId> for String {
    fn from(id: PluginId) -> Self {
        id.0.as_ref().into()
    }
}

/// Why a text is no plugin name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PluginIdError {
    /// Nothing there.
    #[error("plugin name is empty")]
    Empty,
    /// Over [`PluginId::MAX_BYTES`].
    #[error("plugin name has {bytes} bytes, at most 63 are allowed")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// A character outside the pattern.
    #[error(
        "plugin name has {character:?} at byte {at}: allowed are a-z, 0-9 and, not first, _ and -"
    )]
    Character {
        /// The character.
        character: char,
        /// Its byte offset.
        at: usize,
    },
}

/// Counter of the instances of one plugin, from 1, part of each log line and of each launch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One running process of a plugin, numbered by the launcher; never reused in a launcher's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_pattern_are_refused_with_the_place() {
        assert_eq!(PluginId::parse(""), Err(PluginIdError::Empty));
        assert_eq!(
            PluginId::parse("Hello"),
            Err(PluginIdError::Character {
                character: 'H',
                at: 0
            })
        );
        assert_eq!(
            PluginId::parse("-x"),
            Err(PluginIdError::Character {
                character: '-',
                at: 0
            })
        );
        assert_eq!(
            PluginId::parse("a/b"),
            Err(PluginIdError::Character {
                character: '/',
                at: 1
            })
        );
        assert_eq!(
            PluginId::parse(&"a".repeat(64)),
            Err(PluginIdError::TooLong { bytes: 64 })
        );
        assert!(PluginId::parse(&"a".repeat(63)).is_ok());
        assert!(PluginId::parse("hello-grpc_2").is_ok());
    }
}
