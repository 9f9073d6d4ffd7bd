//! A plugin's directory as the launcher will stage it: its files, its digest and its manifest.
//!
//! The digest is what a policy pins, so this reads what the launcher's staging reads, by the same
//! rules: regular files and directories only, no links, no other file system, the same limits.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use pinfold_policy::{
    Digest, PACKAGE_SIGNATURE_FILE, PACKAGE_SIGNATURE_LIMIT_BYTES, PluginId, SIGNATURE_LIMIT_BYTES,
    SIGNATURE_SUFFIX, StageManifest, StagedFile,
};
use pinfold_sandbox::stage::{DEPTH_LIMIT, ENTRIES_LIMIT, PACKAGE_LIMIT_BYTES};
use sha2::{Digest as _, Sha256};

use super::exit::{Exit, Failure, of_io};
use crate::dialect::{self, Dialect, DialectError, Manifest};
use crate::stage::StageFiles;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// A plugin's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) files: StageManifest,
    pub(super) bytes: u64,
    /// The beginning of each `*.sig` file, by path: at most one byte more than a signature has.
    pub(super) signatures: BTreeMap<String, Vec<u8>>,
}

/// What a plugin's manifest says, and of which dialect it is.
pub(super) struct Declared {
    pub(super) plugin: PluginId,
    pub(super) dialect: &'static str,
    pub(super) manifest_file: &'static str,
    pub(super) manifest: Manifest,
}

/// Why a directory is no plugin.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackageError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is neither a file nor a directory: links and others are not taken")]
    Kind { path: PathBuf },
    #[error("{path} is not UTF-8")]
    Name { path: PathBuf },
    #[error("{path} is over {DEPTH_LIMIT} directories deep")]
    Depth { path: PathBuf },
    #[error("{path} has over {ENTRIES_LIMIT} files and directories")]
    Entries { path: PathBuf },
    #[error("{path} has over {PACKAGE_LIMIT_BYTES} bytes (64MiB) in all")]
    Bytes { path: PathBuf },
    #[error("{path} changed while it was read")]
    Changed { path: PathBuf },
    #[error("{path} has no manifest ({})", .known.join(", "))]
    NoManifest {
        path: PathBuf,
        known: Vec<&'static str>,
    },
    #[error("{path}")]
    Manifest {
        path: PathBuf,
        #[source]
        source: DialectError,
    },
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        let exit = match &error {
            PackageError::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Exit::NoInput,
                _ => of_io(Exit::Io, source),
            },
            _ => Exit::Data,
        };
        let failure = Self::new(exit, error);
        match exit {
            Exit::NoPermission => failure.hint("run it with sudo"),
            _ => failure,
        }
    }
}

impl Package {
    /// Reads and hashes every file below `directory`.
    pub(super) fn read(directory: &Path) -> Result<Self, PackageError> {
        let mut walk = Walk {
            directory,
            buffer: vec![0; BUFFER_BYTES],
            entries: 0,
            bytes: 0,
            files: Vec::new(),
            signatures: BTreeMap::new(),
        };
        walk.directory(open(directory)?, "", 0)?;
        Ok(Self {
            files: StageManifest::new(walk.files),
            bytes: walk.bytes,
            signatures: walk.signatures,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        self.files.digest()
    }
}

impl Declared {
    /// Reads the manifest of the plugin in `directory`; `named`, where the plugin's name is given
    /// already and the manifest may not say another.
    pub(super) fn read(directory: &Path, named: Option<&PluginId>) -> Result<Self, PackageError> {
        let stage = StageFiles::new(open(directory)?);
        let dialect = dialect_of(&stage).ok_or_else(|| PackageError::NoManifest {
            path: directory.to_owned(),
            known: dialect::all()
                .iter()
                .map(|dialect| dialect.manifest_file())
                .collect(),
        })?;
        let refused = |source| PackageError::Manifest {
            path: directory.to_owned(),
            source,
        };
        let plugin = match named {
            Some(plugin) => plugin.clone(),
            None => dialect.plugin_name(&stage).map_err(refused)?,
        };
        let manifest = dialect.manifest(&plugin, &stage).map_err(refused)?;
        Ok(Self {
            plugin,
            dialect: dialect.name(),
            manifest_file: dialect.manifest_file(),
            manifest,
        })
    }
}

/// Whether a manifest of any dialect lies in `directory`.
pub(super) fn has_manifest(directory: &Path) -> bool {
    open(directory).is_ok_and(|directory| dialect_of(&StageFiles::new(directory)).is_some())
}

fn dialect_of(stage: &StageFiles) -> Option<Arc<dyn Dialect>> {
    dialect::all()
        .into_iter()
        .find(|dialect| stage.has(dialect.manifest_file()))
}

fn open(directory: &Path) -> Result<OwnedFd, PackageError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(directory, flags, nix::sys::stat::Mode::empty()).map_err(|errno| {
        PackageError::Read {
            path: directory.to_owned(),
            source: errno.into(),
        }
    })
}

struct Walk<'a> {
    directory: &'a Path,
    buffer: Vec<u8>,
    entries: usize,
    bytes: u64,
    files: Vec<StagedFile>,
    signatures: BTreeMap<String, Vec<u8>>,
}

