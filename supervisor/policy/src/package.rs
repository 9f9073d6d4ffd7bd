//! Signatures of whole packages: a statement of what was signed, in lines of text, and an ed25519
//! signature over these very lines.
//!
//! ```text
//! pinfold package signature 1
//! plugin: hello
//! version: 1.2.0
//! platform: linux-x86_64
//! digest: sha256:…
//! key: …
//! from: 2026-11-21T09:00:00Z
//! until: 2027-11-21T09:00:00Z
//! signature: …
//! ```
//!
//! In this order, each line ended by a newline, nothing else; `version` and `until` may be absent.
//! What is signed are the bytes before `signature:`. They begin with a line that nothing else that is
//! signed begins with: a program's signature is over 32 bytes.

use std::fmt::Write as _;

use crate::signature::{PublicKey, Signature, SignatureError};
use crate::{Digest, Moment, PluginId, PrivateKey, Version};

/// The file in a plugin's directory that has its package's signature. Not in the digest, as no
/// `*.sig` is, and of no program.
pub const PACKAGE_SIGNATURE_FILE: &str = "pinfold-package.sig";

/// Longest such file: the longest values with their names come to 524 bytes.
pub const PACKAGE_SIGNATURE_LIMIT_BYTES: usize = 1024;

/// How far the clock of who signs may be ahead: a signature that was just made counts at once.
pub const CLOCK_LEEWAY_SECONDS: u64 = 300;

const FIRST_LINE: &str = "pinfold package signature 1";

/// For which machines a package is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform(Box<str>);

/// Longest platform, in bytes.
const PLATFORM_LIMIT_BYTES: usize = 32;

impl Platform {
    /// Any machine: scripts, or programs for several.
    #[must_use]
    pub fn any() -> Self {
        Self("any".into())
    }

    /// Linux on this kind of processor, as Rust names it: `x86_64`, `aarch64`.
    #[must_use]
    pub fn linux(processor: &str) -> Self {
        Self(format!("linux-{processor}").into())
    }

    /// The one that this program was built for.
    #[must_use]
    pub fn here() -> Self {
        Self::linux(std::env::consts::ARCH)
    }

    /// Reads `any`, or `linux-` and a processor.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let processor = text.strip_prefix("linux-");
        let is_known = text == "any"
            || processor.is_some_and(|name| !name.is_empty() && name.bytes().all(fits));
        (is_known && text.len() <= PLATFORM_LIMIT_BYTES).then(|| Self(text.into()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what is for this platform may run on `machine`.
    #[must_use]
    pub fn fits(&self, machine: &Self) -> bool {
        *self == Self::any() || self == machine
    }
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The plugin that the files are.
    pub plugin: PluginId,
    /// Its version, where it has one.
    pub version: Option<Version>,
    /// For which machines.
    pub platform: Platform,
    /// The digest of all its files: path, size, execute bit and content of each.
    pub digest: Digest,
    /// The key that signs.
    pub key: PublicKey,
    /// From when on it counts: when it was signed.
    pub from: Moment,
    /// From when on it counts no more; never, where absent.
    pub until: Option<Moment>,
}

/// A statement and its signature. Says nothing of whether it is good until
/// [`PackageSignature::is_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSignature {
    /// What was signed.
    pub statement: Statement,
    signature: Signature,
}

/// Why the content of a package's signature file is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageSignatureError {
    /// Longer than one can be.
    #[error("it has over {PACKAGE_SIGNATURE_LIMIT_BYTES} bytes")]
    Length,
    /// A line is not what it has to be.
    #[error("line {line} is not {expected:?} and a value that fits")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What it begins with.
        expected: &'static str,
    },
    /// The last line has no signature.
    #[error("its last line has no signature")]
    Signature(#[source] SignatureError),
    /// There is more, or the same is written otherwise: other spaces, digits, line ends.
    #[error("it is not written as a package signature is")]
    Form,
}

/// Why a statement says nothing of a plugin's files here and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementRefusal {
    /// Other files: one was altered, added, removed, renamed or made executable.
    #[error("it is of {signed}, the plugin's files are {found}")]
    OtherFiles {
        /// What was signed.
        signed: Digest,
        /// What is there.
        found: Digest,
    },
    /// It was signed as another plugin.
    #[error("it is of plugin \"{signed}\", not of \"{plugin}\"")]
    OtherPlugin {
        /// What was signed.
        signed: PluginId,
        /// What is there.
        plugin: PluginId,
    },
    /// It is for other machines.
    #[error("it is for {}, this machine is {}", .signed.as_str(), .machine.as_str())]
    OtherPlatform {
        /// What was signed.
        signed: Platform,
        /// This machine's.
        machine: Platform,
    },
    /// Older than the policy takes.
    #[error("it is of version {signed}, the policy takes none below {least}")]
    TooOld {
        /// What was signed.
        signed: Box<Version>,
        /// The least.
        least: Box<Version>,
    },
    /// The policy asks for a version, and it states none.
    #[error("it states no version, the policy takes none below {least}")]
    NoVersion {
        /// The least.
        least: Box<Version>,
    },
    /// Signed in the future.
    #[error("it counts from {from} on, which is not yet")]
    NotYet {
        /// From when on.
        from: Moment,
    },
    /// Its time is over.
    #[error("it counted until {until}")]
    Expired {
        /// Until when.
        until: Moment,
    },
}

