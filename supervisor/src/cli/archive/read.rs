//! Unpacking an archive beside what it is to replace, and comparing it with its manifest.
//!
//! Nothing that an archive says leads out of the directories that are made for it: an entry lies in a
//! directory that came before it, by a plain path, once, and is a file, a directory or a link that
//! nothing goes through.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use pinfold_policy::{Digest, PluginId};
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType, Header};

use super::areas::{self, Area, AreaKind, DAEMON_CONFIG, Databases};
use super::error::{ArchiveError, file};
use super::manifest::{Entry, EntryKind, Manifest, OwnerOf};
use super::owners::Owners;
use super::private::{Private, remove};
use super::unpacked::{Staged, Unowned, Unpacked, beside};
use super::write::parent;
use super::{ENTRY_LIMIT, MANIFEST, MANIFEST_LIMIT_BYTES, PATH_LIMIT_BYTES, text_of};
use crate::chain::Chain;
use crate::config::Config;

/// Areas that not every installation has.
const OPTIONAL: [&str; 2] = ["dev-policies", "data"];
/// Largest `pinfold.toml` that is looked into.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

/// The databases that the configuration in an archive names. What is no archive is [`unpack`]'s to tell.
pub(in crate::cli) fn databases(path: &Path) -> Result<Databases, ArchiveError> {
    let refused = |why: String| ArchiveError::Configuration {
        name: DAEMON_CONFIG.to_owned(),
        why,
    };
    let opened = File::open(path).map_err(file("open", path))?;
    let mut archive = Archive::new(opened);
    let Ok(entries) = archive.entries_with_seek() else {
        return Ok(Databases::new());
    };
    for entry in entries.raw(true) {
        let Ok(mut entry) = entry else { break };
        if entry.path_bytes().as_ref() != DAEMON_CONFIG.as_bytes() {
            continue;
        }
        if entry.size() > CONFIG_LIMIT_BYTES {
            return Err(refused("it is larger than 1 MiB".into()));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(file("read", path))?;
        if bytes.len() as u64 != entry.size() {
            break;
        }
        let config = Config::parse(&bytes, Path::new(DAEMON_CONFIG))
            .map_err(|error| refused(Chain(&error).to_string()))?;
        return Ok(config.hostapi.database);
    }
    Ok(Databases::new())
}

/// Whether an archive has an entry of this name. What is no archive has none: it is [`unpack`]'s to tell.
pub(super) fn has(path: &Path, name: &str) -> Result<bool, ArchiveError> {
    let opened = File::open(path).map_err(file("open", path))?;
    let mut archive = Archive::new(opened);
    let Ok(entries) = archive.entries_with_seek() else {
        return Ok(false);
    };
    let mut whole = entries.raw(true).map_while(Result::ok);
    Ok(whole.any(|entry| {
        let own = entry.path_bytes();
        own.strip_suffix(b"/").unwrap_or(&own) == name.as_bytes()
    }))
}

/// Reads an archive as [`unpack`] does, and compares it with the manifest that was written, whose text has this
/// digest: it is not taken into memory again. Unpacks nothing.
pub(super) fn check(
    path: &Path,
    areas: &[Area],
    written: &Manifest,
    text: Digest,
) -> Result<(), ArchiveError> {
    let mut unpacking = Unpacking::new(path, areas, true);
    let opened = File::open(path).map_err(file("open", path))?;
    let from = io::BufReader::with_capacity(1 << 20, opened);
    let found = unpacking.read(from, |manifest| {
        hashed(manifest).map_err(|error| ArchiveError::torn(path, &error))
    })?;
    if found != text {
        return Err(ArchiveError::Differs {
            entry: MANIFEST.into(),
            what: "its content",
        });
    }
    compare(written, &mut unpacking.seen)
}

/// Unpacks an archive beside these areas and compares every entry with the manifest.
pub(in crate::cli) fn unpack(path: &Path, areas: &[Area]) -> Result<Unpacked, ArchiveError> {
    let opened = File::open(path).map_err(file("open", path))?;
    let mut unpacking = Unpacking::new(path, areas, false);
    for area in areas {
        let at = beside(&area.path);
        remove(&at).map_err(file("remove", &at))?;
    }
    let from = io::BufReader::with_capacity(1 << 20, opened);
    let manifest = unpacking.read(from, |manifest| {
        let mut bytes = Vec::new();
        let read = manifest.read_to_end(&mut bytes);
        read.map_err(|error| ArchiveError::torn(path, &error))?;
        Manifest::known(path, &bytes)
    })?;
    compare(&manifest, &mut unpacking.seen)?;
    unpacking.unpacked.manifest = manifest;
    Ok(unpacking.unpacked)
}

struct Unpacking<'a> {
    path: PathBuf,
    areas: &'a [Area],
    seen: BTreeMap<String, Entry>,
    /// Directories of the archive, and where they were made; nowhere where their area has no place.
    directories: BTreeMap<PathBuf, Option<PathBuf>>,
    owners: Owners,
    /// Whether nothing is unpacked.
    is_check: bool,
    unpacked: Unpacked,
}

