//! Stages: the sealed copies of plugins' files, which are all that is ever executed.
//!
//! [`Staging`] copies a plugin's directory in a short-lived child: each file is read once, hashed
//! and written into a fresh tmpfs that is mounted nowhere; then the tmpfs is made read-only as a
//! file system, which the kernel refuses while anybody could still write, and what is in it is
//! hashed again and compared. [`Shelf`] keeps the results under their digest, with the detached
//! [`Signatures`] that lay beside the files, as long as the memory that they take is not too much.
//!
//! Not here: whether a digest or a signature is trusted. Packages over [`PACKAGE_LIMIT_BYTES`] are refused:
//! there is no stage on disk yet.

mod attach;
mod copy;
mod memory;
mod reader;
mod shelf;
mod signatures;
mod verdict;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pinfold_policy::{Digest, PluginId};

use crate::sys::child::{self, Child, Ended, Killed};

use attach::Attached;

pub(crate) use attach::prepare as prepare_attaching;
pub(crate) use memory::probe;
pub use reader::{Reader, ReaderError};
pub use shelf::{Kept, PLUGINS_LIMIT, STAGES_LIMIT, Shelf, ShelfError};
pub use signatures::{DetachedSignature, SIGNATURES_LIMIT, Signatures};

/// Most bytes of a package's files together: they are kept in memory. In whole pages, and with what
/// the kernel has of each of [`ENTRIES_LIMIT`], a stage takes 84 MiB at most.
pub const PACKAGE_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Most files and directories of a package.
pub const ENTRIES_LIMIT: usize = 4096;

/// Most directories inside one another.
pub const DEPTH_LIMIT: usize = 16;

/// Longest time that copying may take, at 64 MiB from a slow disk.
pub const STAGING_LIMIT: Duration = Duration::from_secs(60);

/// A stage: a detached, read-only file system.
#[derive(Debug)]
pub struct Stage {
    mount: OwnedFd,
    digest: Digest,
    memory_bytes: u64,
    signatures: Signatures,
    /// Where it is attached, before Linux 6.15.
    _attached: Option<Attached>,
}

/// Why a plugin's directory was not staged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The plugin's files: the operator or the plugin's author has to act.
    #[error("stage {plugin_directory:?}: {message}")]
    Files {
        /// The plugin's directory.
        plugin_directory: PathBuf,
        /// Which file and what is wrong with it.
        message: String,
    },
    /// Something of this machine.
    #[error("stage {plugin_directory:?}: {message}")]
    Host {
        /// The plugin's directory.
        plugin_directory: PathBuf,
        /// The step and its errno.
        message: String,
    },
    /// A step of the launcher's own.
    #[error("{step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The child did not end in time.
    #[error("stage {plugin_directory:?}: not done within {STAGING_LIMIT:?}")]
    Timeout {
        /// The plugin's directory.
        plugin_directory: PathBuf,
    },
    /// The child ended without a verdict.
    #[error("stage {plugin_directory:?}: the copying child ended with {ended:?}")]
    Child {
        /// The plugin's directory.
        plugin_directory: PathBuf,
        /// How it ended.
        ended: String,
    },
}

/// A plugin's directory being copied.
#[derive(Debug)]
pub struct Staging {
    plugin: PluginId,
    plugin_directory: PathBuf,
    child: Child,
    verdict: File,
    mount: OwnedFd,
    attach_dir: PathBuf,
    deadline: Instant,
    /// The plugins of which the child says whether they have a directory.
    asked: BTreeSet<PluginId>,
}

