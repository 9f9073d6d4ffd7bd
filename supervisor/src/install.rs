//! Copying a plugin's directory into the plugin directory, whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{Gid, Uid};
use pinfold_policy::PluginId;
use pinfold_sandbox::stage::{DEPTH_LIMIT, ENTRIES_LIMIT, PACKAGE_LIMIT_BYTES};

/// A file of a plugin cannot be copied, or is one more than a stage may have.
#[derive(Debug, thiserror::Error)]
#[error("copy {path}")]
pub(crate) struct InstallError {
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError { path, source }
}

/// Copies `source` to `plugin_dir/plugin` in place of what was there, owned by `owner`. Regular
/// files and directories only; links and anything else are refused.
pub(crate) fn replace(
    source: &Path,
    plugin_dir: &Path,
    plugin: &PluginId,
    owner: Option<(Uid, Gid)>,
) -> Result<(), InstallError> {
    copy(source, plugin_dir, plugin, owner)?.put()
}

/// A copy beside its place. What is not put there goes with this value.
#[derive(Debug)]
pub(crate) struct Copied {
    new: PathBuf,
    old: PathBuf,
    target: PathBuf,
}

/// Copies `source` beside `plugin_dir/plugin`, as [`replace`] does; what is there stays.
pub(crate) fn copy(
    source: &Path,
    plugin_dir: &Path,
    plugin: &PluginId,
    owner: Option<(Uid, Gid)>,
) -> Result<Copied, InstallError> {
    // No plugin has such a name: half a copy is never taken for one.
    let copied = Copied {
        new: plugin_dir.join(format!(".{plugin}.new")),
        old: plugin_dir.join(format!(".{plugin}.old")),
        target: plugin_dir.join(plugin.as_str()),
    };
    remove(&copied.new)?;
    remove(&copied.old)?;
    let mut copy = Copy {
        files: 0,
        bytes: 0,
        owner,
    };
    let opened = open_real(source).map_err(failed(source))?;
    copy.directory(opened, source, &copied.new, 0)?;
    Ok(copied)
}

impl Copied {
    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.new
    }

    /// Puts it in place of what was there.
    pub(crate) fn put(self) -> Result<(), InstallError> {
        let was_there = match fs::rename(&self.target, &self.old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            moved => moved.map(|()| true).map_err(failed(&self.target))?,
        };
        if let Err(error) = fs::rename(&self.new, &self.target) {
            if was_there {
                fs::rename(&self.old, &self.target).map_err(failed(&self.target))?;
            }
            return Err(failed(&self.target)(error));
        }
        remove(&self.old)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // What stays is removed by the next copy.
        remove(&self.new).unwrap_or_default();
    }
}

/// Removes a plugin's directory.
pub(crate) fn remove_plugin(plugin_dir: &Path, plugin: &PluginId) -> Result<(), InstallError> {
    remove(&plugin_dir.join(plugin.as_str()))
}

fn remove(path: &Path) -> Result<(), InstallError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed(path)),
    }
}

struct Copy {
    files: usize,
    bytes: u64,
    owner: Option<(Uid, Gid)>,
}

impl Copy {
    /// Copies what `opened` is, by descriptors alone: whoever may write there could otherwise have
    /// root follow a link that was a file a moment ago. `from` only names it.
    fn directory(
        &mut self,
        opened: File,
        from: &Path,
        to: &Path,
        depth: usize,
    ) -> Result<(), InstallError> {
        if depth >= DEPTH_LIMIT {
            let error = io::Error::other(format!("over {DEPTH_LIMIT} directories deep"));
            return Err(failed(from)(error));
        }
        fs::DirBuilder::new()
            .mode(0o755)
            .create(to)
            .map_err(failed(to))?;
        self.give(to)?;
        for name in self.names(&opened, from)? {
            let (from, to) = (from.join(&name), to.join(&name));
            let entry = open_beneath(&opened, &name).map_err(failed(&from))?;
            let metadata = entry.metadata().map_err(failed(&from))?;
            if metadata.is_dir() {
                self.directory(entry, &from, &to, depth + 1)?;
            } else if metadata.is_file() {
                self.file(entry, &metadata, &from, &to)?;
            } else {
                return Err(failed(&from)(io::Error::other(
                    "neither a file nor a directory",
                )));
            }
        }
        Ok(())
    }