impl<'a> Unpacking<'a> {
    fn new(path: &Path, areas: &'a [Area], is_check: bool) -> Self {
        Self {
            path: path.into(),
            areas,
            seen: BTreeMap::new(),
            directories: BTreeMap::new(),
            owners: Owners::default(),
            is_check,
            unpacked: Unpacked::new(),
        }
    }

    /// Unpacks everything; gives what is read of the manifest, which has to be the last entry.
    fn read<M>(
        &mut self,
        from: impl Read,
        last: impl Fn(&mut dyn Read) -> Result<M, ArchiveError>,
    ) -> Result<M, ArchiveError> {
        let path = self.path.clone();
        let torn = |error: io::Error| ArchiveError::torn(&path, &error);
        let mut archive = Archive::new(from);
        let entries = archive.entries().map_err(torn)?.raw(true);
        let mut manifest = None;
        let (mut name, mut link) = (None, None);
        for entry in entries {
            let mut entry = entry.map_err(torn)?;
            if manifest.is_some() {
                return Err(refused(MANIFEST, "something comes after it"));
            }
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink) {
                let long = long(&mut entry).map_err(torn)?;
                match kind {
                    EntryType::GNULongName => name = Some(long),
                    _ => link = Some(long),
                }
                continue;
            }
            let header = entry.header().clone();
            let own = header.path_bytes().into_owned();
            let own = own.strip_suffix(b"/").unwrap_or(&own).to_vec();
            let path = name.take().unwrap_or(own);
            let target = link.take();
            if path == MANIFEST.as_bytes() {
                if entry.size() > MANIFEST_LIMIT_BYTES {
                    return Err(refused(MANIFEST, "it is too large"));
                }
                manifest = Some(last(&mut entry)?);
                continue;
            }
            if self.seen.len() >= ENTRY_LIMIT {
                return Err(refused(&text_of(&path), "there are too many before it"));
            }
            self.entry(&path, target, &header, &mut entry)?;
        }
        manifest.ok_or_else(|| ArchiveError::NotOurs {
            path: self.path.clone(),
            why: "it has no manifest: it was cut off, or is something else".into(),
        })
    }

    fn entry(
        &mut self,
        bytes: &[u8],
        link: Option<Vec<u8>>,
        header: &Header,
        from: &mut tar::Entry<'_, impl Read>,
    ) -> Result<(), ArchiveError> {
        let text = text_of(bytes);
        let path = plain(bytes).map_err(|why| refused(&text, why))?;
        if self.seen.contains_key(&text) {
            return Err(refused(&text, "it is there twice"));
        }
        let bad = |_| refused(&text, "its header is not readable");
        let owner = OwnerOf {
            uid: number(header.uid()).map_err(bad)?,
            gid: number(header.gid()).map_err(bad)?,
            user: name_of(header.username_bytes()).map_err(|why| refused(&text, why))?,
            group: name_of(header.groupname_bytes()).map_err(|why| refused(&text, why))?,
        };
        let mode = header.mode().map_err(bad)?;
        if mode & !0o1777 != 0 {
            return Err(refused(&text, "its mode has bits that no backup has"));
        }
        let (kind, is_file) = match header.entry_type() {
            EntryType::Regular => (EntryKind::File, true),
            EntryType::Directory => (EntryKind::Directory, false),
            EntryType::Symlink => (EntryKind::Link, false),
            _ => return Err(refused(&text, "it is neither file, directory nor link")),
        };
        let (place, area) = self.place(&path, &text, kind)?;
        let mut entry = Entry {
            path: text.clone(),
            kind,
            mode: format!("{mode:04o}"),
            owner: owner.clone(),
            size: is_file.then(|| from.size()),
            digest: None,
        };
        match kind {
            EntryKind::File => {
                let digest = self.file(place.as_deref(), area.as_ref(), from, &owner, mode)?;
                entry.digest = Some(digest);
            }
            EntryKind::Directory => {
                if let Some(place) = &place {
                    let made = DirBuilder::new().mode(0o700).create(place);
                    made.map_err(file("make", place))?;
                }
                self.directories.insert(path.clone(), place.clone());
            }
            EntryKind::Link => {
                let own = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
                let target = link.or_else(own).unwrap_or_default();
                if target.is_empty() || target.contains(&0) || target.len() > PATH_LIMIT_BYTES {
                    return Err(refused(&text, "what it links to is no path"));
                }
                entry.digest = Some(Digest(Sha256::digest(&target).into()));
                if let Some(place) = &place {
                    let target = std::ffi::OsStr::from_bytes(&target);
                    let made = std::os::unix::fs::symlink(target, place);
                    made.map_err(file("make", place))?;
                }
            }
        }
        self.seen.insert(text, entry);
        let (Some(place), Some(area)) = (place, area) else {
            return Ok(());
        };
        // A file's own are set with it, but for a plugin's, whose number here is not known yet.
        if kind != EntryKind::File || area.kind == AreaKind::Lasting {
            let rest = path.strip_prefix(&*area.name).unwrap_or(Path::new(""));
            let plugin = rest.components().next().and_then(|first| {
                let name = first.as_os_str().to_str()?;
                PluginId::parse(name).ok()
            });
            self.unpacked.unowned.push(Unowned {
                plugin: plugin.filter(|_| area.kind == AreaKind::Lasting),
                path: place,
                owner,
                mode: (kind != EntryKind::Link).then_some(mode),
            });
        }
        Ok(())
    }

    /// Where an entry goes, and its area; nowhere where there is no place for it here.
    fn place(
        &mut self,
        path: &Path,
        text: &str,
        kind: EntryKind,
    ) -> Result<(Option<PathBuf>, Option<Area>), ArchiveError> {
        let Some((area, below)) = areas::of(self.areas, path) else {
            if path.starts_with(areas::DATABASES) {
                return Err(ArchiveError::NoPlace { entry: text.into() });
            }
            let optional = OPTIONAL.into_iter().find(|name| path.starts_with(name));
            let name = optional.ok_or_else(|| refused(text, "a backup has no such place"))?;
            self.unpacked.unplaced.insert(name);
            return Ok((None, None));
        };
        let area = area.clone();
        if below.as_os_str().is_empty() {
            let wanted = match area.is_file() {
                true => EntryKind::File,
                false => EntryKind::Directory,
            };
            if kind != wanted {
                return Err(refused(text, "it is of another kind than its place"));
            }
            if self.is_check {
                return Ok((None, Some(area)));
            }
            let at = self.staging(&area)?;
            self.unpacked.staged.push(Staged {
                area: area.clone(),
                at: at.clone(),
            });
            return Ok((Some(at), Some(area)));
        }
        let parent = path
            .parent()
            .and_then(|parent| self.directories.get(parent));
        match parent {
            Some(Some(parent)) => {
                let name = path.file_name().unwrap_or_default();
                Ok((Some(parent.join(name)), Some(area)))
            }
            Some(None) if self.is_check => Ok((None, Some(area))),
            _ => Err(refused(
                text,
                "no directory that it could be in came before it",
            )),
        }
    }

    /// Where an area is unpacked: where one rename leads to its place, and a database where nobody else
    /// reaches it.
    fn staging(&mut self, area: &Area) -> Result<PathBuf, ArchiveError> {
        if area.kind != AreaKind::Database {
            return Ok(beside(&area.path));
        }
        let private = match self.unpacked.private.take() {
            Some(private) => private,
            None => Private::beside(parent(&area.path))?,
        };
        let at = private.at(&area.path);
        self.unpacked.private = Some(private);
        Ok(at)
    }

    /// Unpacks a file's content, and gives its digest.
    fn file(
        &mut self,
        place: Option<&Path>,
        area: Option<&Area>,
        from: &mut impl Read,
        owner: &OwnerOf,
        mode: u32,
    ) -> Result<Digest, ArchiveError> {
        let mut to = match place {
            Some(place) => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                Some((options.open(place).map_err(file("make", place))?, place))
            }
            None => None,
        };
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(file("read", &self.path))?,
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            hash.update(bytes);
            if let Some((to, place)) = &mut to {
                to.write_all(bytes).map_err(file("write", place))?;
            }
        }
        if let (Some((to, place)), Some(area)) = (&to, area) {
            if self.unpacked.is_root && area.kind != AreaKind::Lasting {
                let (uid, gid) = self.owners.here(owner);
                let given = std::os::unix::fs::fchown(to, Some(uid), Some(gid));
                given.map_err(file("give away", place))?;
            }
            let set = to.set_permissions(fs::Permissions::from_mode(mode));
            set.map_err(file("set the mode of", place))?;
        }
        Ok(Digest(hash.finalize().into()))
    }
}

