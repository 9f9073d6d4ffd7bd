//! What an archive says of itself: its last entry.

use std::collections::BTreeMap;
use std::path::Path;

use pinfold_policy::{Digest, PluginId};
use serde::{Deserialize, Serialize};

use super::error::ArchiveError;

/// The form of archive that this version writes, and the newest that it reads.
pub(in crate::cli) const FORMAT: u32 = 1;

/// What an archive says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Manifest {
    pub(in crate::cli) format: u32,
    /// The version of Pinfold that made it.
    pub(in crate::cli) version: String,
    /// When, RFC 3339 in UTC.
    pub(in crate::cli) created: String,
    /// On which machine.
    pub(in crate::cli) host: String,
    /// Schema of the daemon's database; absent where there was none.
    pub(in crate::cli) schema: Option<i64>,
    /// Where the audit trail ended.
    pub(in crate::cli) audit: Vec<AuditHead>,
    /// User ids of plugins, to whom their lasting files belong.
    pub(in crate::cli) ids: BTreeMap<PluginId, u32>,
    /// Everything but this, in the order of the archive.
    pub(in crate::cli) entries: Vec<Entry>,
    /// What was left out: neither file, directory nor link.
    pub(in crate::cli) left_out: Vec<String>,
    /// Files that were written while they were read: their content may be of no one moment.
    pub(in crate::cli) unsettled: Vec<String>,
    /// What of plugins' lasting directories is not there, or not as it is. Earlier versions wrote no such list.
    #[serde(default)]
    pub(in crate::cli) incomplete: Vec<Incomplete>,
}

impl Manifest {
    /// Reads one of a form that this version knows; `path` is the archive, for errors.
    pub(super) fn known(path: &Path, bytes: &[u8]) -> Result<Self, ArchiveError> {
        let not_ours = |why: String| ArchiveError::NotOurs {
            path: path.into(),
            why,
        };
        let form: Form =
            serde_json::from_slice(bytes).map_err(|error| ArchiveError::torn(path, &error))?;
        let format = form.format.as_ref().and_then(serde_json::Value::as_u64);
        let format = format.and_then(|format| u32::try_from(format).ok());
        let format = format.ok_or_else(|| not_ours("its manifest names no form".into()))?;
        if format > FORMAT {
            let version = form.version.as_ref().and_then(serde_json::Value::as_str);
            return Err(ArchiveError::Later {
                version: version.unwrap_or("(unknown)").to_owned(),
                format,
            });
        }
        serde_json::from_slice(bytes).map_err(|error| not_ours(format!("its manifest: {error}")))
    }
}

/// What a manifest of any form says first.
#[derive(Deserialize)]
struct Form {
    format: Option<serde_json::Value>,
    version: Option<serde_json::Value>,
}

/// Something that is not there, or not as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Incomplete {
    /// Its path, as those of entries.
    pub(in crate::cli) path: String,
    pub(in crate::cli) why: String,
}

/// The last record of a part of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct AuditHead {
    pub(in crate::cli) part: String,
    pub(in crate::cli) number: i64,
    pub(in crate::cli) hash: Digest,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Entry {
    /// Its path in the archive, as [`text_of`](super::text_of) writes it.
    pub(in crate::cli) path: String,
    pub(in crate::cli) kind: EntryKind,
    /// Permission bits, in octal.
    pub(in crate::cli) mode: String,
    #[serde(flatten)]
    pub(in crate::cli) owner: OwnerOf,
    /// Bytes; of files alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) size: Option<u64>,
    /// Of a file's content, or of the text of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) digest: Option<Digest>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum EntryKind {
    File,
    Directory,
    Link,
}

/// Whose something is: by number, and by name where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct OwnerOf {
    pub(in crate::cli) uid: u32,
    pub(in crate::cli) gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) group: Option<String>,
}
