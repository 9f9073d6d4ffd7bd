//! Writing an archive.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use pinfold_policy::{Digest, LauncherConfig, PluginId};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::areas::{self, Area, AreaKind};
use super::budget::{Budget, Share};
use super::content::{Hashing, link_text};
use super::error::{ArchiveError, file};
use super::manifest::{AuditHead, Entry, EntryKind, FORMAT, Incomplete, Manifest, OwnerOf};
use super::owners::Names;
use super::seeing::{Seeing, count};
use super::tree::{Met, Why, walk};
use super::work::Work;
use super::{ENTRY_LIMIT, MANIFEST, MANIFEST_LIMIT_BYTES, read, text_of};
use crate::chain::Chain;
use crate::place::Place;
use crate::store::audit::reader::Reader;
use crate::store::migrate;

/// Bits of a mode that are kept: none that lend a file's owner to who executes it.
const MODE_BITS: u32 = 0o1777;

/// A backup that was made.
#[derive(Debug)]
pub(in crate::cli) struct Written {
    pub(in crate::cli) manifest: Manifest,
    /// Bytes of the file.
    pub(in crate::cli) size: u64,
    /// Files in it that look like private keys.
    pub(in crate::cli) private: Vec<String>,
}

/// Backs an installation up into a new file, which its owner alone can read: whole and on the disk
/// when this returns, or not there.
pub(in crate::cli) async fn write(
    place: &Place,
    config: &LauncherConfig,
    to: &Path,
) -> Result<Written, ArchiveError> {
    write_shares(place, config, to, Share::ALL).await
}

/// The same, where all plugins have this together.
pub(super) async fn write_shares(
    place: &Place,
    config: &LauncherConfig,
    to: &Path,
    share: Share,
) -> Result<Written, ArchiveError> {
    let areas = areas::all(place, config, &areas::databases_here(place)?)?;
    if fs::symlink_metadata(to).is_ok() {
        return Err(ArchiveError::Exists { path: to.into() });
    }
    let work = Work::beside(to)?;
    for (at, area) in areas.iter().enumerate() {
        if area.kind == AreaKind::Database && area.path.exists() {
            migrate::copy(&area.path, &work.copy(at)).await?;
        }
    }
    let own = areas.iter().position(|area| area.name == areas::DATABASE);
    let copy = work.copy(own.unwrap_or_default());
    let (mut schema, mut audit) = (None, Vec::new());
    if copy.exists() {
        let mut reader = Reader::open(&copy).await?;
        schema = Some(reader.schema());
        let heads = reader.heads().await?.into_iter();
        audit.extend(heads.map(|head| AuditHead {
            part: head.part.to_owned(),
            number: head.number,
            hash: head.hash,
        }));
    }
    let new = work.new_file();
    let out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .map_err(file("make", &new))?;
    let mut writing = Writing {
        to: new.clone(),
        share,
        builder: Builder::new(io::BufWriter::with_capacity(1 << 20, out)),
        names: Names::default(),
        manifest: Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            created: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            host: host(),
            schema,
            audit,
            ids: ids(config)?,
            entries: Vec::new(),
            left_out: Vec::new(),
            unsettled: Vec::new(),
            incomplete: Vec::new(),
        },
    };
    for (at, area) in areas.iter().enumerate() {
        writing.area(area, work.copy(at))?;
    }
    let (manifest, digest) = writing.end()?;
    // By what a restore reads it with: one that could not be restored is none.
    read::check(&new, &areas, &manifest, digest).map_err(|error| ArchiveError::NotReadBack {
        source: Box::new(error),
    })?;
    let size = fs::metadata(&new).map_err(file("look at", &new))?.len();
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(rustix::fs::CWD, &new, rustix::fs::CWD, to, flags).map_err(
        |errno| match errno {
            rustix::io::Errno::EXIST => ArchiveError::Exists { path: to.into() },
            errno => file("make", to)(errno.into()),
        },
    )?;
    let parent = parent(to);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(file("write", parent))?;
    let entries = manifest.entries.iter();
    let private = entries.filter(|entry| entry.path.ends_with(".key"));
    let private = private.map(|entry| entry.path.clone()).collect();
    Ok(Written {
        manifest,
        size,
        private,
    })
}

