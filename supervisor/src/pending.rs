//! Records for the audit trail that wait to be taken into it.
//!
//! What changes policies, plugins and keys, makes a backup or restores one, is done by their owner's own
//! command, whether the daemon runs or not. So each is written down before it is done, a file each in a
//! directory of that owner's, which the daemon reads and cannot write. The daemon takes them into its
//! trail: when it is told of the act, else at its next start. Which of them are in the trail, the
//! trail says itself; so the files may lie there for as long as they like.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use pinfold_gateway::admin::dto::{Because, RecordId};
use pinfold_policy::{PluginId, is_unprintable};
use rustix::fs::{Dir, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::chain::Chain;

/// Most records that wait: a year's acts of a busy administrator.
pub(crate) const PENDING_LIMIT: usize = 1_000;
/// Largest file of one.
const FILE_LIMIT_BYTES: u64 = 4096;
/// Most bytes of a text in one.
pub(crate) const TEXT_LIMIT_BYTES: usize = 1024;
/// What a record's file ends with.
const SUFFIX: &str = ".json";
/// Most names in the directory that are looked at.
const NAMES_LIMIT: usize = 2 * PENDING_LIMIT;

/// A backup was made.
pub(crate) const BACKUP: &str = "admin.backup";
/// A backup was put in place of what was there.
pub(crate) const RESTORE: &str = "admin.restore";

/// What may be told in this way.
const ACTIONS: [&str; 7] = [
    Because::PluginAdded.action(),
    Because::PluginGranted.action(),
    Because::PluginRemoved.action(),
    Because::KeyTrusted.action(),
    Because::KeyRevoked.action(),
    BACKUP,
    RESTORE,
];

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingRecord {
    /// When it was about to be done.
    pub(crate) time: DateTime<Utc>,
    /// Who did it, as the trail names a process.
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    /// The plugin that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plugin: Option<PluginId>,
}

/// Why what waits cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PendingError {
    #[error("open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is uid {owner}'s, mode {mode:04o}: only root or the daemon's user may write it"
    )]
    Owner {
        path: PathBuf,
        owner: u32,
        mode: u32,
    },
    #[error("{path} is no file of at most {FILE_LIMIT_BYTES} bytes")]
    Kind { path: PathBuf },
    #[error("{path} is no record")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path}: {why}")]
    Value { path: PathBuf, why: &'static str },
}

impl PendingError {
    /// Whether there is none.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The name of a record's file.
pub(crate) fn file_name(id: &RecordId) -> String {
    format!("{id}{SUFFIX}")
}

/// The directory of what waits, open.
pub(crate) struct Pending {
    directory: OwnedFd,
    path: PathBuf,
    /// Whose files count, beside root's.
    user: u32,
}

impl Pending {
    /// Opens it; `None` where nothing was ever written down.
    ///
    /// # Errors
    /// [`PendingError`] where somebody else may write there.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, PendingError> {
        Self::open_as(path, rustix::process::geteuid().as_raw())
    }

    /// The same as this user's daemon does it.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub(crate) fn open_as(path: &Path, user: u32) -> Result<Option<Self>, PendingError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            opened => opened.map_err(|errno| PendingError::Open {
                path: path.into(),
                source: errno.into(),
            })?,
        };
        check_owner(&directory, path, user)?;
        let path = path.to_owned();
        Ok(Some(Self {
            directory,
            path,
            user,
        }))
    }

    /// The ids of what is there, the oldest first.
    ///
    /// # Errors
    /// [`PendingError::Read`]
    pub(crate) fn ids(&self) -> Result<Vec<RecordId>, PendingError> {
        let failed = |errno: rustix::io::Errno| PendingError::Read {
            path: self.path.clone(),
            source: errno.into(),
        };
        let mut ids = Vec::new();
        let entries = Dir::read_from(&self.directory).map_err(failed)?;
        for entry in entries.take(NAMES_LIMIT) {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_str().unwrap_or_default();
            if let Some(Ok(id)) = name.strip_suffix(SUFFIX).map(str::parse) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// One record.
    ///
    /// # Errors
    /// [`PendingError`]
    pub(crate) fn read(&self, id: &RecordId) -> Result<PendingRecord, PendingError> {
        let name = file_name(id);
        let path = self.path.join(&name);
        // Not blocking: its type is not known yet.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, &name, flags, Mode::empty());
        let opened = opened.map_err(|errno| PendingError::Open {
            path: path.clone(),
            source: errno.into(),
        })?;
        check_owner(&opened, &path, self.user)?;
        let file = File::from(opened);
        let failed = |source| PendingError::Read {
            path: path.clone(),
            source,
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(PendingError::Kind { path });
        }
        let mut bytes = Vec::new();
        let mut limited = file.take(FILE_LIMIT_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > FILE_LIMIT_BYTES {
            return Err(PendingError::Kind { path });
        }
        parse(&bytes, &path)
    }

    /// Everything that can be read, the oldest first. What cannot is named in the log.
    ///
    /// # Errors
    /// [`PendingError::Read`] where the directory cannot be listed.
    pub(crate) fn all(&self) -> Result<Vec<(RecordId, PendingRecord)>, PendingError> {
        let mut all = Vec::new();
        for id in self.ids()?.into_iter().take(PENDING_LIMIT) {
            match self.read(&id) {
                Ok(record) => all.push((id, record)),
                // It was told of meanwhile.
                Err(error) if error.is_absent() => {}
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "record for the audit trail not taken");
                }
            }
        }
        Ok(all)
    }
}

