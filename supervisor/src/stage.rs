//! Reading files of a stage through the descriptor that the launcher gave.

use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// The sealed files of one staged plugin.
#[derive(Debug)]
pub(crate) struct StageFiles {
    root: OwnedFd,
}

/// Why a file of a stage cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageReadError {
    #[error("read {path}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} has more than {limit_bytes} bytes")]
    TooLarge { path: String, limit_bytes: usize },
}

impl StageFiles {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Whether the stage has this file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.open(path).is_ok()
    }

    /// A whole file of at most `limit_bytes`.
    pub(crate) fn read(&self, path: &str, limit_bytes: usize) -> Result<Vec<u8>, StageReadError> {
        let io = |source| StageReadError::Io {
            path: path.into(),
            source,
        };
        let file = self.open(path).map_err(io)?;
        let mut bytes = Vec::new();
        let limit = u64::try_from(limit_bytes)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() > limit_bytes {
            return Err(StageReadError::TooLarge {
                path: path.into(),
                limit_bytes,
            });
        }
        Ok(bytes)
    }

    fn open(&self, path: &str) -> std::io::Result<std::fs::File> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        Ok(openat2(self.root.as_fd(), path, how)?.into())
    }
}
