//! Reading files of a stage through the descriptor that the launcher gave.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

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
        source: io::Error,
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

    /// Opens what lies beneath the root, name by name and through no link. openat2(2) does that in one call, and is
    /// not there under a unit with `RestrictSUIDSGID=`.
    fn open(&self, path: &str) -> io::Result<File> {
        let mut names: Vec<&str> = path
            .split('/')
            .filter(|name| !matches!(*name, "" | "."))
            .collect();
        if path.starts_with('/') || names.contains(&"..") {
            return Err(Errno::EXDEV.into());
        }
        let file = names.pop().ok_or(Errno::EISDIR)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let open = |directory: Option<&OwnedFd>, name, more| {
            let directory = directory.unwrap_or(&self.root);
            openat(directory, name, flags | more, Mode::empty())
        };
        let mut directory = None;
        for name in names {
            directory = Some(open(directory.as_ref(), name, OFlag::O_DIRECTORY)?);
        }
        Ok(open(directory.as_ref(), file, OFlag::empty())?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_but_what_lies_beneath_the_root() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("stage");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), "inside").unwrap();
        std::fs::write(base.path().join("secret"), "outside").unwrap();
        std::os::unix::fs::symlink("b", root.join("a/link")).unwrap();
        std::os::unix::fs::symlink("a/b/file", root.join("also")).unwrap();
        let files = StageFiles::new(File::open(&root).unwrap().into());
        for path in ["a/b/file", "./a//b/./file"] {
            assert_eq!(files.read(path, 6).unwrap(), b"inside", "{path}");
        }
        let outside = base.path().join("secret");
        for path in [
            "../secret",
            "a/../a/b/file",
            "a/link/file",
            "also",
            "",
            "a/b/file/",
            outside.to_str().unwrap(),
        ] {
            assert_eq!(files.has(path), path == "a/b/file/", "{path}");
        }
        let error = files.read("a/b/file", 5).unwrap_err();
        assert_eq!(error.to_string(), "a/b/file has more than 5 bytes");
    }
}