    fn names(&mut self, opened: &File, from: &Path) -> Result<Vec<OsString>, InstallError> {
        let copy = opened.try_clone().map_err(failed(from))?;
        let mut listed = Dir::from_fd(copy.into()).map_err(|errno| failed(from)(errno.into()))?;
        let mut names = Vec::new();
        for entry in listed.iter() {
            let entry = entry.map_err(|errno| failed(from)(errno.into()))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                self.files += 1;
                self.check_limits(from)?;
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    fn file(
        &mut self,
        source: File,
        metadata: &fs::Metadata,
        from: &Path,
        to: &Path,
    ) -> Result<(), InstallError> {
        let mut target = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(failed(to))?;
        let left = PACKAGE_LIMIT_BYTES
            .saturating_sub(self.bytes)
            .saturating_add(1);
        let copied = io::copy(&mut source.take(left), &mut target).map_err(failed(from))?;
        self.bytes = self.bytes.saturating_add(copied);
        self.check_limits(from)?;
        let mode = if metadata.mode() & 0o111 == 0 {
            0o644
        } else {
            0o755
        };
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(failed(to))?;
        self.give(to)
    }

    fn check_limits(&self, from: &Path) -> Result<(), InstallError> {
        if self.files > ENTRIES_LIMIT || self.bytes > PACKAGE_LIMIT_BYTES {
            let error =
                format!("more than {ENTRIES_LIMIT} files or {PACKAGE_LIMIT_BYTES} bytes in all");
            return Err(failed(from)(io::Error::other(error)));
        }
        Ok(())
    }

    fn give(&self, path: &Path) -> Result<(), InstallError> {
        let Some((uid, gid)) = self.owner else {
            return Ok(());
        };
        chown(path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(failed(path))
    }
}

/// Opens a plugin's directory by its real path: a link that takes its place later is refused.
fn open_real(path: &Path) -> io::Result<File> {
    let real = fs::canonicalize(path)?;
    open(AT_FDCWD, real.as_os_str(), ResolveFlag::empty())
}

/// Opens one name in a directory; a link is refused, a FIFO holds nobody up.
fn open_beneath(directory: &File, name: &OsStr) -> io::Result<File> {
    open(directory, name, ResolveFlag::RESOLVE_BENEATH)
}

fn open(directory: impl AsFd, name: &OsStr, more: ResolveFlag) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS | more;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    Ok(File::from(openat2(directory, name, how)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_replaces_the_old_one_whole_and_links_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let (source, target) = (base.path().join("hello"), base.path().join("plugins"));
        fs::create_dir_all(source.join("assets")).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(source.join("assets/a"), "1").unwrap();
        let plugin: PluginId = "hello".parse().unwrap();
        replace(&source, &target, &plugin, None).unwrap();
        fs::rename(source.join("assets/a"), source.join("assets/b")).unwrap();
        replace(&source, &target, &plugin, None).unwrap();
        assert!(!target.join("hello/assets/a").exists());
        assert_eq!(fs::read(target.join("hello/assets/b")).unwrap(), b"1");
        std::os::unix::fs::symlink("/etc/passwd", source.join("link")).unwrap();
        let error = replace(&source, &target, &plugin, None).unwrap_err();
        assert!(error.path.ends_with("link"), "{error:?}");
        fs::remove_file(source.join("link")).unwrap();
        nix::unistd::mkfifo(&source.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = replace(&source, &target, &plugin, None).unwrap_err();
        assert!(error.path.ends_with("pipe"), "{error:?}");
        assert!(
            target.join("hello/assets/b").exists(),
            "what was there stays"
        );
    }
}
