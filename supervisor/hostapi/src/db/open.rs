//! Opening the configured databases.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinfold_policy::{ByteSize, Span};
use serde::{Deserialize, Serialize};

use super::sqlite::{Settings, SqliteDatabase};
use super::{Databases, Engine};

/// Largest size of a database that plugins may make it grow to, where the operator states none:
/// enough for an application, less than fills a disk unnoticed.
const DEFAULT_MAX_SIZE: ByteSize = ByteSize(8 * 1024 * 1024 * 1024);

/// Longest time for one write, where the operator states none: two plugins in a row that write as
/// long as they may leave the next one time for its own.
const DEFAULT_WRITE_TIME: Span = Span::seconds(3);

/// A database as configured: `[hostapi.database.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:///absolute/path`, without parameters.
    pub url: String,
    /// Refuses every write, whatever is granted.
    #[serde(default)]
    pub read_only: bool,
    /// Makes the file, in write-ahead mode, where there is none. Its directory must exist.
    #[serde(default)]
    pub create: bool,
    /// Size past which plugins' writes fail. A database that is already larger stays usable and
    /// does not grow. The application's own writes are not concerned.
    #[serde(default = "default_max_size")]
    pub max_size: ByteSize,
    /// Longest time for one write of a plugin, from when it has its turn: as long all others wait.
    /// The whole call has its own limit of 10 s beside it, so that more has no effect; 100 ms at least.
    #[serde(default = "default_write_time")]
    pub write_time: Span,
}

/// Shortest that may be configured: a commit waits for the disk.
const SHORTEST_WRITE_TIME: Duration = Duration::from_millis(100);

fn default_write_time() -> Span {
    DEFAULT_WRITE_TIME
}

fn default_max_size() -> ByteSize {
    DEFAULT_MAX_SIZE
}

impl DatabaseConfig {
    /// The configuration of `url` with every default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            read_only: false,
            create: false,
            max_size: DEFAULT_MAX_SIZE,
            write_time: DEFAULT_WRITE_TIME,
        }
    }

    /// Checks the name, the URL and the time for a write, and opens nothing.
    ///
    /// # Errors
    /// [`OpenFailure`]: a name, engine or parameter that no database here can have, or too short a time for
    /// a write.
    pub fn check(&self, name: &str) -> Result<(), OpenFailure> {
        if self.write_time.0 < SHORTEST_WRITE_TIME {
            return Err(OpenFailure::WriteTime {
                given: self.write_time,
            });
        }
        self.path(name).map(drop)
    }

    fn path(&self, name: &str) -> Result<PathBuf, OpenFailure> {
        let named = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_-".contains(&c));
        if !named {
            return Err(OpenFailure::Name);
        }
        sqlite_path(&self.url)
    }
}

/// Why a configured database is not opened.
#[derive(Debug, thiserror::Error)]
#[error("open database {name:?}")]
pub struct OpenDatabaseError {
    /// Name in the configuration.
    pub name: String,
    /// What is wrong.
    #[source]
    pub cause: OpenFailure,
}

/// What is wrong with a configured database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// The name.
    #[error("a name is 1 to 63 of a-z, 0-9, _ and -")]
    Name,
    /// Another engine.
    #[error("url {url:?}: this version opens sqlite:///absolute/path alone")]
    Engine {
        /// The URL, without what may hold a secret: all before an `@`, all after a `?`.
        url: String,
    },
    /// A URL with parameters.
    #[error("url {url:?} has parameters: none are taken")]
    Parameters {
        /// The URL without them.
        url: String,
    },
    /// A limit below which hardly a write is carried out.
    #[error("write-time {given}: at least {SHORTEST_WRITE_TIME:?}")]
    WriteTime {
        /// What is configured.
        given: Span,
    },
    /// Nothing there.
    #[error("{} is not there, and create is not set", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Not a file.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Pinfold's own database.
    #[error("{} is Pinfold's own database, which plugins never reach", .path.display())]
    Own {
        /// The file.
        path: PathBuf,
    },
    /// The file system.
    #[error("{}", .path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The engine.
    #[error("{}", .path.display())]
    Connect {
        /// The file.
        path: PathBuf,
        /// The engine's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenFailure {
    /// Whether trying again changes nothing: the configuration asks for what cannot be had. A file that is not
    /// there may come with a later mount, or with the application's own first start.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Name
            | Self::Engine { .. }
            | Self::Parameters { .. }
            | Self::WriteTime { .. }
            | Self::Own { .. } => true,
            Self::Missing { .. }
            | Self::NotAFile { .. }
            | Self::Path { .. }
            | Self::Connect { .. } => false,
        }
    }
}

