//! A block of ids, leased.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pinfold_policy::UidRange;

/// Longest content of a lease file: one path.
const LEASE_LIMIT_BYTES: u64 = 4096;

/// Why no block was leased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Another launcher runs on the same state directory.
    #[error("another launcher uses the state directory {state_dir:?} (it holds {file:?})")]
    InUse {
        /// The state directory.
        state_dir: PathBuf,
        /// The lease.
        file: PathBuf,
    },
    /// All blocks serve other state directories.
    #[error("all {blocks} blocks of user ids in {lease_dir:?} are taken")]
    Exhausted {
        /// How many there are.
        blocks: u32,
        /// Where their leases are.
        lease_dir: PathBuf,
    },
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
}

/// A held lease; it ends with the value, or with the process.
#[derive(Debug)]
pub(super) struct Lease {
    _held: File,
    first: u32,
    count: u32,
}

impl Lease {
    pub(super) fn take(
        range: UidRange,
        block_ids: u32,
        lease_dir: &Path,
        state_dir: &Path,
    ) -> Result<Self, LeaseError> {
        std::fs::create_dir_all(lease_dir).map_err(failed("make", lease_dir))?;
        // One at a time looks and takes; the lock ends with this function.
        let all_path = lease_dir.join("lock");
        let all = open(&all_path).map_err(failed("open", &all_path))?;
        all.lock().map_err(failed("lock", &all_path))?;

        let count = block_ids.min(range.count);
        let blocks = range.count / count;
        let firsts: Vec<u32> = (0..blocks).map(|at| range.first + at * count).collect();
        let mut free = None;
        for first in firsts {
            let path = lease_dir.join(first.to_string());
            let mut file = open(&path).map_err(failed("open", &path))?;
            let serves = content(&mut file).map_err(failed("read", &path))?;
            let is_ours = serves.as_deref() == Some(state_dir);
            match file.try_lock() {
                Ok(()) if is_ours => return Ok(Self::new(file, first, count)),
                Ok(()) => {
                    let is_free = serves.is_none_or(|serves| !serves.exists());
                    if is_free && free.is_none() {
                        free = Some((file, first, path));
                    }
                }
                Err(TryLockError::WouldBlock) if is_ours => {
                    return Err(LeaseError::InUse {
                        state_dir: state_dir.to_owned(),
                        file: path,
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
            }
        }
        let (mut file, first, path) = free.ok_or_else(|| LeaseError::Exhausted {
            blocks,
            lease_dir: lease_dir.to_owned(),
        })?;
        name(&mut file, state_dir).map_err(failed("write", &path))?;
        Ok(Self::new(file, first, count))
    }

    fn new(held: File, first: u32, count: u32) -> Self {
        Self {
            _held: held,
            first,
            count,
        }
    }

    pub(super) fn first(&self) -> u32 {
        self.first
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// The state directory that a lease names; none in a file that was just made.
fn content(file: &mut File) -> io::Result<Option<PathBuf>> {
    let mut bytes = Vec::new();
    file.take(LEASE_LIMIT_BYTES).read_to_end(&mut bytes)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let path = (!line.is_empty()).then(|| std::ffi::OsString::from_vec(line.to_vec()).into());
    Ok(path)
}

fn name(file: &mut File, state_dir: &Path) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(state_dir.as_os_str().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_data()
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    move |source| LeaseError::File { step, path, source }
}
