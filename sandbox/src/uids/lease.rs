//! A block of ids, leased.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pinfold_policy::UidRange;

/// Longest content of a lease file: one path, and a number.
const LEASE_LIMIT_BYTES: u64 = 4096 + 16;

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
    /// The range was widened, and another launcher has ids of what was added to the block.
    #[error(
        "the block of user ids from {first} cannot grow to {count}: {other:?} has some of them"
    )]
    Widened {
        /// Where the block begins.
        first: u32,
        /// How many ids it would have.
        count: u32,
        /// The lease of the other launcher.
        other: PathBuf,
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
        let fewer = (count < block_ids).then_some(count);
        let others = others(lease_dir, block_ids, state_dir)?;
        let in_use = |ids: Range<u32>| {
            let mut leases = others.iter();
            leases.find(move |other| other.is_in_use && other.shares(&ids))
        };
        let blocks = range.count / count;
        let firsts: Vec<u32> = (0..blocks).map(|at| range.first + at * count).collect();
        let mut free = None;
        for first in firsts {
            let path = lease_dir.join(first.to_string());
            let mut file = open(&path).map_err(failed("open", &path))?;
            let serves = content(&mut file).map_err(failed("read", &path))?;
            let is_ours = serves.as_ref().is_some_and(|it| it.state_dir == state_dir);
            match file.try_lock() {
                Ok(()) if is_ours => {
                    let had = serves.as_ref().and_then(|it| it.fewer);
                    let added = first + had.unwrap_or(block_ids)..first + count;
                    if let Some(other) = in_use(added) {
                        return Err(LeaseError::Widened {
                            first,
                            count,
                            other: other.path.clone(),
                        });
                    }
                    if had != fewer {
                        name(&mut file, state_dir, fewer).map_err(failed("write", &path))?;
                    }
                    return Ok(Self::new(file, first, count));
                }
                Ok(()) => {
                    let is_free = serves.is_none_or(|it| !it.state_dir.exists())
                        && in_use(first..first + count).is_none();
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
        // A state directory that is away, on a disk that is not mounted, say, does not come back to ids that are
        // another's by then.
        for other in others {
            if other.path != path && other.shares(&(first..first + count)) {
                let emptied = open(&other.path).and_then(|file| file.set_len(0));
                emptied.map_err(failed("empty", &other.path))?;
            }
        }
        name(&mut file, state_dir, fewer).map_err(failed("write", &path))?;
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

/// What a lease says.
struct Content {
    state_dir: PathBuf,
    /// How many ids the block has, where it is no whole one.
    fewer: Option<u32>,
}

/// A block that is leased, or was.
struct Other {
    path: PathBuf,
    ids: Range<u32>,
    /// Whether its lease is held, or serves another state directory that is there.
    is_in_use: bool,
}

impl Other {
    fn shares(&self, ids: &Range<u32>) -> bool {
        !ids.is_empty() && self.ids.start < ids.end && ids.start < self.ids.end
    }
}

/// The blocks of all launchers, out of whatever ranges: one that begins elsewhere has other names for the same ids.
fn others(lease_dir: &Path, block_ids: u32, state_dir: &Path) -> Result<Vec<Other>, LeaseError> {
    let mut others = Vec::new();
    for entry in std::fs::read_dir(lease_dir).map_err(failed("list", lease_dir))? {
        let entry = entry.map_err(failed("list", lease_dir))?;
        let name = entry.file_name();
        let Some(first) = name.to_str().and_then(|it| it.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path();
        let mut file = open(&path).map_err(failed("open", &path))?;
        let serves = content(&mut file).map_err(failed("read", &path))?;
        let is_held = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        };
        let fewer = serves.as_ref().and_then(|it| it.fewer);
        let serves_another =
            serves.is_some_and(|it| it.state_dir != state_dir && it.state_dir.exists());
        others.push(Other {
            path,
            ids: first..first.saturating_add(fewer.unwrap_or(block_ids)),
            is_in_use: is_held || serves_another,
        });
    }
    Ok(others)
}

/// What a lease says; nothing in a file that was just made.
fn content(file: &mut File) -> io::Result<Option<Content>> {
    let mut bytes = Vec::new();
    file.take(LEASE_LIMIT_BYTES).read_to_end(&mut bytes)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let last = text.rsplit(|byte| *byte == b'\n').next().unwrap_or(text);
    let number = str::from_utf8(last)
        .ok()
        .and_then(|it| it.parse::<u32>().ok());
    let path = match number {
        Some(_) => text.strip_suffix(last).unwrap_or(text),
        None => text,
    };
    let path = path.strip_suffix(b"\n").unwrap_or(path);
    Ok((!path.is_empty()).then(|| Content {
        state_dir: OsString::from_vec(path.to_vec()).into(),
        fewer: number,
    }))
}

fn name(file: &mut File, state_dir: &Path, fewer: Option<u32>) -> io::Result<()> {
    let mut content = state_dir.as_os_str().as_bytes().to_vec();
    content.push(b'\n');
    if let Some(count) = fewer {
        content.extend(format!("{count}\n").into_bytes());
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&content)?;
    file.sync_data()
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    move |source| LeaseError::File { step, path, source }
}