/// The digest of what is there to be read.
fn hashed(from: &mut dyn Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Digest(hash.finalize().into())),
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn refused(entry: &str, why: &'static str) -> ArchiveError {
    ArchiveError::Entry {
        entry: entry.to_owned(),
        why,
    }
}

/// The content of a long name or link, without the zero byte that ends it.
fn long(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(PATH_LIMIT_BYTES as u64 + 2)
        .read_to_end(&mut bytes)?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.len() > PATH_LIMIT_BYTES {
        return Err(io::Error::other("a path is too long"));
    }
    Ok(bytes)
}

/// A path without tricks: names alone, from an area on.
fn plain(bytes: &[u8]) -> Result<PathBuf, &'static str> {
    if bytes.is_empty() || bytes.contains(&0) {
        return Err("it has no name, or one with a zero byte");
    }
    if bytes.len() > PATH_LIMIT_BYTES {
        return Err("its path is too long");
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    if !path
        .components()
        .all(|one| matches!(one, Component::Normal(_)))
    {
        return Err("its path leads elsewhere");
    }
    // What is spelt otherwise than it reads (`a//b`, `a/./b`) is nothing that a backup has.
    let spelt: PathBuf = path.components().collect();
    if spelt.as_os_str() != path.as_os_str() {
        return Err("its path is not plain");
    }
    Ok(spelt)
}

fn number(number: io::Result<u64>) -> io::Result<u32> {
    u32::try_from(number?).map_err(io::Error::other)
}

fn name_of(bytes: Option<&[u8]>) -> Result<Option<String>, &'static str> {
    match bytes.filter(|bytes| !bytes.is_empty()) {
        None => Ok(None),
        Some(bytes) => String::from_utf8(bytes.to_vec())
            .map(Some)
            .map_err(|_| "its owner's name is no text"),
    }
}

/// Every entry is there once, as the manifest has it, and nothing else.
fn compare(manifest: &Manifest, seen: &mut BTreeMap<String, Entry>) -> Result<(), ArchiveError> {
    for entry in &manifest.entries {
        let differs = |what| ArchiveError::Differs {
            entry: entry.path.clone(),
            what,
        };
        let found = seen
            .remove(&entry.path)
            .ok_or_else(|| differs("it is missing"))?;
        if found.digest != entry.digest || found.size != entry.size {
            return Err(differs("its content"));
        }
        if found != *entry {
            return Err(differs("its kind, owner or mode"));
        }
    }
    match seen.pop_first() {
        None => Ok(()),
        Some((entry, _)) => Err(ArchiveError::Differs {
            entry,
            what: "it is not in there",
        }),
    }
}