impl Databases {
    /// Opens every configured database. `forbidden` is Pinfold's own database: the same file under
    /// whatever name is refused. It needs not exist yet.
    ///
    /// # Errors
    /// [`OpenDatabaseError`] for the first that cannot be opened.
    pub async fn open(
        configured: &BTreeMap<String, DatabaseConfig>,
        forbidden: &Path,
    ) -> Result<Self, OpenDatabaseError> {
        let mut databases = Self::default();
        for (name, config) in configured {
            let engine =
                open_one(name, config, forbidden)
                    .await
                    .map_err(|cause| OpenDatabaseError {
                        name: name.clone(),
                        cause,
                    })?;
            databases.by_name.insert(name.clone(), engine);
        }
        Ok(databases)
    }
}

async fn open_one(
    name: &str,
    config: &DatabaseConfig,
    forbidden: &Path,
) -> Result<Engine, OpenFailure> {
    let path = config.path(name)?;
    let (path, created) = resolve(&path, config.create && !config.read_only, forbidden)?;
    let settings = Settings {
        path: path.clone(),
        read_only: config.read_only,
        create: created,
        max_size: config.max_size,
        write_time: config.write_time.0,
    };
    let database = SqliteDatabase::open(settings)
        .await
        .map_err(|source| OpenFailure::Connect {
            path,
            source: source.into(),
        })?;
    Ok(Engine::Sqlite(database))
}

/// The path of a `sqlite:///…` URL.
fn sqlite_path(url: &str) -> Result<PathBuf, OpenFailure> {
    let shown = || {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, after)| after);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        if scheme.is_empty() {
            rest.to_owned()
        } else {
            format!("{scheme}://{rest}")
        }
    };
    let path = url
        .strip_prefix("sqlite://")
        .filter(|path| path.starts_with('/') && path.len() > 1)
        .ok_or_else(|| OpenFailure::Engine { url: shown() })?;
    if path.contains(['?', '#', '%']) {
        return Err(OpenFailure::Parameters { url: shown() });
    }
    Ok(path.into())
}

/// The file's own path, without links, once it is known to be none of ours; and whether it has to
/// be made.
fn resolve(path: &Path, create: bool, forbidden: &Path) -> Result<(PathBuf, bool), OpenFailure> {
    let failed = |source| OpenFailure::Path {
        path: path.into(),
        source,
    };
    let (real, metadata) = match std::fs::canonicalize(path) {
        Ok(real) => {
            let metadata = std::fs::metadata(&real).map_err(failed)?;
            (real, Some(metadata))
        }
        // A link that leads nowhere yet is no place to make a file.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && create
                && path.symlink_metadata().is_err() =>
        {
            (in_real_directory(path).map_err(failed)?, None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenFailure::Missing { path: path.into() });
        }
        Err(error) => return Err(failed(error)),
    };
    if metadata
        .as_ref()
        .is_some_and(|metadata| !metadata.is_file())
    {
        return Err(OpenFailure::NotAFile { path: real });
    }
    let own = std::fs::canonicalize(forbidden).or_else(|_| in_real_directory(forbidden));
    let own_path = own.as_deref().unwrap_or(forbidden);
    let own_file = std::fs::metadata(own_path)
        .ok()
        .map(|own| (own.dev(), own.ino()));
    let same_file = metadata
        .as_ref()
        .is_some_and(|file| own_file == Some((file.dev(), file.ino())));
    // Beside a database SQLite keeps NAME-wal, NAME-shm and NAME-journal.
    let beside = real
        .to_str()
        .zip(own_path.to_str())
        .and_then(|(real, own)| real.strip_prefix(own))
        .is_some_and(|rest| ["", "-wal", "-shm", "-journal"].contains(&rest));
    if same_file || beside {
        return Err(OpenFailure::Own { path: real });
    }
    Ok((real, metadata.is_none()))
}

/// `path` with its directory resolved, for a file that is not there yet.
fn in_real_directory(path: &Path) -> io::Result<PathBuf> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let directory = path.parent().ok_or_else(invalid)?;
    let name = path.file_name().ok_or_else(invalid)?;
    Ok(std::fs::canonicalize(directory)?.join(name))
}

#[cfg(test)]
#[path = "open/tests.rs"]
mod tests;