impl Staging {
    /// Starts to copy `plugin_dir/plugin`, with the file rights of `reader`. `attach_dir` is a
    /// directory of the launcher's alone, in its own mount namespace, where stages are attached on
    /// kernels that cannot clone a mount that is attached nowhere. Of each of `asked` the child looks
    /// besides whether it has a directory still.
    ///
    /// # Errors
    /// [`StageError::Step`].
    pub fn start(
        plugin_dir: &Path,
        plugin: &PluginId,
        reader: &Reader,
        attach_dir: &Path,
        asked: BTreeSet<PluginId>,
    ) -> Result<Self, StageError> {
        let failed = |step| move |source: io::Error| StageError::Step { step, source };
        let mount = memory::create().map_err(failed("make a file system in memory"))?;
        let verdict = verdict::file().map_err(failed("make a memory file"))?;
        let child = child::spawn(&[mount.as_fd(), verdict.as_fd()], || {
            let outcome = copy::copy(plugin_dir, plugin, &asked, reader, mount.as_fd());
            verdict::tell(&verdict, outcome)
        })
        .map_err(failed("start the copying child"))?;
        Ok(Self {
            plugin: plugin.clone(),
            plugin_directory: plugin_dir.join(plugin.as_str()),
            child,
            verdict,
            mount,
            attach_dir: attach_dir.to_owned(),
            deadline: Instant::now() + STAGING_LIMIT,
            asked,
        })
    }

    /// Which plugin.
    #[must_use]
    pub fn plugin(&self) -> &PluginId {
        &self.plugin
    }

    /// When it must be done.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes a plugin for one that is there, whatever the child says: it was staged meanwhile.
    pub fn ask_no_more(&mut self, plugin: &PluginId) {
        self.asked.remove(plugin);
    }

    /// What to call where the deadline has passed. The child is killed and not waited for: what it
    /// waits for may never come.
    #[must_use]
    pub(crate) fn give_up(self) -> (StageError, Killed) {
        let Self {
            child,
            plugin_directory,
            ..
        } = self;
        (StageError::Timeout { plugin_directory }, child.kill())
    }

    /// The stage, and which of the plugins that were asked about are gone, once [`AsFd::as_fd`] is
    /// readable. Waits for the child if it is not.
    ///
    /// # Errors
    /// [`StageError`].
    pub fn finish(mut self) -> Result<(Stage, BTreeSet<PluginId>), StageError> {
        let ended = self.child.wait().map_err(|source| StageError::Step {
            step: "wait for the copying child",
            source,
        })?;
        let plugin_directory = self.plugin_directory;
        match (ended, verdict::read(&self.verdict)) {
            (Ended::Status(0), Some(Ok(copied))) => {
                let attached = attach::if_needed(&self.mount, &self.attach_dir);
                let stage = Stage {
                    _attached: attached.map_err(|source| StageError::Step {
                        step: "make the stage one that jails can clone",
                        source,
                    })?,
                    mount: self.mount,
                    digest: copied.digest,
                    memory_bytes: copied.memory_bytes,
                    signatures: copied.signatures,
                };
                Ok((stage, &copied.gone & &self.asked))
            }
            (Ended::Status(_), Some(Err(refused))) => Err(refused.into_error(plugin_directory)),
            (ended, _) => Err(StageError::Child {
                plugin_directory,
                ended: format!("{ended:?}"),
            }),
        }
    }
}

/// A stage of one program of ours, as [`Staging`] makes one of a plugin's files. The error names the
/// step.
pub(crate) fn built_in(
    name: &str,
    program: &[u8],
    attach_dir: &Path,
) -> Result<Stage, (&'static str, io::Error)> {
    let mount = memory::create().map_err(|error| ("make a file system in memory", error))?;
    memory::write(mount.as_fd(), name, program).map_err(|error| ("write the program", error))?;
    memory::seal(mount.as_fd()).map_err(|error| ("seal it", error))?;
    let attached = attach::if_needed(&mount, attach_dir)
        .map_err(|error| ("make it one that jails can clone", error))?;
    let memory_bytes = memory::taken_bytes(mount.as_fd())
        .map_err(|error| ("count the memory that it takes", error))?;
    Ok(Stage {
        mount,
        digest: Digest([0; 32]),
        memory_bytes,
        signatures: Signatures::default(),
        _attached: attached,
    })
}

impl AsFd for Staging {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }
}

impl Stage {
    /// What is in it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The memory that it takes: its files in whole pages, and about 1 KiB for each file and
    /// directory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Its root directory, open for reading: for openat(2) beneath it, by whomever it is given to.
    ///
    /// # Errors
    /// That of openat(2).
    pub fn root(&self) -> io::Result<OwnedFd> {
        memory::open_root(&self.mount)
    }
}

impl AsFd for Stage {
    /// The mount: what a jail clones.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}
