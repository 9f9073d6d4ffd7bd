//! Old for new: each area by one step, and all back where one fails.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::areas::AreaKind;
use super::error::{ArchiveError, file};
use super::unpacked::Staged;
use super::write::parent;

/// What was there before, and is kept beside.
#[derive(Debug, serde::Serialize)]
pub(in crate::cli) struct Replaced {
    pub(in crate::cli) path: PathBuf,
    /// Where it is now; absent where there was nothing.
    pub(in crate::cli) kept: Option<PathBuf>,
}

/// A rename that was done.
enum Done {
    Moved { from: PathBuf, to: PathBuf },
    Exchanged { one: PathBuf, other: PathBuf },
}

/// Puts every area in its place. What was there is kept beside it, with `.before-STAMP` after its
/// name. While it lasts `marker` is there, and the daemon does not start: should the power go in
/// between, the same command does it all again.
pub(in crate::cli) fn put(
    staged: &[Staged],
    marker: &Path,
    stamp: &str,
) -> Result<Vec<Replaced>, ArchiveError> {
    for one in staged {
        let directory = parent(&one.at);
        let synced = File::open(directory).and_then(|it| Ok(rustix::fs::syncfs(&it)?));
        synced.map_err(file("write", directory))?;
    }
    mark(marker)?;
    let mut done = Vec::new();
    let mut replaced = Vec::new();
    for one in staged {
        match put_one(one, stamp, &mut done) {
            Ok(kept) => replaced.push(Replaced {
                path: one.area.path.clone(),
                kept,
            }),
            Err(source) => {
                let path = one.area.path.clone();
                return Err(match roll_back(done) {
                    Ok(()) => {
                        fs::remove_file(marker).map_err(file("remove", marker))?;
                        ArchiveError::RolledBack { path, source }
                    }
                    Err(back) => ArchiveError::Stuck { path, back, source },
                });
            }
        }
    }
    fs::remove_file(marker).map_err(file("remove", marker))?;
    sync(parent(marker)).map_err(file("write", marker))?;
    Ok(replaced)
}

fn mark(marker: &Path) -> Result<(), ArchiveError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        // It says all by being there; and what else could be at the name is neither changed nor waited for.
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(marker);
    opened
        .and_then(|marker| match marker.metadata()?.is_file() {
            true => marker.sync_all(),
            false => Err(io::Error::other(
                "something that is no file is in its place",
            )),
        })
        .and_then(|()| sync(parent(marker)))
        .map_err(file("make", marker))
}

fn put_one(one: &Staged, stamp: &str, done: &mut Vec<Done>) -> io::Result<Option<PathBuf>> {
    let path = &one.area.path;
    let before = |path: &Path| with_end(path, &format!(".before-{stamp}"));
    if one.area.kind == AreaKind::Database {
        // What of the old one is not in its file yet must not come to be in the new one.
        for end in ["-wal", "-shm", "-journal"] {
            let beside = with_end(path, end);
            if is_there(&beside)? {
                rename(&beside, &before(&beside), done)?;
            }
        }
    }
    let kept = if is_there(path)? {
        // The new one goes first under the name that the old one is to have, and then each takes the
        // other's place in one step. Whenever this is cut off, one of them is in its place, as the command
        // that is run again needs it, and nothing that was there is lost.
        let kept = before(path);
        rename(&one.at, &kept, done)?;
        exchange(&kept, path, done)?;
        Some(kept)
    } else {
        rename(&one.at, path, done)?;
        None
    };
    sync(parent(path))?;
    Ok(kept)
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Renames without replacing anything.
fn rename(from: &Path, to: &Path, done: &mut Vec<Done>) -> io::Result<()> {
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags)?;
    done.push(Done::Moved {
        from: from.into(),
        to: to.into(),
    });
    Ok(())
}

/// Each takes the other's name, in one step.
fn exchange(one: &Path, other: &Path, done: &mut Vec<Done>) -> io::Result<()> {
    swap(one, other)?;
    done.push(Done::Exchanged {
        one: one.into(),
        other: other.into(),
    });
    Ok(())
}

fn swap(one: &Path, other: &Path) -> io::Result<()> {
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    Ok(rustix::fs::renameat_with(
        rustix::fs::CWD,
        one,
        rustix::fs::CWD,
        other,
        flags,
    )?)
}

/// Undoes renames, the last first, and has it on the disk; gives the first thing that stays where it should not be.
fn roll_back(done: Vec<Done>) -> Result<(), PathBuf> {
    let mut stays = None;
    for done in done.into_iter().rev() {
        let (one, other, undone) = match done {
            Done::Moved { from, to } => {
                let undone = fs::rename(&to, &from);
                (to, from, undone)
            }
            Done::Exchanged { one, other } => {
                let undone = swap(&one, &other);
                (one, other, undone)
            }
        };
        let undone = undone
            .and_then(|()| sync(parent(&one)))
            .and_then(|()| sync(parent(&other)));
        if undone.is_err() {
            stays.get_or_insert(one);
        }
    }
    stays.map_or(Ok(()), Err)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