/// The directory that a file is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whose is which lasting directory.
fn ids(config: &LauncherConfig) -> Result<BTreeMap<PluginId, u32>, ArchiveError> {
    let path = config.state_dir.join("uids.toml");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(file("read", &path))?,
    };
    toml::from_str(&text).map_err(|error| file("read", &path)(io::Error::other(error)))
}

/// An archive that is being written.
pub(super) struct Writing {
    to: PathBuf,
    /// What all plugins may have together.
    share: Share,
    builder: Builder<io::BufWriter<File>>,
    names: Names,
    manifest: Manifest,
}

impl Writing {
    /// Adds an area; a database from its copy.
    fn area(&mut self, area: &Area, copy: PathBuf) -> Result<(), ArchiveError> {
        let name = Path::new(&*area.name);
        if fs::metadata(&area.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        if area.is_file() {
            // What the daemon may have made something else of is looked at and not opened.
            let (metadata, from) = match area.kind {
                AreaKind::Database => (of_database(&area.path), &copy),
                _ => (fs::metadata(&area.path), &area.path),
            };
            let metadata = metadata.map_err(file("look at", &area.path))?;
            let from = File::open(from).map_err(file("open", from))?;
            let size = from.metadata().map_err(file("look at", &area.path))?.len();
            let mut header = header(metadata.mode(), metadata.mtime());
            let owner = self.owner(&mut header, metadata.uid(), metadata.gid());
            return self.file(name, from, size, header, owner, &area.path);
        }
        let budget = match area.kind {
            AreaKind::Lasting => Some(Budget::new(self.share, count(&area.path)?)),
            _ => None,
        };
        let mut seeing = Seeing {
            top: &area.path,
            name,
            budget,
            writing: self,
        };
        walk(&area.path, area.name.len() + 1, &mut seeing)
    }

    /// Adds what was met; where it is padded, what cannot be read of a file is zeros.
    pub(super) fn met(
        &mut self,
        path: &Path,
        full: &Path,
        met: Met,
        stat: &rustix::fs::Stat,
        is_padded: bool,
    ) -> Result<(), ArchiveError> {
        let mut header = header(stat.st_mode, stat.st_mtime);
        let owner = self.owner(&mut header, stat.st_uid, stat.st_gid);
        let failed = file("write", &self.to);
        match met {
            Met::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                let appended = self.builder.append_data(&mut header, path, io::empty());
                appended.map_err(failed)?;
                self.entry(path, EntryKind::Directory, &header, owner, None, None)
            }
            Met::File(from) => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let again = from.try_clone().map_err(file("open", full))?;
                if let Some(why) = self.content(path, from, size, header, owner, full, is_padded)? {
                    self.incomplete(path, &why);
                    return Ok(());
                }
                let after = rustix::fs::fstat(&again);
                let after = after.map_err(|errno| file("look at", full)(errno.into()))?;
                let at =
                    |stat: &rustix::fs::Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
                if at(&after) != at(stat) {
                    self.manifest.unsettled.push(text(path));
                }
                Ok(())
            }
            Met::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                let bytes = target.to_bytes();
                let appended = link_text(&mut self.builder, &mut header, bytes)
                    .and_then(|()| self.builder.append_data(&mut header, path, io::empty()));
                appended.map_err(failed)?;
                let digest = Digest(Sha256::digest(bytes).into());
                self.entry(path, EntryKind::Link, &header, owner, None, Some(digest))
            }
            Met::Other => {
                self.manifest.left_out.push(text(path));
                Ok(())
            }
        }
    }

    /// What of a plugin's is not there, or not as it is.
    pub(super) fn incomplete(&mut self, path: &Path, why: &Why) {
        self.manifest.incomplete.push(Incomplete {
            path: text(path),
            why: Chain(why).to_string(),
        });
    }

    fn file(
        &mut self,
        path: &Path,
        from: File,
        size: u64,
        header: Header,
        owner: OwnerOf,
        full: &Path,
    ) -> Result<(), ArchiveError> {
        self.content(path, from, size, header, owner, full, false)?;
        Ok(())
    }

    /// Adds a file. What cannot be read of it is an error, or zeros and the reason for them.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another fact of the entry"
    )]
    fn content(
        &mut self,
        path: &Path,
        from: File,
        size: u64,
        mut header: Header,
        owner: OwnerOf,
        full: &Path,
        is_padded: bool,
    ) -> Result<Option<Why>, ArchiveError> {
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        let mut hashing = Hashing {
            from,
            left: size,
            hash: Sha256::new(),
            is_padded,
            fault: None,
        };
        let appended = self.builder.append_data(&mut header, path, &mut hashing);
        let why = match hashing.fault {
            Some(fault) if is_padded => Some(fault),
            Some(Why::Damaged(error)) => return Err(file("read", full)(error)),
            Some(_) => return Err(ArchiveError::Changed { path: full.into() }),
            None => None,
        };
        appended.map_err(file("write", &self.to))?;
        let digest = Digest(hashing.hash.finalize().into());
        let (size, digest) = (Some(size), Some(digest));
        self.entry(path, EntryKind::File, &header, owner, size, digest)?;
        Ok(why)
    }

    /// Whose an entry is, in its header too: a name that does not fit there is left out.
    fn owner(&mut self, header: &mut Header, uid: u32, gid: u32) -> OwnerOf {
        let mut owner = self.names.of(uid, gid);
        header.set_uid(u64::from(uid));
        header.set_gid(u64::from(gid));
        if let Some(user) = &owner.user
            && header.set_username(user).is_err()
        {
            owner.user = None;
        }
        if let Some(group) = &owner.group
            && header.set_groupname(group).is_err()
        {
            owner.group = None;
        }
        owner
    }

    fn entry(
        &mut self,
        path: &Path,
        kind: EntryKind,
        header: &Header,
        owner: OwnerOf,
        size: Option<u64>,
        digest: Option<Digest>,
    ) -> Result<(), ArchiveError> {
        if self.manifest.entries.len() >= ENTRY_LIMIT {
            return Err(ArchiveError::Limit {
                path: path.into(),
                limit: ENTRY_LIMIT,
                what: "entries before it",
            });
        }
        let mode = header.mode().map_err(file("write", &self.to))?;
        self.manifest.entries.push(Entry {
            path: text(path),
            kind,
            mode: format!("{mode:04o}"),
            owner,
            size,
            digest,
        });
        Ok(())
    }

    /// Adds the manifest, and has it all on the disk; gives the digest of the manifest's text too.
    fn end(mut self) -> Result<(Manifest, Digest), ArchiveError> {
        let failed = || file("write", &self.to);
        let mut bytes = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|error| failed()(io::Error::other(error)))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MANIFEST_LIMIT_BYTES {
            return Err(ArchiveError::Limit {
                path: MANIFEST.into(),
                limit: usize::try_from(MANIFEST_LIMIT_BYTES).unwrap_or(usize::MAX),
                what: "bytes",
            });
        }
        let mut header = header(0o600, Utc::now().timestamp());
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        let digest = Digest(Sha256::digest(&bytes).into());
        let appended = self
            .builder
            .append_data(&mut header, MANIFEST, bytes.as_slice());
        appended.map_err(failed())?;
        drop(bytes);
        let buffered = self.builder.into_inner().map_err(file("write", &self.to))?;
        let out = buffered
            .into_inner()
            .map_err(|error| file("write", &self.to)(error.into_error()))?;
        out.sync_all().map_err(file("write", &self.to))?;
        Ok((self.manifest, digest))
    }
}

/// Whose a database is, and its mode: of a link, which has none of its own, what it leads to.
fn of_database(path: &Path) -> io::Result<fs::Metadata> {
    match fs::symlink_metadata(path) {
        Ok(own) if own.is_symlink() => fs::metadata(path),
        own => own,
    }
}

fn text(path: &Path) -> String {
    text_of(path.as_os_str().as_bytes())
}

fn header(mode: u32, modified: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode & MODE_BITS);
    header.set_mtime(u64::try_from(modified).unwrap_or(0));
    header
}
