//! How much a plugin may read and write at the disk on which its own directory lies.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// Bytes and operations a second at one disk, of one instance. Absent is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct IoLimits {
    /// Bytes read a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<ByteSize>,
    /// Bytes written a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<ByteSize>,
    /// Reads a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ops: Option<u32>,
    /// Writes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_ops: Option<u32>,
}

/// Less and a program of some size would take minutes for what it does at its start.
const LEAST_BYTES: ByteSize = ByteSize(64 * 1024);

/// Fewer and one file's opening could take longer than a call.
const LEAST_OPERATIONS: u32 = 10;

impl fmt::Display for IoLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.read.map(|size| format!("read {size}/s")),
            self.write.map(|size| format!("write {size}/s")),
            self.read_ops.map(|count| format!("{count} reads/s")),
            self.write_ops.map(|count| format!("{count} writes/s")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match parts.is_empty() {
            true => f.write_str("unlimited"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

impl IoLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that are refused: key, value, and what to write.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&'static str, String, &'static str)> {
        let bytes = [
            ("limits.io.read", self.read),
            ("limits.io.write", self.write),
        ];
        let operations = [
            ("limits.io.read-ops", self.read_ops),
            ("limits.io.write-ops", self.write_ops),
        ];
        let bytes = bytes
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .filter(|(_, value)| *value < LEAST_BYTES)
            .map(|(key, value)| (key, value.to_string(), "write at least 64KiB, a second"));
        let operations = operations
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .filter(|(_, value)| *value < LEAST_OPERATIONS)
            .map(|(key, value)| (key, value.to_string(), "write at least 10, a second"));
        bytes.chain(operations)
    }
}
