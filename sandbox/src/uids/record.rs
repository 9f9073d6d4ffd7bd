//! Which plugin has which id: `uids.toml` in the state directory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pinfold_policy::PluginId;

const FILE: &str = "uids.toml";

/// Far above the list of as many plugins as a block has ids for.
const RECORD_LIMIT_BYTES: u64 = 1024 * 1024;

/// Why the list cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file operation failed.
    #[error("{step} {path:?}")]
    File {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Not a list of plugins and ids.
    #[error("{path:?} is no list of plugins and user ids: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    uids: BTreeMap<PluginId, u32>,
}

impl Record {
    pub(super) fn open(state_dir: &Path) -> Result<Self, RecordError> {
        let path = state_dir.join(FILE);
        let failed = |source| RecordError::File {
            step: "read",
            path: path.clone(),
            source,
        };
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(RECORD_LIMIT_BYTES)
                    .read_to_string(&mut text)
                    .map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
        let uids = toml::from_str(&text).map_err(|error| RecordError::Content {
            path: path.clone(),
            message: error.message().to_owned(),
        })?;
        Ok(Self { path, uids })
    }

    pub(super) fn uid(&self, plugin: &PluginId) -> Option<u32> {
        self.uids.get(plugin).copied()
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = u32> {
        self.uids.values().copied()
    }

    /// Adds one, on disk before it returns.
    pub(super) fn add(&mut self, plugin: &PluginId, uid: u32) -> Result<(), RecordError> {
        let mut uids = self.uids.clone();
        uids.insert(plugin.clone(), uid);
        let text = toml::to_string(&uids).expect("names and numbers have a TOML form");
        self.replace(&text).map_err(|source| RecordError::File {
            step: "write",
            path: self.path.clone(),
            source,
        })?;
        self.uids = uids;
        Ok(())
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.path.with_extension("toml.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}
