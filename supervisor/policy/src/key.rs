//! Keys that may sign plugins, as they lie in the keys directory: `NAME.pub` has the key, and
//! `NAME.toml` beside it what the key is good for. A key without that file is good for nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{self, DocumentError, KnownKeys};
use crate::moment::Moment;
use crate::signature::PublicKey;
use crate::{Pattern, PluginId};

/// Most keys in a keys directory: each is read when a signature is looked at.
pub const KEYS_LIMIT: usize = 256;

/// Largest `NAME.pub`: 64 digits and a newline. One byte more is read, to see that it is there.
pub const PUBLIC_KEY_LIMIT_BYTES: usize = 65;

/// Name of a key: that of its files. 1 to 63 of `a-z`, `0-9` and, not first, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(Box<str>);

/// A text is no key name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no key name: write 1 to 63 of a-z, 0-9 and, not first, _ and -")]
pub struct KeyNameError {
    /// The text, cut at 80 characters.
    pub name: String,
}

impl KeyName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the file that has the key.
    #[must_use]
    pub fn public_file(&self) -> String {
        format!("{self}.pub")
    }

    /// Name of the file that says what the key is good for.
    #[must_use]
    pub fn rules_file(&self) -> String {
        format!("{self}.toml")
    }
}

impl FromStr for KeyName {
    type Err = KeyNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A plugin's name has the same shape, for the same reasons.
        match PluginId::parse(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err(KeyNameError {
                name: text.chars().take(80).collect(),
            }),
        }
    }
}

impl TryFrom<String> for KeyName {
    type Error = KeyNameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key is good for: `NAME.toml` as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeyRules {
    /// Version of this format: 1.
    pub schema: u32,
    /// The plugins that it may sign; `*` stands for any run of characters.
    pub plugins: Vec<Pattern>,
    /// From when on it is good for nothing; never, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
    /// That it is good for nothing any more, whatever the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// What a key counts for at a time, whichever plugins it may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It counts.
    Trusted,
    /// It does not count: its time was over from this one on.
    Expired(Moment),
    /// It does not count at any time: it was revoked.
    Revoked(&'a Revoked),
}

/// That a key has been revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Revoked {
    /// When, for people: a revoked key is refused at any time.
    pub time: Moment,
    /// Why; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

const KEYS: &KnownKeys = &[
    ("", &["schema", "plugins", "expires", "revoked"]),
    ("revoked", &["time", "reason"]),
];

/// Most patterns of one key.
const PATTERNS_LIMIT: usize = 256;

/// Longest reason for a revocation.
pub const REASON_LIMIT_BYTES: usize = 512;

/// Why a key's rules are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRulesError {
    /// Not a document of this shape.
    #[error("{0}")]
    Document(DocumentError),
    /// A format of another time.
    #[error("schema is {schema}, this version reads 1")]
    Schema {
        /// What the file says.
        schema: u32,
    },
    /// None, or too many.
    #[error("plugins has {found} patterns: write 1 to {PATTERNS_LIMIT}, [\"*\"] for every plugin")]
    Patterns {
        /// How many.
        found: usize,
    },
    /// A pattern that no plugin's name fits.
    #[error("plugins has {pattern:?}, which no plugin's name fits: write a-z, 0-9, _, - and *")]
    Pattern {
        /// The pattern, cut at 80 characters.
        pattern: String,
    },
    /// Longer than anybody reads.
    #[error("revoked.reason has {bytes} bytes, at most {REASON_LIMIT_BYTES} are kept")]
    Reason {
        /// Its length.
        bytes: usize,
    },
}

impl KeyRules {
    /// Rules of a key that may sign these plugins, for ever.
    #[must_use]
    pub fn new(plugins: Vec<Pattern>) -> Self {
        Self {
            schema: 1,
            plugins,
            expires: None,
            revoked: None,
        }
    }

    /// Reads and checks a key's rules.
    ///
    /// # Errors
    /// [`KeyRulesError`] with the line or the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyRulesError> {
        let rules: Self = document::read(bytes, KEYS).map_err(KeyRulesError::Document)?;
        rules.check()?;
        Ok(rules)
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form, scalars before tables")
    }

