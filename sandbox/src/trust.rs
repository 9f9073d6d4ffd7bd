//! Files that count as the operator's: walked to from `/`, one name at a time, without links, each
//! step owned by root or the launcher's own user and not writable by anybody else.
//!
//! A directory of root with the sticky bit (`/tmp`) is accepted on the way: nobody can replace in
//! it what is not theirs.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// What a user id outside a user namespace's map looks like from inside
/// (`/proc/sys/kernel/overflowuid`, which nobody changes).
const OVERFLOW_UID: u32 = 65_534;

/// Why a file or directory is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Not an absolute path of plain names.
    #[error("{path:?} is no plain absolute path")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be opened; `ELOOP` is a symbolic link on the way.
    #[error("open {path:?}")]
    Open {
        /// How far the walk came.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Somebody else's.
    #[error("{path:?} belongs to uid {owner} (mode {mode:04o}): only {allowed} may own it")]
    Owner {
        /// The file or the directory on the way to it.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// Who may.
        allowed: String,
    },
    /// Somebody else can change it.
    #[error("{path:?} (uid {owner}, mode {mode:04o}) can be written by group or others")]
    Writable {
        /// The file or the directory on the way to it.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a regular file.
    #[error("{path:?} is no regular file")]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Longer than any such file.
    #[error("{path:?} has over {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// More in it than any such directory has.
    #[error("{path:?} has over {limit} files")]
    Entries {
        /// The directory.
        path: PathBuf,
        /// The most that are looked at.
        limit: usize,
    },
    /// It cannot be read.
    #[error("read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

impl TrustError {
    /// Whether the file or directory itself is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Who may own what is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owners(Vec<u32>);

impl Owners {
    fn check(&self, path: &Path, owner: u32, mode: u32) -> Result<(), TrustError> {
        self.check_or(path, owner, mode, |_| false)
    }

    /// The same, where whom `may_own` takes may own it too.
    fn check_or(
        &self,
        path: &Path,
        owner: u32,
        mode: u32,
        may_own: impl Fn(u32) -> bool,
    ) -> Result<(), TrustError> {
        let mode = mode & 0o7777;
        if !self.0.contains(&owner) && !may_own(owner) {
            let allowed = self
                .0
                .iter()
                .map(|uid| format!("uid {uid}"))
                .collect::<Vec<_>>()
                .join(" or ");
            return Err(TrustError::Owner {
                path: path.to_owned(),
                owner,
                mode,
                allowed,
            });
        }
        if mode & 0o022 != 0 {
            return Err(TrustError::Writable {
                path: path.to_owned(),
                owner,
                mode,
            });
        }
        Ok(())
    }
}

/// A trusted directory, open. Everything beneath it is reached through this descriptor.
#[derive(Debug)]
pub struct TrustedDir {
    descriptor: OwnedFd,
    path: PathBuf,
    /// Who owns the directory itself, as seen when it was opened.
    owner: u32,
    owners: Owners,
}

/// What lies in a trusted directory, open for its place alone.
#[derive(Debug)]
pub(crate) struct TrustedEntry {
    /// It.
    pub(crate) descriptor: OwnedFd,
    /// What it is, and whose.
    pub(crate) metadata: std::fs::Metadata,
}

impl TrustedDir {
    /// Walks to `path` from `/`. `also` is one more user who may own what is on the way and in it:
    /// for the one directory in which the daemon's own policies count.
    ///
    /// # Errors
    /// [`TrustError`] names the step that is not trusted.
    pub fn open(path: &Path, also: Option<u32>) -> Result<Self, TrustError> {
        Self::open_as(rustix::process::geteuid().as_raw(), path, also)
    }

    /// The same as the launcher of another user sees it, for whoever reviews that one's files.
    ///
    /// # Errors
    /// [`TrustError`] names the step that is not trusted.
    pub fn open_as(user: u32, path: &Path, also: Option<u32>) -> Result<Self, TrustError> {
        let mut owners = vec![0, user];
        owners.extend(also);
        owners.sort_unstable();
        owners.dedup();
        let root = rustix::fs::open(
            "/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| open_error(Path::new("/"), errno))?;
        let mut here = Self {
            descriptor: root,
            path: "/".into(),
            owner: 0,
            owners: Owners(owners),
        };
        here.check_itself()?;
        let mut components = path.components();
        if components.next() != Some(Component::RootDir) {
            return Err(TrustError::Path {
                path: path.to_owned(),
            });
        }
        for component in components {
            let Component::Normal(name) = component else {
                return Err(TrustError::Path {
                    path: path.to_owned(),
                });
            };
            here = here.directory(name)?;
        }
        Ok(here)
    }

    /// A directory in this one.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn directory(&self, name: impl AsRef<OsStr>) -> Result<Self, TrustError> {
        let path = self.path.join(name.as_ref());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = open_beneath(&self.descriptor, name.as_ref(), flags)
            .map_err(|errno| open_error(&path, errno))?;
        let mut directory = Self {
            descriptor,
            path,
            owner: 0,
            owners: self.owners.clone(),
        };
        directory.check_itself()?;
        Ok(directory)
    }

    /// A directory some names beneath this one; itself for an empty path.
    ///
    /// # Errors
    /// [`TrustError`].
    pub(crate) fn beneath(&self, path: &Path) -> Result<Self, TrustError> {
        let mut here = Self {
            descriptor: open_beneath(
                &self.descriptor,
                OsStr::new("."),
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            )
            .map_err(|errno| open_error(&self.path, errno))?,
            path: self.path.clone(),
            owner: self.owner,
            owners: self.owners.clone(),
        };
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Err(TrustError::Path {
                    path: self.path.join(path),
                });
            };
            here = here.directory(name)?;
        }
        Ok(here)
    }

    /// A file or directory in this one, opened for its place alone. Whom `may_own` takes may own it too.
    ///
    /// # Errors
    /// [`TrustError`]; a symbolic link is none.
    pub(crate) fn entry(
        &self,
        name: impl AsRef<OsStr>,
        may_own: impl Fn(u32) -> bool,
    ) -> Result<TrustedEntry, TrustError> {
        let path = self.path.join(name.as_ref());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = open_beneath(&self.descriptor, name.as_ref(), flags)
            .map_err(|errno| open_error(&path, errno))?;
        let file = std::fs::File::from(descriptor);
        let metadata = file.metadata().map_err(|source| TrustError::Read {
            path: path.clone(),
            source,
        })?;
        // A link itself is what such a descriptor can be of.
        if metadata.is_symlink() {
            return Err(open_error(&path, rustix::io::Errno::LOOP));
        }
        self.owners
            .check_or(&path, metadata.uid(), metadata.mode(), may_own)?;
        Ok(TrustedEntry {
            descriptor: file.into(),
            metadata,
        })
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.descriptor).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// The content of a file in this directory, at most `limit` bytes.
    ///
    /// # Errors
    /// [`TrustError`]; [`TrustError::is_absent`] where there is no such file.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Vec<u8>, TrustError> {
        let path = self.path.join(name.as_ref());
        // Not blocking: a FIFO must not hold us before its type is known.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let descriptor = open_beneath(&self.descriptor, name.as_ref(), flags)
            .map_err(|errno| open_error(&path, errno))?;
        let file = std::fs::File::from(descriptor);
        let read_error = |source| TrustError::Read {
            path: path.clone(),
            source,
        };
        let metadata = file.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            return Err(TrustError::Kind { path });
        }
        self.owners.check(&path, metadata.uid(), metadata.mode())?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(read_error)?;
        if bytes.len() as u64 > limit {
            return Err(TrustError::TooLarge { path, limit });
        }
        Ok(bytes)
    }

    /// The names in this directory, sorted, `.` and `..` left out.
    ///
    /// # Errors
    /// [`TrustError::Entries`] where there are over `limit`, [`TrustError::Read`]. Names that are not
    /// UTF-8 are left out: nothing of ours is called like that.
    pub fn names(&self, limit: usize) -> Result<Vec<String>, TrustError> {
        self.names_where(|_| true, limit)
    }

    /// The same of those names alone that `is_one` takes: others do not count.
    ///
    /// # Errors
    /// As [`TrustedDir::names`].
    pub fn names_where(
        &self,
        is_one: impl Fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<String>, TrustError> {
        let failed = |errno: rustix::io::Errno| TrustError::Read {
            path: self.path.clone(),
            source: errno.into(),
        };
        // The descriptor may be one that only leads on.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = open_beneath(&self.descriptor, OsStr::new("."), flags).map_err(failed)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(readable).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => continue,
                Ok(name) if is_one(name) => names.push(name.to_owned()),
                Ok(_) => {}
            }
            if names.len() > limit {
                return Err(TrustError::Entries {
                    path: self.path.clone(),
                    limit,
                });
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where it was found.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From here on ids are seen from inside a user namespace whose root is the launcher's user.
    /// Everybody else's look alike there, root's too, so these are accepted only beneath what was
    /// found to be root's before.
    pub(crate) fn enter_user_namespace(&mut self) {
        let mut owners = vec![0];
        if self.owner == 0 {
            owners.push(OVERFLOW_UID);
        }
        self.owners = Owners(owners);
    }

    /// Opens the same path again, in the mount namespace that this process has entered meanwhile:
    /// only what lies in that one can be mounted into a jail. The caller makes sure that the path
    /// still leads to what was checked.
    pub(crate) fn reopen(&mut self) -> Result<(), TrustError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.descriptor = rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(|errno| open_error(&self.path, errno))?;
        Ok(())
    }

    fn check_itself(&mut self) -> Result<(), TrustError> {
        let stat =
            rustix::fs::fstat(&self.descriptor).map_err(|errno| open_error(&self.path, errno))?;
        let is_sticky_of_root = stat.st_uid == 0 && stat.st_mode & 0o1000 != 0;
        if !is_sticky_of_root {
            self.owners.check(&self.path, stat.st_uid, stat.st_mode)?;
        }
        self.owner = stat.st_uid;
        Ok(())
    }
}