/// Only root and this user write here.
fn check_owner(opened: &OwnedFd, path: &Path, user: u32) -> Result<(), PendingError> {
    let stat = rustix::fs::fstat(opened).map_err(|errno| PendingError::Read {
        path: path.into(),
        source: errno.into(),
    })?;
    let mode = stat.st_mode & 0o7777;
    if (stat.st_uid == 0 || stat.st_uid == user) && mode & 0o022 == 0 {
        return Ok(());
    }
    Err(PendingError::Owner {
        path: path.into(),
        owner: stat.st_uid,
        mode,
    })
}

fn parse(bytes: &[u8], path: &Path) -> Result<PendingRecord, PendingError> {
    let record: PendingRecord =
        serde_json::from_slice(bytes).map_err(|source| PendingError::Json {
            path: path.into(),
            source,
        })?;
    let refuse = |why| {
        Err(PendingError::Value {
            path: path.into(),
            why,
        })
    };
    if !ACTIONS.contains(&record.action.as_str()) {
        return refuse("this action is told in no such way");
    }
    let is_plain =
        |text: &String| text.len() <= TEXT_LIMIT_BYTES && !text.chars().any(is_unprintable);
    if ![&record.actor, &record.subject].into_iter().all(is_plain) {
        return refuse("actor or subject is too long, or has a control character");
    }
    Ok(record)
}

/// A text as it may stand in a record: bounded, on one line.
pub(crate) fn recordable(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        let character = if is_unprintable(character) {
            '\u{fffd}'
        } else {
            character
        };
        if plain.len() + character.len_utf8() > TEXT_LIMIT_BYTES {
            break;
        }
        plain.push(character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record() -> PendingRecord {
        PendingRecord {
            time: "2026-11-22T03:00:00Z".parse().unwrap(),
            actor: "uid:0 pid:7".into(),
            action: Because::PluginGranted.action().into(),
            subject: "hello".into(),
            plugin: Some("hello".parse().unwrap()),
        }
    }

    fn id(digit: &str) -> RecordId {
        digit.repeat(RecordId::LENGTH).parse().unwrap()
    }

    fn put(directory: &Path, id: &RecordId, text: &str, mode: u32) {
        let path = directory.join(file_name(id));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_waits_is_read_in_its_order_and_what_others_could_have_written_is_not() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("pending");
        assert!(Pending::open(&path).unwrap().is_none());
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let text = serde_json::to_string(&record()).unwrap();
        put(&path, &id("2"), &text, 0o640);
        put(&path, &id("1"), &text, 0o600);
        put(&path, &id("3"), &text, 0o666);
        put(&path, &id("4"), &text.replace("grant", "made-up"), 0o600);
        put(&path, &id("5"), &text.replace("uid:0", r"a\nb"), 0o600);
        put(&path, &id("6"), &" ".repeat(5000), 0o600);
        put(&path, &id("7"), &text.replace('{', "{\"x\": 1,"), 0o600);
        std::os::unix::fs::symlink(
            path.join(file_name(&id("1"))),
            path.join(file_name(&id("8"))),
        )
        .unwrap();
        fs::create_dir(path.join(file_name(&id("9")))).unwrap();
        fs::write(path.join(".new"), &text).unwrap();
        let pending = Pending::open(&path).unwrap().unwrap();
        let all = pending.all().unwrap();
        assert_eq!(all, [(id("1"), record()), (id("2"), record())]);
        assert!(pending.read(&id("a")).unwrap_err().is_absent());
        for (digit, why) in [
            ("3", "mode 0666"),
            ("4", "told in no such way"),
            ("5", "control character"),
            ("6", "at most 4096 bytes"),
            ("7", "no record"),
            ("8", "open "),
            ("9", "no file"),
        ] {
            let error = pending.read(&id(digit)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Pending::open(&path).err().unwrap().to_string();
        assert!(error.contains("mode 0777"), "{error}");
    }

    #[test]
    fn a_text_is_bounded_and_on_one_line() {
        assert_eq!(recordable("a\nb"), "a\u{fffd}b");
        let long = recordable(&"é".repeat(TEXT_LIMIT_BYTES));
        assert_eq!(long.len(), TEXT_LIMIT_BYTES);
    }
}
