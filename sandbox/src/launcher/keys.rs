//! The keys that may sign plugins, read from the keys directory for each decision: what the operator
//! has revoked counts from then on.

use std::path::PathBuf;

use pinfold_policy::document::DOCUMENT_LIMIT_BYTES;
use pinfold_policy::{
    KEYS_LIMIT, KeyName, KeyRules, KeyRulesError, PUBLIC_KEY_LIMIT_BYTES, PublicKey,
    PublicKeyError, TrustedKey,
};

use super::files::Place;
use crate::trust::{TrustError, TrustedDir};

/// Most names in the keys directory: each key has two files, and a few may lie beside them.
const NAMES_LIMIT: usize = 4 * KEYS_LIMIT;

/// Where keys lie; none where there was no such directory at the start.
#[derive(Debug)]
pub(super) struct Keys(pub(super) Option<Place>);

/// Why a key is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("there is no key \"{key}\"{}", .path.as_ref().map_or(String::new(), |path| format!(": {path:?} is not there")))]
    Absent { key: KeyName, path: Option<PathBuf> },
    #[error("key \"{key}\" may sign nothing: {path:?} is not there")]
    NoRules { key: KeyName, path: PathBuf },
    #[error("a key is not trusted")]
    Untrusted(#[source] TrustError),
    #[error("{path:?} is no public key")]
    Public {
        path: PathBuf,
        #[source]
        source: PublicKeyError,
    },
    #[error("{path:?}")]
    Rules {
        path: PathBuf,
        #[source]
        source: KeyRulesError,
    },
    #[error("{path:?} has over {KEYS_LIMIT} keys")]
    TooMany { path: PathBuf },
}

impl KeyError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { path: None, .. } => Some(
                "keys-dir of launcher.toml was not there when the launcher started: where it is by \
                 now, start the daemon again"
                    .into(),
            ),
            Self::Absent { key, .. } | Self::NoRules { key, .. } => Some(format!(
                "if it is to be trusted: pinfold keys trust FILE.pub --name {key} --plugin PATTERN"
            )),
            Self::Public { .. } | Self::Rules { .. } => {
                Some("mend the file, or trust the key anew: pinfold keys trust FILE.pub".into())
            }
            Self::TooMany { .. } => Some("remove those that are not used".into()),
            Self::Untrusted(_) => None,
        }
    }
}

impl Keys {
    /// One key.
    pub(super) fn named(&self, key: &KeyName) -> Result<TrustedKey, KeyError> {
        let Some(place) = &self.0 else {
            return Err(KeyError::Absent {
                key: key.clone(),
                path: None,
            });
        };
        match place.with(|directory| Ok(read(directory, key))) {
            Ok(read) => read,
            Err(error) if error.is_absent() => Err(KeyError::Absent {
                key: key.clone(),
                path: Some(place.path().to_owned()),
            }),
            Err(error) => Err(KeyError::Untrusted(error)),
        }
    }

    /// Every key that is there, by name; those that cannot be used as well, each with its reason.
    pub(super) fn all(&self) -> Vec<Result<TrustedKey, KeyError>> {
        let Some(place) = &self.0 else {
            return Vec::new();
        };
        let all = place.with(|directory| {
            let names = directory.names(NAMES_LIMIT)?;
            let keys = names
                .iter()
                .filter_map(|name| name.strip_suffix(".pub")?.parse().ok())
                .map(|key: KeyName| read(directory, &key));
            Ok(keys.take(KEYS_LIMIT + 1).collect::<Vec<_>>())
        });
        match all {
            Ok(keys) if keys.len() > KEYS_LIMIT => {
                let path = place.path().to_owned();
                vec![Err(KeyError::TooMany { path })]
            }
            Ok(keys) => keys,
            Err(error) if error.is_absent() => Vec::new(),
            Err(error) => vec![Err(KeyError::Untrusted(error))],
        }
    }
}

fn read(directory: &TrustedDir, key: &KeyName) -> Result<TrustedKey, KeyError> {
    let path = |name: String| directory.path().join(name);
    // One byte more, so that a longer file is refused for its length and not cut.
    let limit = PUBLIC_KEY_LIMIT_BYTES as u64 + 1;
    let bytes = match directory.read(key.public_file(), limit) {
        Err(error) if error.is_absent() => {
            return Err(KeyError::Absent {
                key: key.clone(),
                path: Some(path(key.public_file())),
            });
        }
        read => read.map_err(KeyError::Untrusted)?,
    };
    let public = PublicKey::parse(&bytes).map_err(|source| KeyError::Public {
        path: path(key.public_file()),
        source,
    })?;
    let bytes = match directory.read(key.rules_file(), DOCUMENT_LIMIT_BYTES as u64) {
        Err(error) if error.is_absent() => {
            return Err(KeyError::NoRules {
                key: key.clone(),
                path: path(key.rules_file()),
            });
        }
        read => read.map_err(KeyError::Untrusted)?,
    };
    let rules = KeyRules::parse(&bytes).map_err(|source| KeyError::Rules {
        path: path(key.rules_file()),
        source,
    })?;
    Ok(TrustedKey {
        name: key.clone(),
        key: public,
        rules,
    })
}
