//! The policy file: the operator's root-owned document of what one plugin may do.

mod check;
mod io_limits;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::document::{self, DocumentError, KnownKeys};
use crate::{
    ByteSize, Control, CpuShare, Digest, KeyName, Mount, Permissions, Runtime, Span, Version,
    Wanted,
};

pub use check::PolicyFault;
pub use io_limits::IoLimits;

/// A policy file as written: `policy.d/PLUGIN.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyFile {
    /// Version of this format: 1.
    pub schema: u32,
    /// Plugin contract, which also names the launch template.
    pub dialect: String,
    /// What is executed: a path below the plugin's directory.
    pub entry: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Syscall profile.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// Which of its files it may execute.
    #[serde(default, skip_serializing_if = "Exec::is_entry")]
    pub exec: Exec,
    /// Optional groups of the syscall profile that are switched on, by their names with `@`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syscall_groups: Vec<String>,
    /// Whether there is a loopback in the jail's network. Without it there is no IP at all: neither
    /// the interface nor a socket for it.
    #[serde(default = "default_loopback", skip_serializing_if = "is_true")]
    pub loopback: bool,
    /// How much of `/proc` it sees.
    #[serde(default, skip_serializing_if = "ProcView::is_pid")]
    pub proc: ProcView,
    /// What of the host it needs to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// What of the host it is shown beside that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What makes the bytes trusted.
    pub trust: Trust,
    /// What is granted.
    #[serde(default)]
    pub permissions: Permissions,
    /// Resources.
    #[serde(default)]
    pub limits: Limits,
    /// Deadlines of the plugin's life and calls.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Call rates. Absent: see [`Rates`].
    #[serde(default)]
    pub rates: Rates,
    /// How much each control is wanted, by [`Control::id`]; absent ones by their default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub controls: BTreeMap<String, ControlWish>,
    /// Further environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// The syscall profile of Node.
const NODE: &str = "node";

fn default_profile() -> String {
    "default".into()
}

const fn default_loopback() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to what decides whether a field is written"
)]
const fn is_true(value: &bool) -> bool {
    *value
}

/// Which of a plugin's files may be executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exec {
    /// The entry, and what the kernel executes for it.
    #[default]
    Entry,
    /// Every file of the plugin's that has an execute bit: all of them are verified.
    Stage,
}

impl Exec {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands a reference to what decides whether a field is written"
    )]
    fn is_entry(&self) -> bool {
        *self == Self::Entry
    }
}

/// How much of `/proc` a plugin sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcView {
    /// Its own processes.
    #[default]
    Pid,
    /// Its own processes and the machine's processors, memory, load and version; the rest of the
    /// kernel's is masked.
    Full,
}

impl ProcView {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands a reference to what decides whether a field is written"
    )]
    fn is_pid(&self) -> bool {
        *self == Self::Pid
    }
}

/// What makes a plugin's bytes trusted: exactly one of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trust {
    /// The digest of the stage, pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Anything in the directory runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
    /// Names of keys of the keys directory, one of which must have signed the entry or the package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<KeyName>,
    /// That it must have signed the whole package. With `signed-by`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub package: bool,
    /// The least version that the package's signature may state. With `signed-by`; needs such a
    /// signature, whatever `package` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_version: Option<Version>,
}

/// How much a control is wanted: a word, or a word and why the risk is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ControlWish {
    /// `required`, `preferred` or `off`.
    Plain(Wanted),
    /// Less than the default, with the reason.
    Lowered {
        /// The word.
        wanted: Wanted,
        /// Why.
        #[serde(rename = "i-accept-the-risk")]
        reason: String,
    },
}