impl Walk<'_> {
    fn directory(&mut self, opened: OwnedFd, path: &str, depth: usize) -> Result<(), PackageError> {
        for name in self.names(&opened, path)? {
            let inner = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            let entry = self.open(&opened, &name, &inner)?;
            let metadata = entry
                .metadata()
                .map_err(|error| self.failed(&inner, error))?;
            if metadata.is_dir() {
                if depth + 1 >= DEPTH_LIMIT {
                    return Err(PackageError::Depth {
                        path: self.directory.join(inner),
                    });
                }
                self.directory(entry.into(), &inner, depth + 1)?;
            } else if metadata.is_file() {
                self.file(entry, metadata.size(), metadata.mode() & 0o111 != 0, inner)?;
            } else {
                return Err(PackageError::Kind {
                    path: self.directory.join(inner),
                });
            }
        }
        Ok(())
    }

    /// The names in a directory; sorting them is the digest's affair.
    fn names(&mut self, opened: &OwnedFd, path: &str) -> Result<Vec<String>, PackageError> {
        let copy = opened
            .try_clone()
            .map_err(|error| self.failed(path, error))?;
        let mut listed = Dir::from_fd(copy).map_err(|errno| self.failed(path, errno.into()))?;
        let mut names = Vec::new();
        for entry in listed.iter() {
            let entry = entry.map_err(|errno| self.failed(path, errno.into()))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_LIMIT {
                return Err(PackageError::Entries {
                    path: self.directory.to_owned(),
                });
            }
            let name = std::str::from_utf8(name).map_err(|_| PackageError::Name {
                path: self.directory.join(path).join(OsStr::from_bytes(name)),
            })?;
            names.push(name.to_owned());
        }
        Ok(names)
    }

    fn open(&self, directory: &OwnedFd, name: &str, path: &str) -> Result<File, PackageError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
        loop {
            return match openat2(directory.as_fd(), name, how) {
                Ok(opened) => Ok(opened.into()),
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
                // A link, and a socket.
                Err(nix::Error::ELOOP | nix::Error::ENXIO) => Err(PackageError::Kind {
                    path: self.directory.join(path),
                }),
                Err(errno) => Err(self.failed(path, errno.into())),
            };
        }
    }

    fn file(
        &mut self,
        mut file: File,
        size: u64,
        executable: bool,
        path: String,
    ) -> Result<(), PackageError> {
        if size > PACKAGE_LIMIT_BYTES - self.bytes {
            return Err(PackageError::Bytes {
                path: self.directory.to_owned(),
            });
        }
        let mut hash = Sha256::new();
        let mut read: u64 = 0;
        let mut beginning = Vec::new();
        loop {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(&path, error)),
            };
            read += count as u64;
            if read > size {
                break;
            }
            let bytes = self.buffer.get(..count).unwrap_or_default();
            hash.update(bytes);
            let limit = match path.as_str() {
                PACKAGE_SIGNATURE_FILE => PACKAGE_SIGNATURE_LIMIT_BYTES,
                _ => SIGNATURE_LIMIT_BYTES,
            };
            let room = (limit + 1).saturating_sub(beginning.len());
            beginning.extend(bytes.iter().take(room));
        }
        if read != size {
            return Err(PackageError::Changed {
                path: self.directory.join(path),
            });
        }
        self.bytes += size;
        if path.ends_with(SIGNATURE_SUFFIX) {
            self.signatures.insert(path.clone(), beginning);
        }
        self.files.push(StagedFile {
            path,
            size,
            executable,
            sha256: hash.finalize().into(),
        });
        Ok(())
    }

    fn failed(&self, path: &str, source: io::Error) -> PackageError {
        PackageError::Read {
            path: self.directory.join(path),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
