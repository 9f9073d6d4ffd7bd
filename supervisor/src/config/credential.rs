//! Values that are not in `pinfold.toml` but in a credential of the service manager (systemd.exec(5),
//! `LoadCredential=`): a file that only the service can read. `credential:NAME` stands for it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError};

/// What a value begins with that names a credential.
const SCHEME: &str = "credential:";
/// What systemd puts before the names of the files in `/etc/pinfold/credentials`: the id of the unit's
/// `LoadCredential=`.
const OF_DIRECTORY: &str = "pinfold_";
/// Largest one (systemd.exec(5)): of all credentials of a service together.
const LIMIT_BYTES: u64 = 1 << 20;
/// Longest name.
const NAME_LIMIT_BYTES: usize = 200;

/// Why a credential is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// No file of a credential is called like that.
    #[error("{name:?} is no name of a credential: letters, digits, _, - and . after the first")]
    Name {
        /// What stands there.
        name: String,
    },
    /// The service manager gave none.
    #[error("CREDENTIALS_DIRECTORY is not set: the service manager passed no credentials")]
    NoDirectory,
    /// It is not among those that were given.
    #[error(
        "there is no credential {name:?}: it is a file in /etc/pinfold/credentials, or LoadCredential={name}:/path of the unit"
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// Its file cannot be read.
    #[error("read credential {name:?}")]
    Read {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too large, or no text.
    #[error("credential {name:?} is no text of at most {LIMIT_BYTES} bytes")]
    Text {
        /// The name.
        name: String,
    },
}

/// The directory of the credentials that the service manager passed.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Option<PathBuf>);

impl Credentials {
    /// That of this process: `CREDENTIALS_DIRECTORY`, where it is an absolute path.
    #[must_use]
    pub fn passed() -> Self {
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self(directory.filter(|path| path.is_absolute()))
    }

    /// The file of a credential, which is there.
    fn file(&self, name: &str) -> Result<PathBuf, CredentialError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = (1..=NAME_LIMIT_BYTES).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(is_plain);
        if !is_name {
            let name = name.to_owned();
            return Err(CredentialError::Name { name });
        }
        let directory = self.0.as_deref().ok_or(CredentialError::NoDirectory)?;
        let candidates = [name.to_owned(), format!("{OF_DIRECTORY}{name}")];
        let mut paths = candidates.iter().map(|name| directory.join(name));
        paths
            .find(|path| path.exists())
            .ok_or_else(|| CredentialError::Unknown { name: name.into() })
    }

    /// Its text, without the line end at its end.
    fn text(&self, name: &str) -> Result<String, CredentialError> {
        let path = self.file(name)?;
        let failed = |source| CredentialError::Read {
            name: name.to_owned(),
            source,
        };
        let mut text = read(&path).map_err(failed)?.ok_or_else(|| {
            let name = name.to_owned();
            CredentialError::Text { name }
        })?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }
}

/// The text of a file; `None` where it is too large or none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let mut options = OpenOptions::new();
    // Not blocking: its type is not known yet.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = options.read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Ok(None);
    }
    Ok(String::from_utf8(bytes).ok())
}

/// The name of the credential that a value stands for.
fn named(value: &str) -> Option<&str> {
    value.strip_prefix(SCHEME)
}

impl Config {
    /// The same with the credentials that it names: what `pinfold.toml` may give as `credential:NAME` are
    /// the values of `hostapi.config`, and `hostapi.http.extra-roots`, which is then the credential's
    /// file.
    ///
    /// # Errors
    /// [`ConfigError::Credential`] with the key.
    pub fn with(mut self, credentials: &Credentials, path: &Path) -> Result<Self, ConfigError> {
        let failed = |key: String| {
            let path = path.to_owned();
            move |source| ConfigError::Credential { path, key, source }
        };
        let fill = |values: &mut BTreeMap<String, String>| {
            for (name, value) in values {
                if let Some(credential) = named(value) {
                    let key = format!("hostapi.config.{name}");
                    *value = credentials.text(credential).map_err(failed(key))?;
                }
            }
            Ok::<_, ConfigError>(())
        };
        fill(&mut self.hostapi.config)?;
        if let Some(roots) = &mut self.hostapi.http.extra_roots
            && let Some(credential) = roots.to_str().and_then(named)
        {
            let key = "hostapi.http.extra-roots".to_owned();
            *roots = credentials.file(credential).map_err(failed(key))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::chain::Chain;

    const TEXT: &str = "[hostapi.config]\napi-key = 'credential:api-key'\nplain = 'credentials'\n\
                        [hostapi.http]\nextra-roots = 'credential:roots.pem'\n";

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), Path::new("pinfold.toml")).unwrap()
    }

    #[test]
    fn values_come_from_the_service_managers_directory() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        // One of the unit's directory, one of a drop-in's.
        put("pinfold_api-key", "s3cret\n");
        put("roots.pem", "");
        let credentials = Credentials(Some(directory.path().into()));
        let path = Path::new("pinfold.toml");
        let filled = config(TEXT).with(&credentials, path).unwrap();
        assert_eq!(filled.hostapi.config["api-key"], "s3cret");
        assert_eq!(filled.hostapi.config["plain"], "credentials");
        let roots = directory.path().join("roots.pem");
        assert_eq!(filled.hostapi.http.extra_roots, Some(roots));
    }

    #[test]
    fn one_that_is_not_to_be_had_is_refused_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("bytes"), [0xff]).unwrap();
        fs::write(directory.path().join("large"), vec![b'x'; 1 << 21]).unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", directory.path().join("link")).unwrap();
        let credentials = Credentials(Some(directory.path().into()));
        let refused = |credentials: &Credentials, name: &str| {
            let config = config(&format!("[hostapi.config]\nkey = 'credential:{name}'\n"));
            let error = config.with(credentials, Path::new("pinfold.toml"));
            Chain(&error.unwrap_err()).to_string()
        };
        for (name, why) in [
            ("", "no name of a credential"),
            ("../x", "no name of a credential"),
            (".hidden", "no name of a credential"),
            ("absent", "there is no credential \"absent\""),
            ("bytes", "no text"),
            ("large", "no text"),
            ("directory", "no text"),
            ("link", "read credential \"link\""),
        ] {
            let error = refused(&credentials, name);
            assert!(
                error.starts_with("pinfold.toml: hostapi.config.key: "),
                "{error}"
            );
            assert!(error.contains(why), "{error}");
        }
        let error = refused(&Credentials::default(), "x");
        assert!(error.contains("CREDENTIALS_DIRECTORY"), "{error}");
    }
}