/// Resources of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Memory, tmpfs included, without swap.
    pub memory: ByteSize,
    /// Processor time.
    pub cpu: CpuShare,
    /// Processes and threads together.
    pub processes: u32,
    /// Size of `/tmp` and of the template's own temporary directory, each.
    pub tmp: ByteSize,
    /// Open files.
    pub files: u32,
    /// Largest file written.
    pub file_size: ByteSize,
    /// What the plugin's lasting directory may take on its disk.
    pub state: ByteSize,
    /// Files and directories in it.
    pub state_files: u32,
    /// The processors that it may run on, by number; empty is all of them, and is not written.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "some_processors"
    )]
    pub cpu_affinity: Vec<u16>,
    /// Reads and writes at the disk of the plugin's own directory; absent is unlimited.
    #[serde(skip_serializing_if = "IoLimits::is_empty")]
    pub io: IoLimits,
}

impl Limits {
    /// The processors that it may run on as the kernel writes a set of them (cpuset(7), "List format"):
    /// `0-1,3`; `all` where any will do.
    #[must_use]
    pub fn processors(&self) -> String {
        let mut numbers = self.cpu_affinity.clone();
        numbers.sort_unstable();
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        let texts: Vec<String> = ranges
            .into_iter()
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            })
            .collect();
        match texts.is_empty() {
            true => "all".into(),
            false => texts.join(","),
        }
    }
}

/// All of them is said by saying nothing: a list of none may be meant otherwise.
fn some_processors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
    let numbers = Vec::deserialize(deserializer)?;
    match numbers.is_empty() {
        true => Err(serde::de::Error::custom(
            "cpu-affinity names no processor: name at least one, or take the key away for all of them",
        )),
        false => Ok(numbers),
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mebibytes(256),
            cpu: CpuShare { percent: 100 },
            processes: 64,
            tmp: ByteSize::mebibytes(16),
            files: 256,
            file_size: ByteSize::mebibytes(64),
            state: ByteSize::mebibytes(1024),
            state_files: 65_536,
            cpu_affinity: Vec::new(),
            io: IoLimits::default(),
        }
    }
}

/// Deadlines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Timeouts {
    /// From exec to the handshake line.
    pub handshake: Span,
    /// For the dialect's initialisation.
    pub init: Span,
    /// For one call.
    pub call: Span,
    /// For the dialect's orderly end.
    pub shutdown: Span,
    /// From there to the forced end.
    pub quit: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Span::seconds(10),
            init: Span::seconds(10),
            call: Span::seconds(30),
            shutdown: Span::seconds(5),
            quit: Span::seconds(2),
        }
    }
}

/// Call rates of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Rates {
    /// Calls into the plugin a second; absent is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<u32>,
    /// Host calls a second for each service; absent is 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_calls_per_second: Option<u32>,
    /// Queries and statements a minute; absent leaves it to the rate above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries_per_minute: Option<u32>,
    /// HTTP requests a minute; absent is 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_requests_per_minute: Option<u32>,
}

const KEYS: &KnownKeys = &[
    (
        "",
        &[
            "schema",
            "dialect",
            "entry",
            "args",
            "profile",
            "exec",
            "syscall-groups",
            "loopback",
            "proc",
            "runtime",
            "mounts",
            "trust",
            "permissions",
            "limits",
            "timeouts",
            "rates",
            "controls",
            "env",
        ],
    ),
    ("runtime", &["interpreter", "args", "loader", "paths"]),
    ("mounts", &["source", "target", "rw"]),
    (
        "trust",
        &[
            "digest",
            "unsigned",
            "signed-by",
            "package",
            "least-version",
        ],
    ),
    (
        "permissions",
        &["db", "cache", "http", "email", "config", "plugin-call"],
    ),
    ("permissions.db", &["database", "tables", "access", "ddl"]),
    (
        "permissions.http",
        &["hosts", "methods", "paths", "tunnel", "addresses"],
    ),
    (
        "limits",
        &[
            "memory",
            "cpu",
            "processes",
            "tmp",
            "files",
            "file-size",
            "state",
            "state-files",
            "cpu-affinity",
            "io",
        ],
    ),
    ("limits.io", &["read", "write", "read-ops", "write-ops"]),
    (
        "timeouts",
        &["handshake", "init", "call", "shutdown", "quit"],
    ),
    (
        "rates",
        &[
            "calls-per-second",
            "host-calls-per-second",
            "queries-per-minute",
            "http-requests-per-minute",
        ],
    ),
    ("controls.*", &["wanted", "i-accept-the-risk"]),
];