    /// What the key counts for at that time.
    #[must_use]
    pub fn standing(&self, now: Moment) -> Standing<'_> {
        match (&self.revoked, self.expires) {
            (Some(revoked), _) => Standing::Revoked(revoked),
            (None, Some(expires)) if expires <= now => Standing::Expired(expires),
            _ => Standing::Trusted,
        }
    }

    /// What [`Self::parse`] would say of rules that were made here.
    ///
    /// # Errors
    /// [`KeyRulesError`].
    pub fn check(&self) -> Result<(), KeyRulesError> {
        if self.schema != 1 {
            return Err(KeyRulesError::Schema {
                schema: self.schema,
            });
        }
        if !(1..=PATTERNS_LIMIT).contains(&self.plugins.len()) {
            return Err(KeyRulesError::Patterns {
                found: self.plugins.len(),
            });
        }
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-*".contains(c);
        for pattern in self.plugins.iter().map(Pattern::as_str) {
            let is_short = (1..=PluginId::MAX_BYTES).contains(&pattern.len());
            if !(is_short && pattern.chars().all(fits)) {
                return Err(KeyRulesError::Pattern {
                    pattern: pattern.chars().take(80).collect(),
                });
            }
        }
        match &self.revoked {
            Some(Revoked { reason, .. }) if reason.len() > REASON_LIMIT_BYTES => {
                Err(KeyRulesError::Reason {
                    bytes: reason.len(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// A key of the keys directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Its name.
    pub name: KeyName,
    /// The key.
    pub key: PublicKey,
    /// What it is good for.
    pub rules: KeyRules,
}

/// Why a key's signature counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRefusal {
    /// It was revoked.
    #[error("key \"{key}\" was revoked at {time}{}", because(.reason))]
    Revoked {
        /// The key.
        key: KeyName,
        /// When.
        time: Moment,
        /// Why, where that was said.
        reason: String,
    },
    /// Its time is over.
    #[error("key \"{key}\" expired at {expired}")]
    Expired {
        /// The key.
        key: KeyName,
        /// When.
        expired: Moment,
    },
    /// It is for other plugins.
    #[error("key \"{key}\" may not sign plugin \"{plugin}\" (it may: {})", patterns(.may))]
    OtherPlugins {
        /// The key.
        key: KeyName,
        /// The plugin.
        plugin: PluginId,
        /// What it may sign.
        may: Vec<Pattern>,
    },
}

fn because(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!(" ({text:?})"),
    }
}

/// At most this many patterns are named in an error.
const PATTERNS_SHOWN: usize = 8;

fn patterns(all: &[Pattern]) -> String {
    let shown = all.iter().take(PATTERNS_SHOWN).map(Pattern::as_str);
    let more = if all.len() > PATTERNS_SHOWN {
        " …"
    } else {
        ""
    };
    format!("{}{more}", shown.collect::<Vec<_>>().join(" "))
}

impl TrustedKey {
    /// Whether a signature of this key counts for `plugin` at that time.
    ///
    /// # Errors
    /// [`KeyRefusal`] says why not.
    pub fn may_sign(&self, plugin: &PluginId, now: Moment) -> Result<(), KeyRefusal> {
        let key = self.name.clone();
        match self.rules.standing(now) {
            Standing::Trusted => {}
            Standing::Expired(expired) => return Err(KeyRefusal::Expired { key, expired }),
            Standing::Revoked(Revoked { time, reason }) => {
                return Err(KeyRefusal::Revoked {
                    key,
                    time: *time,
                    reason: reason.clone(),
                });
            }
        }
        let named = |pattern: &Pattern| pattern.matches(plugin.as_str());
        if !self.rules.plugins.iter().any(named) {
            return Err(KeyRefusal::OtherPlugins {
                key,
                plugin: plugin.clone(),
                may: self.rules.plugins.clone(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "schema = 1\nplugins = ['mail*', 'hello']\n\
                         expires = 2027-01-31T12:00:00Z\n";

    fn key(rules: &str) -> TrustedKey {
        TrustedKey {
            name: "release".parse().unwrap(),
            key: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
                .parse()
                .unwrap(),
            rules: KeyRules::parse(rules.as_bytes()).unwrap(),
        }
    }

    fn at(time: &str) -> Moment {
        time.parse().unwrap()
    }

    #[test]
    fn a_key_is_good_for_its_plugins_until_it_expires_or_is_revoked() {
        let hello: PluginId = "hello".parse().unwrap();
        let release = key(RULES);
        let (before, after) = (at("2027-01-31T11:59:59Z"), at("2027-01-31T12:00:00Z"));
        assert_eq!(release.may_sign(&hello, before), Ok(()));
        let mailer = "mailer".parse().unwrap();
        assert_eq!(release.may_sign(&mailer, before), Ok(()));
        let other: PluginId = "hello2".parse().unwrap();
        let said =
            |key: &TrustedKey, plugin, now| key.may_sign(plugin, now).unwrap_err().to_string();
        assert_eq!(
            said(&release, &other, before),
            r#"key "release" may not sign plugin "hello2" (it may: mail* hello)"#
        );
        assert_eq!(
            said(&release, &hello, after),
            r#"key "release" expired at 2027-01-31T12:00:00Z"#
        );
        let revoked = key(&format!(
            "{RULES}[revoked]\ntime = 2026-11-21T09:00:00Z\nreason = 'laptop lost'\n"
        ));
        assert_eq!(
            said(&revoked, &hello, at("2020-01-01T00:00:00Z")),
            r#"key "release" was revoked at 2026-11-21T09:00:00Z ("laptop lost")"#
        );
    }

    #[test]
    fn a_key_stands_as_revoked_before_it_stands_as_expired() {
        let mut rules = KeyRules::new(vec![Pattern::any()]);
        let end = Moment::from_unix_seconds(1_000);
        let (before, after) = (
            Moment::from_unix_seconds(999),
            Moment::from_unix_seconds(1_001),
        );
        assert_eq!(rules.standing(after), Standing::Trusted);
        rules.expires = Some(end);
        assert_eq!(rules.standing(before), Standing::Trusted);
        for now in [end, after] {
            assert_eq!(rules.standing(now), Standing::Expired(end));
        }
        let revoked = Revoked {
            time: after,
            reason: "lost".into(),
        };
        rules.revoked = Some(revoked.clone());
        for now in [before, end, after] {
            assert_eq!(rules.standing(now), Standing::Revoked(&revoked));
        }
    }

    #[test]
    fn rules_are_written_and_read_back_the_same() {
        let mut rules = KeyRules::parse(RULES.as_bytes()).unwrap();
        rules.revoked = Some(Revoked {
            time: at("2026-11-21T09:00:00Z"),
            reason: "laptop lost".into(),
        });
        let text = rules.to_toml();
        assert!(text.contains("expires = 2027-01-31T12:00:00Z"), "{text}");
        assert_eq!(KeyRules::parse(text.as_bytes()), Ok(rules));
        let plain = KeyRules::new(vec![Pattern::any()]);
        assert_eq!(KeyRules::parse(plain.to_toml().as_bytes()), Ok(plain));
    }

    #[test]
    fn faults_are_refused_with_their_key() {
        for (from, to, said) in [
            (
                "expires",
                "expire",
                r#"line 3: unknown key "expire", did you mean "expires"?"#,
            ),
            (
                "schema = 1",
                "schema = 2",
                "schema is 2, this version reads 1",
            ),
            (
                "['mail*', 'hello']",
                "[]",
                r#"plugins has 0 patterns: write 1 to 256, ["*"] for every plugin"#,
            ),
            (
                "'hello'",
                "'../x'",
                r#"plugins has "../x", which no plugin's name fits: write a-z, 0-9, _, - and *"#,
            ),
            (
                "2027-01-31T12:00:00Z",
                "2027-01-31",
                r#"line 3: "2027-01-31" is no time from 1970 to 9999: write 2027-01-31T12:00:00Z"#,
            ),
        ] {
            let error = KeyRules::parse(RULES.replace(from, to).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), said);
        }
        assert!(KeyRules::parse(format!("{RULES}[revoked]\n").as_bytes()).is_err());
    }

    #[test]
    fn names_that_leave_their_directory_are_no_key_names() {
        for bad in ["", "../x", "a/b", ".", "Release", "a.b", "-x"] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad}");
        }
        let name: KeyName = "release-2".parse().unwrap();
        assert_eq!(
            (name.public_file(), name.rules_file()),
            ("release-2.pub".into(), "release-2.toml".into())
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_rules_or_an_error(text in "(schema = 1\n)?(plugins = \\[.{0,20}\\]\n)?.{0,60}") {
            if let Ok(rules) = KeyRules::parse(text.as_bytes()) {
                proptest::prop_assert_eq!(KeyRules::parse(rules.to_toml().as_bytes()), Ok(rules));
            }
        }
    }
}
