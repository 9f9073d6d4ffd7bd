//! The copying itself: walk, check, read, hash, write; then seal and compare.
//!
//! Runs in the child, with the daemon's rights wherever a file of the plugin is opened. The
//! source may change under us at any moment; what counts is what was written and hashed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pinfold_policy::{PluginId, SIGNATURE_SUFFIX, StageManifest, StagedFile};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, mkdirat, openat,
    openat2, statat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::verdict::{Copied, Refused};
use super::{DEPTH_LIMIT, ENTRIES_LIMIT, PACKAGE_LIMIT_BYTES, Reader, Signatures};
use super::{memory, signatures};

/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// Copies the plugin's directory into `mount`, seals it, and checks what is in it. Says besides which
/// of `asked` have no directory any more.
pub(super) fn copy(
    plugin_dir: &Path,
    plugin: &PluginId,
    asked: &BTreeSet<PluginId>,
    reader: &Reader,
    mount: BorrowedFd<'_>,
) -> Result<Copied, Refused> {
    reader
        .take_groups()
        .map_err(|error| Refused::Host(format!("take the daemon's groups: {error}")))?;
    let all = open_all(plugin_dir, reader)?;
    let source = open_source(&all, OsStr::new(plugin.as_str()), OFlags::DIRECTORY, reader)?
        .map_err(|errno| Refused::Files(format!("open the directory: {}", reason(errno))))?;
    let target = memory::open_root(mount).map_err(|error| host("open the copy", &error))?;
    let mut copier = Copier {
        reader,
        buffer: vec![0; BUFFER_BYTES],
        entries: 0,
        bytes: 0,
        files: Vec::new(),
        signatures: Vec::new(),
    };
    copier.directory(source, &target, "", 0)?;
    drop(target);
    memory::seal(mount).map_err(|error| host("seal the copy", &error))?;
    let Copier {
        mut buffer,
        files,
        signatures,
        ..
    } = copier;
    for file in &files {
        check(mount, file, &mut buffer)?;
    }
    Ok(Copied {
        signatures: Signatures::gather(signatures, &files)?,
        digest: StageManifest::new(files).digest(),
        memory_bytes: memory::taken_bytes(mount)
            .map_err(|error| host("count what the copy takes", &error))?,
        gone: gone(&all, asked, reader)?,
    })
}

/// The directory of all plugins.
fn open_all(plugin_dir: &Path, reader: &Reader) -> Result<OwnedFd, Refused> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The plugin directory is the launcher's own configuration, so it may be reached by links.
    let open = || rustix::fs::open(plugin_dir, flags, Mode::empty());
    reader
        .with_rights(open)
        .map_err(|error| host("take the daemon's rights", &error))?
        .map_err(|errno| Refused::Host(format!("open {plugin_dir:?}: {}", reason(errno))))
}

/// Those of `asked` that have no directory. One that cannot be looked at counts as there.
fn gone(
    all: &OwnedFd,
    asked: &BTreeSet<PluginId>,
    reader: &Reader,
) -> Result<BTreeSet<PluginId>, Refused> {
    let is_gone = |plugin: &PluginId| {
        let found = statat(all, plugin.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        matches!(found, Err(Errno::NOENT))
    };
    let look = || {
        let gone = asked.iter().filter(|&plugin| is_gone(plugin));
        gone.cloned().collect::<BTreeSet<PluginId>>()
    };
    reader
        .with_rights(look)
        .map_err(|error| host("take the daemon's rights", &error))
}

/// Opens one name of the plugin's for reading: no links, no way out, no other file system, and not
/// held up by a FIFO.
fn open_source(
    directory: &OwnedFd,
    name: &OsStr,
    more: OFlags,
    reader: &Reader,
) -> Result<Result<OwnedFd, Errno>, Refused> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let open = || loop {
        match openat2(directory, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    };
    reader
        .with_rights(open)
        .map_err(|error| host("take the daemon's rights", &error))
}

struct Copier<'a> {
    reader: &'a Reader,
    buffer: Vec<u8>,
    entries: usize,
    /// Of the files' content, which [`PACKAGE_LIMIT_BYTES`] limits; the memory that the copy takes is
    /// more.
    bytes: u64,
    files: Vec<StagedFile>,
    /// Path and beginning of each `*.sig` file.
    signatures: Vec<(String, Vec<u8>)>,
}