impl Statement {
    /// The bytes that are signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            writeln!(text, "{name}: {value}").unwrap_or_default();
        };
        line("plugin", &self.plugin);
        if let Some(version) = &self.version {
            line("version", version);
        }
        line("platform", &self.platform.as_str());
        line("digest", &self.digest);
        line("key", &self.key);
        line("from", &self.from);
        if let Some(until) = &self.until {
            line("until", until);
        }
        text
    }

    /// Signs it. `key` is to be the one that it names: another's signature verifies for nobody.
    #[must_use]
    pub fn sign(self, key: &PrivateKey) -> PackageSignature {
        PackageSignature {
            signature: key.sign_text(self.to_text().as_bytes()),
            statement: self,
        }
    }

    /// Whether it is of these files of this plugin, on this machine, at that time.
    ///
    /// # Errors
    /// [`StatementRefusal`] says why not.
    pub fn covers(
        &self,
        plugin: &PluginId,
        found: Digest,
        machine: &Platform,
        now: Moment,
    ) -> Result<(), StatementRefusal> {
        if self.plugin != *plugin {
            return Err(StatementRefusal::OtherPlugin {
                signed: self.plugin.clone(),
                plugin: plugin.clone(),
            });
        }
        if self.digest != found {
            return Err(StatementRefusal::OtherFiles {
                signed: self.digest,
                found,
            });
        }
        if !self.platform.fits(machine) {
            return Err(StatementRefusal::OtherPlatform {
                signed: self.platform.clone(),
                machine: machine.clone(),
            });
        }
        let at_latest = now.unix_seconds().saturating_add(CLOCK_LEEWAY_SECONDS);
        if self.from.unix_seconds() > at_latest {
            return Err(StatementRefusal::NotYet { from: self.from });
        }
        match self.until {
            Some(until) if until <= now => Err(StatementRefusal::Expired { until }),
            _ => Ok(()),
        }
    }

    /// Whether its version is at least that.
    ///
    /// # Errors
    /// [`StatementRefusal::TooOld`] and [`StatementRefusal::NoVersion`].
    pub fn is_at_least(&self, least: &Version) -> Result<(), StatementRefusal> {
        let least = Box::new(least.clone());
        match &self.version {
            None => Err(StatementRefusal::NoVersion { least }),
            Some(signed) if *signed < *least => Err(StatementRefusal::TooOld {
                signed: Box::new(signed.clone()),
                least,
            }),
            Some(_) => Ok(()),
        }
    }
}

impl PackageSignature {
    /// Reads the content of a package's signature file.
    ///
    /// # Errors
    /// [`PackageSignatureError`].
    pub fn parse(content: &[u8]) -> Result<Self, PackageSignatureError> {
        if content.len() > PACKAGE_SIGNATURE_LIMIT_BYTES {
            return Err(PackageSignatureError::Length);
        }
        let text = std::str::from_utf8(content).map_err(|_| PackageSignatureError::Form)?;
        let mut lines = Lines {
            lines: text.lines().peekable(),
            at: 0,
        };
        lines.value(FIRST_LINE, |rest| rest.is_empty().then_some(()))?;
        let statement = Statement {
            plugin: lines.value("plugin: ", |value| value.parse().ok())?,
            version: lines.optional("version: ", |value| value.parse().ok())?,
            platform: lines.value("platform: ", Platform::parse)?,
            digest: lines.value("digest: ", |value| value.parse().ok())?,
            key: lines.value("key: ", |value| value.parse().ok())?,
            from: lines.value("from: ", |value| value.parse().ok())?,
            until: lines.optional("until: ", |value| value.parse().ok())?,
        };
        let digits = lines.value("signature: ", Some)?;
        let signature = Signature::parse(digits.as_bytes());
        let signature = signature.map_err(PackageSignatureError::Signature)?;
        let read = Self {
            statement,
            signature,
        };
        // One signature has one form: no value is read in two ways, and nothing stands beside.
        if read.to_text().as_bytes() != content {
            return Err(PackageSignatureError::Form);
        }
        Ok(read)
    }

    /// The content of a package's signature file.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{}signature: {}\n",
            self.statement.to_text(),
            self.signature
        )
    }

    /// Whether this key made it, and is the one that it names. Strict, as
    /// [`PublicKey::verifies`].
    #[must_use]
    pub fn is_by(&self, key: &PublicKey) -> bool {
        let text = self.statement.to_text();
        self.statement.key == *key && key.verifies_text(text.as_bytes(), &self.signature)
    }
}

struct Lines<'a> {
    lines: std::iter::Peekable<std::str::Lines<'a>>,
    at: usize,
}

impl<'a> Lines<'a> {
    /// The value of the next line, which has to begin with `name`.
    fn value<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, PackageSignatureError> {
        self.at += 1;
        let line = self.lines.next();
        let value = line.and_then(|line| line.strip_prefix(name));
        value.and_then(read).ok_or(PackageSignatureError::Line {
            line: self.at,
            expected: name.trim_end(),
        })
    }

    /// The same, where the next line begins so.
    fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, PackageSignatureError> {
        match self.lines.peek() {
            Some(line) if line.starts_with(name) => self.value(name, read).map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
#[path = "package/tests.rs"]
mod tests;