/// Why a policy file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not a document of this shape.
    #[error("{0}")]
    Document(DocumentError),
    /// A format of another time.
    #[error("schema is {schema}, this version reads 1")]
    Schema {
        /// What the file says.
        schema: u32,
    },
    /// Something asked of a signature that is not asked for.
    #[error("[trust] has package or least-version without signed-by: who is to have signed?")]
    PackageUnsigned,
    /// None or several of the three.
    #[error("[trust] needs exactly one of digest, unsigned = true and signed-by, has {found}")]
    Trust {
        /// How many it has.
        found: usize,
    },
    /// An entry that leaves the plugin's directory or is none.
    #[error("entry {entry:?} is no path below the plugin's directory")]
    Entry {
        /// What the file says.
        entry: String,
    },
    /// An entry that is a detached signature: no digest covers those, and they are not staged.
    #[error("entry {entry:?} is a signature, and those are in no stage")]
    EntryIsSignature {
        /// What the file says.
        entry: String,
    },
    /// A value that would do harm.
    #[error("{key} is {value}: {why}")]
    Value {
        /// Dotted key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No such control.
    #[error("[controls] has no {control:?}{}", .nearest.map_or(String::new(), |near| format!(", did you mean {near:?}?")))]
    Control {
        /// What the file says.
        control: String,
        /// The nearest known one.
        nearest: Option<&'static str>,
    },
    /// A wall wanted less than it must be, or without a reason.
    #[error("[controls] {control} cannot be {wanted}{}", if .control.may_be_lowered() { " without i-accept-the-risk = \"reason\"" } else { ": only limits can be lowered" })]
    Lowered {
        /// The control.
        control: Control,
        /// What the file wants.
        wanted: Wanted,
    },
    /// A variable that would change what the program is.
    #[error("[env] may not set {name:?}: {why}")]
    Environment {
        /// The variable.
        name: String,
        /// The reason.
        why: &'static str,
    },
}

impl PolicyFile {
    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the line or the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let policy: Self = document::read(bytes, KEYS).map_err(PolicyError::Document)?;
        match policy.faults().into_iter().next() {
            Some(fault) => Err(fault.error),
            None => Ok(policy),
        }
    }

    /// Everything for which [`Self::parse`] refuses a file, not only the first; none where it takes
    /// it.
    #[must_use]
    pub fn faults_of(bytes: &[u8]) -> Vec<PolicyFault> {
        let of_document: Vec<PolicyFault> = document::faults::<Self>(bytes, KEYS)
            .into_iter()
            .map(|error| PolicyFault {
                path: String::new(),
                error: PolicyError::Document(error),
            })
            .collect();
        if !of_document.is_empty() {
            return of_document;
        }
        match document::read::<Self>(bytes, KEYS) {
            Ok(policy) => policy.faults(),
            Err(_) => of_document,
        }
    }

    /// The tables of a policy file and the keys that each knows; one that is not listed may have any.
    #[must_use]
    pub const fn known_keys() -> &'static KnownKeys {
        KEYS
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form, scalars before tables")
    }

    /// How much `control` is wanted.
    #[must_use]
    pub fn wanted(&self, control: Control) -> Wanted {
        match self.controls.get(control.id()) {
            Some(ControlWish::Plain(wanted) | ControlWish::Lowered { wanted, .. }) => *wanted,
            // Its compiler makes code while it runs.
            None if control == Control::WriteXorExecute && self.profile == NODE => Wanted::Off,
            None if control == Control::Io && self.limits.io.is_empty() => Wanted::Off,
            None => control.default_wanted(),
        }
    }
}

#[cfg(test)]
#[path = "policy_file/tests.rs"]
mod tests;
