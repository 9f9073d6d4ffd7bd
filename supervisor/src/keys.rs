//! The keys directory as who owns it reads it: to list it, and to foresee what the launcher will say
//! of a signature. Nothing starts for what is found here; the launcher reads and decides for itself.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use pinfold_policy::document::DOCUMENT_LIMIT_BYTES;
use pinfold_policy::{
    FileHash, KeyName, KeyRules, KeyRulesError, Moment, PUBLIC_KEY_LIMIT_BYTES, PackageSignature,
    PluginId, PublicKey, PublicKeyError, Signature, SignatureError, TrustedKey,
};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is no public key")]
    Public {
        path: PathBuf,
        #[source]
        source: PublicKeyError,
    },
    #[error("{path} is not there: the key may sign nothing")]
    NoRules { path: PathBuf },
    #[error("{path} does not say what the key may sign")]
    Rules {
        path: PathBuf,
        source: KeyRulesError,
    },
}

/// A key that is there, and whether it can be used.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: KeyName,
    /// The key itself, also where what it is good for cannot be read.
    pub(crate) public: Option<PublicKey>,
    pub(crate) key: Result<TrustedKey, KeyFileError>,
}

/// What the keys that are there say of a signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signers {
    /// These made it, and count.
    By(Vec<KeyName>),
    /// No key may sign this plugin, so nothing says whose it is.
    Unknown,
    /// None of these, which may sign this plugin or cannot be read, is known to have made it.
    Others(Vec<KeyName>),
}

/// A file of a key, at most `limit` bytes of it and one more.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A public key in a file anywhere.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, KeyFileError> {
    let bytes = read(path, PUBLIC_KEY_LIMIT_BYTES).map_err(failed(path))?;
    PublicKey::parse(&bytes).map_err(|source| KeyFileError::Public {
        path: path.to_owned(),
        source,
    })
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Read { path, source }
}

/// One key of the directory.
pub(crate) fn one(directory: &Path, name: &KeyName) -> Result<TrustedKey, KeyFileError> {
    let key = public_key(&directory.join(name.public_file()))?;
    let path = directory.join(name.rules_file());
    let bytes = match read(&path, DOCUMENT_LIMIT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyFileError::NoRules { path });
        }
        read => read.map_err(failed(&path))?,
    };
    let rules = KeyRules::parse(&bytes).map_err(|source| KeyFileError::Rules { path, source })?;
    Ok(TrustedKey {
        name: name.clone(),
        key,
        rules,
    })
}

/// The names of the keys of the directory, in order; none where there is no such directory.
pub(crate) fn names(directory: &Path) -> Result<Vec<KeyName>, KeyFileError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed(directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed(directory))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".pub"));
        names.extend(stem.and_then(|stem| stem.parse::<KeyName>().ok()));
    }
    names.sort_unstable();
    Ok(names)
}

/// Every key of the directory, by name; none where there is no such directory.
pub(crate) fn all(directory: &Path) -> Result<Vec<Found>, KeyFileError> {
    let found = names(directory)?.into_iter().map(|name| Found {
        public: public_key(&directory.join(name.public_file())).ok(),
        key: one(directory, &name),
        name,
    });
    Ok(found.collect())
}

/// What the keys of `directory` say of a signature of a file of `plugin`.
///
/// # Errors
/// [`SignatureError`] where `content` is none. A key that cannot be read may be the one that made it,
/// as the launcher has it; one that nobody said anything of is good for nothing.
pub(crate) fn signers(
    keys: &[Found],
    plugin: &PluginId,
    file: &FileHash,
    content: &[u8],
    now: Moment,
) -> Result<Signers, SignatureError> {
    let signature = Signature::parse(content)?;
    let is_by = |key: &TrustedKey| key.key.verifies(file, &signature);
    Ok(among(keys, plugin, now, is_by))
}

/// What they say of the signature of a whole package of `plugin`. What it states is not looked at.
pub(crate) fn package_signers(
    keys: &[Found],
    plugin: &PluginId,
    signature: &PackageSignature,
    now: Moment,
) -> Signers {
    among(keys, plugin, now, |key| signature.is_by(&key.key))
}

fn among(
    keys: &[Found],
    plugin: &PluginId,
    now: Moment,
    is_by: impl Fn(&TrustedKey) -> bool,
) -> Signers {
    let counting: Vec<&TrustedKey> = keys
        .iter()
        .filter_map(|found| found.key.as_ref().ok())
        .filter(|key| key.may_sign(plugin, now).is_ok())
        .collect();
    let by: Vec<KeyName> = counting
        .iter()
        .filter(|key| is_by(key))
        .map(|key| key.name.clone())
        .collect();
    let unreadable = keys.iter().filter(|found| {
        let error = found.key.as_ref().err();
        error.is_some_and(|error| !matches!(error, KeyFileError::NoRules { .. }))
    });
    let others: Vec<KeyName> = counting
        .iter()
        .map(|key| key.name.clone())
        .chain(unreadable.map(|found| found.name.clone()))
        .collect();
    match (by.is_empty(), others.is_empty()) {
        (false, _) => Signers::By(by),
        (true, true) => Signers::Unknown,
        (true, false) => Signers::Others(others),
    }
}

/// The time of now, by which keys expire.
pub(crate) fn now() -> Moment {
    let seconds = chrono::Utc::now().timestamp();
    Moment::from_unix_seconds(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use pinfold_policy::{Pattern, PrivateKey};

    use super::*;

    fn private(digit: &str) -> PrivateKey {
        PrivateKey::parse(digit.repeat(64).as_bytes()).unwrap()
    }

    #[test]
    fn keys_are_listed_with_what_is_wrong_and_say_who_signed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        for (name, digit) in [("a", "1"), ("b", "2"), ("unruled", "3")] {
            write(
                &format!("{name}.pub"),
                &private(digit).public_key().to_string(),
            );
        }
        let rules = |plugins: &str| KeyRules::new(vec![Pattern::new(plugins)]).to_toml();
        write("a.toml", &rules("hel*"));
        write("b.toml", &rules("*"));
        write("Other.pub", "");
        let keys = all(directory.path()).unwrap();
        let names: Vec<&str> = keys.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "unruled"]);
        let unruled = keys[2].key.as_ref().unwrap_err().to_string();
        assert!(unruled.contains("unruled.toml is not there"), "{unruled}");

        let file = [7; 32];
        let said = |keys: &[Found], plugin: &str, digit| {
            let content = private(digit).sign(&file).to_string();
            signers(
                keys,
                &plugin.parse().unwrap(),
                &file,
                content.as_bytes(),
                now(),
            )
            .unwrap()
        };
        let named = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(said(&keys, "hello", "1"), Signers::By(named(&["a"])));
        assert_eq!(
            said(&keys, "hello", "3"),
            Signers::Others(named(&["a", "b"]))
        );
        assert_eq!(said(&keys, "mailer", "1"), Signers::Others(named(&["b"])));
        assert_eq!(said(&[], "hello", "1"), Signers::Unknown);
        assert_eq!(all(&directory.path().join("absent")).unwrap().len(), 0);
    }
}
