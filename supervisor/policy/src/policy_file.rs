//! The policy file: the operator's root-owned document of what one plugin may do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{self, DocumentError, KnownKeys};
use crate::{
    ByteSize, Control, CpuShare, Digest, HttpGrant, KEYS_LIMIT, KeyName, Permissions,
    SIGNATURE_SUFFIX, Span, Wanted,
};

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
    /// Names of keys of the keys directory, one of which must have signed the entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<KeyName>,
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
            "trust",
            "permissions",
            "limits",
            "timeouts",
            "rates",
            "controls",
            "env",
        ],
    ),
    ("trust", &["digest", "unsigned", "signed-by"]),
    (
        "permissions",
        &["db", "cache", "http", "email", "config", "plugin-call"],
    ),
    ("permissions.db", &["database", "tables", "access", "ddl"]),
    ("permissions.http", &["hosts", "methods", "addresses"]),
    (
        "limits",
        &["memory", "cpu", "processes", "tmp", "files", "file-size"],
    ),
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
    /// None or several kinds of trust.
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
        policy.check()?;
        Ok(policy)
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
            None => control.default_wanted(),
        }
    }

    fn check(&self) -> Result<(), PolicyError> {
        if self.schema != 1 {
            return Err(PolicyError::Schema {
                schema: self.schema,
            });
        }
        let trust = &self.trust;
        let kinds = [
            trust.digest.is_some(),
            trust.unsigned,
            !trust.signed_by.is_empty(),
        ];
        match kinds.into_iter().filter(|kind| *kind).count() {
            1 => {}
            found => return Err(PolicyError::Trust { found }),
        }
        if trust.signed_by.len() > KEYS_LIMIT {
            return Err(PolicyError::Value {
                key: "trust.signed-by",
                value: format!("{} long", trust.signed_by.len()),
                why: "there are at most 256 keys",
            });
        }
        if self.entry.ends_with(SIGNATURE_SUFFIX) {
            return Err(PolicyError::EntryIsSignature {
                entry: self.entry.clone(),
            });
        }
        if !is_entry(&self.entry) {
            return Err(PolicyError::Entry {
                entry: self.entry.clone(),
            });
        }
        self.check_limits()?;
        let faults = |grant: &HttpGrant| grant.fault();
        if let Some((value, why)) = self.permissions.http.iter().find_map(faults) {
            return Err(PolicyError::Value {
                key: "permissions.http",
                value,
                why,
            });
        }
        for (id, wish) in &self.controls {
            check_wish(id, wish)?;
        }
        self.env
            .iter()
            .try_for_each(|(name, value)| check_variable(name, value))
    }

    fn check_limits(&self) -> Result<(), PolicyError> {
        let limits = &self.limits;
        let refuse = |key, value: String, why| Err(PolicyError::Value { key, value, why });
        if limits.memory < ByteSize::mebibytes(8) {
            return refuse(
                "limits.memory",
                limits.memory.to_string(),
                "no program starts in less than 8MiB",
            );
        }
        if limits.tmp.0 > limits.memory.0 / 4 {
            let why = "it is used twice and counts as memory: at most a quarter of limits.memory";
            return refuse("limits.tmp", limits.tmp.to_string(), why);
        }
        if !(4..=32_768).contains(&limits.processes) {
            return refuse(
                "limits.processes",
                limits.processes.to_string(),
                "write 4 to 32768",
            );
        }
        if !(16..=65_536).contains(&limits.files) {
            return refuse(
                "limits.files",
                limits.files.to_string(),
                "write 16 to 65536",
            );
        }
        if self.args.len() > 64
            || self
                .args
                .iter()
                .any(|arg| arg.len() > 4096 || arg.contains('\0'))
        {
            return refuse(
                "args",
                format!("{} long", self.args.len()),
                "at most 64 of 4096 bytes, without NUL",
            );
        }
        Ok(())
    }
}

/// Relative, `/`-separated, no empty, `.` or `..` part, at most 512 bytes.
fn is_entry(entry: &str) -> bool {
    entry.len() <= 512
        && !entry.contains('\0')
        && entry
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
}

fn check_wish(id: &str, wish: &ControlWish) -> Result<(), PolicyError> {
    let Some(control) = Control::from_id(id) else {
        let known = Control::ALL.iter().map(|control| control.id());
        return Err(PolicyError::Control {
            control: id.into(),
            nearest: crate::nearest(id, known),
        });
    };
    let (wanted, reason) = match wish {
        ControlWish::Plain(wanted) => (*wanted, None),
        ControlWish::Lowered { wanted, reason } => (*wanted, Some(reason.trim())),
    };
    let lowered = control.default_wanted() == Wanted::Required && wanted != Wanted::Required;
    if lowered && !(control.may_be_lowered() && reason.is_some_and(|reason| !reason.is_empty())) {
        return Err(PolicyError::Lowered { control, wanted });
    }
    Ok(())
}

/// Most bytes of one variable's value.
const VARIABLE_LIMIT_BYTES: usize = 4096;

fn check_variable(name: &str, value: &str) -> Result<(), PolicyError> {
    let refuse = |why| {
        Err(PolicyError::Environment {
            name: name.chars().take(80).collect(),
            why,
        })
    };
    let shaped = !name.is_empty()
        && name.len() <= 128
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if !shaped {
        return refuse("a name is letters, digits and _, at most 128");
    }
    if value.len() > VARIABLE_LIMIT_BYTES || value.contains('\0') {
        return refuse("a value is at most 4096 bytes without NUL");
    }
    if name.starts_with("LD_") || matches!(name, "GODEBUG" | "PYTHONPATH" | "NODE_PATH") {
        return refuse("it changes what code is loaded");
    }
    if name.starts_with("PLUGIN_") {
        return refuse("the handshake's variables are the host's");
    }
    Ok(())
}

#[cfg(test)]
#[path = "policy_file/tests.rs"]
mod tests;