impl AsFd for TrustedDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Reads a trusted file by its absolute path; the directory it lies in comes along.
///
/// # Errors
/// [`TrustError`] names the step that is not trusted.
pub fn read_file(path: &Path, limit: u64) -> Result<(Vec<u8>, TrustedDir), TrustError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(TrustError::Path {
            path: path.to_owned(),
        });
    };
    let directory = TrustedDir::open(parent, None)?;
    let bytes = directory.read(name, limit)?;
    Ok((bytes, directory))
}

/// Opens one name beneath a directory: no links of any kind, no way out.
fn open_beneath(
    directory: &OwnedFd,
    name: &OsStr,
    flags: OFlags,
) -> Result<OwnedFd, rustix::io::Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
            // The kernel could not rule out a race with a rename, and asks to be called again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

fn open_error(path: &Path, errno: rustix::io::Errno) -> TrustError {
    TrustError::Open {
        path: path.to_owned(),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    #[test]
    fn a_file_of_our_own_is_read_and_its_limit_kept() {
        let directory = directory();
        let path = directory.path().join("a.toml");
        fs::write(&path, "x = 1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_file(&path, 5).unwrap().0, b"x = 1");
        assert!(matches!(
            read_file(&path, 4),
            Err(TrustError::TooLarge { limit: 4, .. })
        ));
        let absent = read_file(&directory.path().join("b.toml"), 5).unwrap_err();
        assert!(absent.is_absent());
        fs::write(directory.path().join("b"), "").unwrap();
        let opened = TrustedDir::open(directory.path(), None).unwrap();
        assert_eq!(opened.names(2).unwrap(), ["a.toml", "b"]);
        let error = opened.names(1).unwrap_err();
        assert!(matches!(error, TrustError::Entries { limit: 1, .. }));
    }

    #[test]
    fn what_others_can_write_is_refused_with_path_owner_and_mode() {
        let directory = directory();
        let path = directory.path().join("a.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let error = read_file(&path, 5).unwrap_err().to_string();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(
            error,
            format!("{path:?} (uid {uid}, mode 0664) can be written by group or others")
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        read_file(&path, 5).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = read_file(&path, 5).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{:?} ", directory.path())),
            "{error}"
        );
    }

    #[test]
    fn links_fifos_and_crooked_paths_are_refused() {
        let directory = directory();
        let real = directory.path().join("real");
        fs::create_dir(&real).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(real.join("a"), "").unwrap();
        fs::set_permissions(real.join("a"), fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&real, directory.path().join("link")).unwrap();
        symlink(real.join("a"), real.join("b")).unwrap();
        for path in ["link/a", "real/b"] {
            let error = read_file(&directory.path().join(path), 5).unwrap_err();
            let TrustError::Open { source, .. } = error else {
                panic!("{path}: {error}");
            };
            assert_eq!(source.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        let fifo = real.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        assert!(matches!(read_file(&fifo, 5), Err(TrustError::Kind { .. })));
        let up = real.join("../real/a");
        assert!(matches!(read_file(&up, 5), Err(TrustError::Path { .. })));
        assert!(matches!(
            read_file(Path::new("a"), 5),
            Err(TrustError::Path { .. })
        ));
    }

    #[test]
    fn somebody_elses_directory_is_refused_unless_it_is_named() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give a file away.
        }
        let directory = directory();
        let theirs = directory.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&theirs, Some(12_345), None).unwrap();
        let error = TrustedDir::open(&theirs, None).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{theirs:?} belongs to uid 12345 (mode 0755): only uid 0 may own it")
        );
        TrustedDir::open(&theirs, Some(12_345)).unwrap();
    }
}
