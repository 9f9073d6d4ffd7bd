//! Where databases lie from when they are unpacked until they are put in place: a directory that is this
//! process's alone.
//!
//! SQLite takes what lies beside a database, by its name, for a part of it (a log, a journal, the journal's
//! list of others), and the daemon may write beside its own. So what was compared is opened, verified and
//! converted where nobody else can put anything.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use pinfold_sandbox::trust::TrustedDir;

use super::error::{ArchiveError, file};
use super::write::parent;

/// The directory. Gone with this value, and what is in it.
#[derive(Debug)]
pub(super) struct Private {
    path: PathBuf,
    /// Whether a rename leads from it to `of`.
    is_beside: bool,
}

impl Private {
    /// Makes it beside the directory `of`, on the same file system but where that one is mounted there.
    /// What one that was cut off has left is removed.
    pub(super) fn beside(of: &Path) -> Result<Self, ArchiveError> {
        let of = fs::canonicalize(of).map_err(file("look at", of))?;
        let above = parent(&of);
        if nix::unistd::geteuid().is_root() {
            TrustedDir::open(above, None).map_err(|source| ArchiveError::NotAlone {
                path: above.into(),
                source,
            })?;
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(of.file_name().unwrap_or_default());
        name.push(".restoring");
        let path = above.join(name);
        remove(&path).map_err(file("remove", &path))?;
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(file("make", &path))?;
        let both = mount(&path).and_then(|own| Ok(own == mount(&of)?));
        Ok(Self {
            is_beside: both.map_err(file("look at", &of))?,
            path,
        })
    }

    /// Where in it what is to be at `place` lies.
    pub(super) fn at(&self, place: &Path) -> PathBuf {
        self.path.join(place.file_name().unwrap_or_default())
    }

    /// Whether one rename puts what is in it in its place.
    pub(super) fn is_beside(&self) -> bool {
        self.is_beside
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What stays is removed by the next one.
        remove(&self.path).unwrap_or_default();
    }
}

/// What a rename does not leave: a file system, where it is mounted (a directory may be shown at two places).
fn mount(path: &Path) -> io::Result<(u32, u32, u64)> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
}

/// Copies a file that was verified to `to`, on another file system, byte for byte and with its owner and mode.
pub(super) fn carry(at: &Path, to: &Path) -> Result<(), ArchiveError> {
    remove(to).map_err(file("remove", to))?;
    let mut from = File::open(at).map_err(file("open", at))?;
    let metadata = from.metadata().map_err(file("look at", at))?;
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(file("make", to))?;
    io::copy(&mut from, &mut new).map_err(file("write", to))?;
    if nix::unistd::geteuid().is_root() {
        fchown(&new, Some(metadata.uid()), Some(metadata.gid())).map_err(file("give away", to))?;
    }
    let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
    new.set_permissions(mode)
        .map_err(file("set the mode of", to))
}

/// Removes a file or a directory with all that is in it; not what a link leads to.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_is_made_anew_its_owners_alone_and_goes_with_what_is_in_it() {
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("state");
        fs::create_dir(&state).unwrap();
        let left = base.path().join(".state.restoring");
        symlink("/etc", &left).unwrap();
        let private = Private::beside(&state).unwrap();
        let metadata = fs::symlink_metadata(&left).unwrap();
        assert!(metadata.is_dir() && metadata.mode() & 0o777 == 0o700);
        assert!(private.is_beside());
        let at = private.at(&state.join("main.db"));
        assert_eq!(at, left.canonicalize().unwrap().join("main.db"));
        fs::write(at, "").unwrap();
        drop(private);
        assert!(fs::symlink_metadata(&left).is_err());
    }

    #[test]
    fn nothing_is_opened_as_root_where_others_may_write() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: nothing_is_opened_as_root_where_others_may_write: needs root");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Private::beside(&state).unwrap_err();
        assert!(matches!(error, ArchiveError::NotAlone { .. }), "{error:?}");
    }

    #[test]
    fn what_goes_to_another_disk_is_a_new_file_whatever_was_at_its_name() {
        let base = tempfile::tempdir().unwrap();
        let (at, to) = (base.path().join("a"), base.path().join("b"));
        let elsewhere = base.path().join("elsewhere");
        fs::write(&elsewhere, "as it was").unwrap();
        symlink(&elsewhere, &to).unwrap();
        fs::write(&at, "verified").unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o640)).unwrap();
        carry(&at, &to).unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"as it was");
        let metadata = fs::symlink_metadata(&to).unwrap();
        assert!(metadata.is_file() && metadata.mode() & 0o777 == 0o640);
        assert_eq!(fs::read(&to).unwrap(), b"verified");
    }
}