impl Copier<'_> {
    fn directory(
        &mut self,
        source: OwnedFd,
        target: &OwnedFd,
        path: &str,
        depth: usize,
    ) -> Result<(), Refused> {
        for name in self.names(&source, path)? {
            let inner = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            let more = OFlags::empty();
            let opened = open_source(&source, OsStr::new(&name), more, self.reader)?;
            let opened = opened.map_err(|errno| unopened(&source, &name, &inner, errno))?;
            let stat = fstat(&opened).map_err(|errno| host(&inner, &errno.into()))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    if depth + 1 >= DEPTH_LIMIT {
                        let message = format!("{inner:?} is over {DEPTH_LIMIT} directories deep");
                        return Err(Refused::Files(message));
                    }
                    let made = make_directory(target, &name).map_err(|e| host(&inner, &e))?;
                    self.directory(opened, &made, &inner, depth + 1)?;
                }
                // No digest covers it, so it is no part of the copy: nothing that could be exchanged
                // without notice is there to be run or read.
                FileType::RegularFile if inner.ends_with(SIGNATURE_SUFFIX) => {
                    let content = signatures::read(opened, &inner)?;
                    self.signatures.push((inner, content));
                }
                FileType::RegularFile => self.file(opened, &stat, target, &name, inner)?,
                other => return Err(unwanted(&inner, other)),
            }
        }
        Ok(())
    }

    /// The names in a directory, sorted, at most as many as a package may have.
    fn names(&mut self, source: &OwnedFd, path: &str) -> Result<Vec<String>, Refused> {
        let failed =
            |errno: Errno| Refused::Files(format!("list {:?}: {}", shown(path), reason(errno)));
        let mut names = Vec::new();
        for entry in Dir::read_from(source).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_LIMIT {
                let message = format!("over {ENTRIES_LIMIT} files and directories");
                return Err(Refused::Files(message));
            }
            let name = std::str::from_utf8(name).map_err(|_| {
                let name = OsStr::from_bytes(name);
                Refused::Files(format!("{name:?} in {:?} is not UTF-8", shown(path)))
            })?;
            names.push(name.to_owned());
        }
        names.sort();
        Ok(names)
    }

    fn file(
        &mut self,
        source: OwnedFd,
        stat: &Stat,
        target: &OwnedFd,
        name: &str,
        path: String,
    ) -> Result<(), Refused> {
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > PACKAGE_LIMIT_BYTES - self.bytes {
            let limit = PACKAGE_LIMIT_BYTES;
            let rest = self.bytes;
            return Err(Refused::Files(format!(
                "{path:?} has {size} bytes, the files before it {rest}: \
                 a package may have {limit} bytes (64MiB) in all"
            )));
        }
        let mode = if stat.st_mode & 0o111 == 0 {
            0o444
        } else {
            0o555
        };
        let mut target = create(target, name, mode).map_err(|error| host(&path, &error))?;
        let mut source = File::from(source);
        let mut hash = Sha256::new();
        let mut read = 0;
        loop {
            let count = match source.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Refused::Files(format!("read {path:?}: {error}"))),
            };
            read += count as u64;
            if read > size {
                return Err(changed(&path, size, read, "at least "));
            }
            let bytes = self.buffer.get(..count).unwrap_or_default();
            hash.update(bytes);
            target
                .write_all(bytes)
                .map_err(|error| host(&path, &error))?;
        }
        if read < size {
            return Err(changed(&path, size, read, ""));
        }
        self.bytes += read;
        self.files.push(StagedFile {
            path,
            size,
            executable: mode == 0o555,
            sha256: hash.finalize().into(),
        });
        Ok(())
    }
}

fn create(directory: &OwnedFd, name: &str, mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::RUSR)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file.into())
}

fn make_directory(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    mkdirat(directory, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(directory, name, flags, Mode::empty())?;
    fchmod(&made, Mode::from_raw_mode(0o555))?;
    Ok(made)
}

/// Reads a file of the sealed copy, and compares it with what was copied.
fn check(mount: BorrowedFd<'_>, file: &StagedFile, buffer: &mut [u8]) -> Result<(), Refused> {
    let failed = |error: io::Error| host(&file.path, &error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = openat2(mount.as_fd(), &*file.path, flags, Mode::empty(), resolve)
        .map_err(|errno| failed(errno.into()))?;
    let mut opened = File::from(opened);
    let mut hash = Sha256::new();
    let mut size = 0;
    loop {
        let count = opened.read(buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        size += count as u64;
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    let sha256: [u8; 32] = hash.finalize().into();
    if (size, sha256) != (file.size, file.sha256) {
        let message = format!("{:?} in the copy is not what was written", file.path);
        return Err(Refused::Host(message));
    }
    Ok(())
}

/// Why a name could not be opened: what it is says more than the errno.
fn unopened(directory: &OwnedFd, name: &str, path: &str, errno: Errno) -> Refused {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if errno == Errno::LOOP || errno == Errno::NXIO => {
            unwanted(path, FileType::from_raw_mode(stat.st_mode))
        }
        _ => Refused::Files(format!("open {path:?}: {}", reason(errno))),
    }
}

fn unwanted(path: &str, kind: FileType) -> Refused {
    let kind = match kind {
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of another kind",
    };
    Refused::Files(format!(
        "{path:?} is a {kind}: only regular files and directories are staged"
    ))
}

fn changed(path: &str, size: u64, read: u64, at_least: &str) -> Refused {
    Refused::Files(format!(
        "{path:?} had {size} bytes when it was opened and {at_least}{read} when it was read"
    ))
}

fn host(what: &str, error: &io::Error) -> Refused {
    Refused::Host(format!("{what}: {error}"))
}

fn reason(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}
