//! What the administration API sends and takes, as JSON. The command line reads the same types.
//!
//! Times are RFC 3339 in UTC, durations have their unit in the name, lists keep their order.
//! Readers ignore members they do not know; what clients send is refused if it has unknown ones.

mod happenings;
mod log_filter;
mod record_id;
mod rescan;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pinfold_policy::{PluginId, Route, is_unprintable};
use serde::{Deserialize, Serialize};

pub use happenings::{EventQuery, EventView, FollowLine, HealthView, RejectedView};
pub use log_filter::{LogFilterView, NewLogFilter};
pub use record_id::{RecordId, RecordIdError};
pub use rescan::{Because, RescanQuery};

/// The daemon at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the daemon.
    pub version: String,
    /// `starting`, `ready` or `draining`.
    pub state: DaemonState,
    /// Since when the daemon runs.
    pub since: DateTime<Utc>,
    /// Its process id.
    pub pid: u32,
    /// How it runs: `service`, `development` or `user`.
    pub mode: String,
    /// Addresses of its listeners, as URLs.
    pub listeners: Vec<String>,
    /// Number of plugins by state.
    pub plugins: BTreeMap<String, usize>,
    /// How many of them have yet to be started, or to fail, for the first time since the daemon
    /// started; 0 once all have. It is `ready` after a while all the same.
    #[serde(default)]
    pub still_starting: usize,
    /// How many of them the daemon before this one left, by what became of that: `taken-over`,
    /// `replaced`.
    #[serde(default)]
    pub handover: BTreeMap<String, usize>,
    /// What an operator should know: development grants, missing controls.
    pub warnings: Vec<String>,
    /// What the daemon's own log goes by; absent in what an earlier version says.
    pub log: Option<LogFilterView>,
}

/// Whether the daemon serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// Plugins are being started for the first time.
    Starting,
    /// Every plugin that is to run has been started or has failed; or some take longer than the others
    /// wait for.
    Ready,
    /// Told to stop.
    Draining,
}

/// One plugin in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginView {
    /// Id: directory, policy file and mount name.
    pub id: PluginId,
    /// Name as registered; the id where it has not registered yet.
    pub name: String,
    /// Version as registered, else as in the manifest; empty where neither says.
    pub version: String,
    /// One line about it.
    pub description: String,
    /// Author.
    pub author: String,
    /// Licence, an SPDX expression by convention.
    pub license: String,
    /// Dialect: `goatflow`.
    pub dialect: String,
    /// State in its life: `ready`, `failed`, `blocked`, ….
    pub state: String,
    /// Generation of the latest instance; 0 where none was started.
    pub generation: u64,
    /// Whether the operator lets it run.
    pub enabled: bool,
    /// Routes it brings, in the order of registration.
    pub routes: Vec<Route>,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// Why it is in this state, where that is not plain.
    pub reason: Option<String>,
    /// What the trust in the running instance rests on: `package signed by "release" (version 1.2.0)`,
    /// `program signed by "release" (assets unsigned)`, `pinned digest`, `unsigned`.
    pub trust: Option<String>,
    /// Why the running instance could not be started again as it is: its key was revoked or has
    /// expired since, the policy trusts something else now. It goes on.
    #[serde(default)]
    pub trust_lost: Option<String>,
    /// Whether that was not found out: the launcher did not say so in time.
    #[serde(default)]
    pub trust_unknown: bool,
    /// Until when the running instance is watched, each of its system calls noted; absent where it is
    /// not.
    #[serde(default)]
    pub watched_until: Option<DateTime<Utc>>,
}

impl PluginView {
    /// Whether an instance of it serves. One that drains takes no new calls.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        matches!(self.state.as_str(), "ready" | "degraded")
    }

    /// What of the running instance is signed, in a word: `package`, `program`, `pinned` (its digest
    /// is in the policy) or `nothing`; absent where none runs.
    #[must_use]
    pub fn signed(&self) -> Option<&'static str> {
        let trust = self.trust.as_deref()?;
        Some(match trust {
            trust if trust.starts_with("package signed") => "package",
            trust if trust.starts_with("program signed") => "program",
            trust if trust.starts_with("pinned") => "pinned",
            _ => "nothing",
        })
    }

    /// The same for people, who are not to overlook that what was trusted at its start no longer is:
    /// `package, LOST`; nor that nobody knows: `package, ?`. `-` where none runs.
    #[must_use]
    pub fn signed_now(&self) -> String {
        let signed = self.signed().unwrap_or("-");
        match self.trust_lost {
            Some(_) => format!("{signed}, LOST"),
            None if self.trust_unknown => format!("{signed}, ?"),
            None => signed.to_owned(),
        }
    }
}

/// Everything about one plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginDetail {
    /// What the list says too.
    #[serde(flatten)]
    pub view: PluginView,
    /// Digest of the stage that runs, `sha256:…`.
    pub digest: Option<String>,
    /// Process id on the host of the plugin's own process.
    pub pid: Option<u32>,
    /// Whether that process was started by the daemon before this one, and was taken over.
    #[serde(default)]
    pub taken_over: bool,
    /// What became of the instance that the daemon before this one left, where it did: `taken over`, or
    /// `replaced` and why.
    #[serde(default)]
    pub handover: Option<String>,
    /// What the manifest says, by key, as text for people.
    pub manifest: BTreeMap<String, String>,
    /// What the manifest asks for, a line each.
    pub asked_by_manifest: Vec<String>,
    /// What the registration asks for, a line each; absent before it has registered.
    pub asked_by_registration: Option<Vec<String>>,
    /// What the policy grants, a line each.
    pub granted: Vec<String>,
    /// Where the three differ, a line each.
    pub differences: Vec<String>,
    /// What was declared and is not mounted or not served, each with the reason.
    pub refused: Vec<String>,
    /// Limits in force, by name, with their unit.
    pub limits: BTreeMap<String, String>,
    /// Controls that the policy prefers and this kernel or this build does not give.
    pub missing_controls: Vec<ControlView>,
    /// How the last instance ended.
    pub last_exit: Option<String>,
    /// Times it was started again after it had ended by itself, since the daemon's start.
    pub restarts: u64,
    /// When it is started again, while it backs off.
    pub next_start: Option<DateTime<Utc>>,
    /// How the instance that serves answers when it is asked whether it lives.
    pub health: Option<HealthView>,
    /// A newer version that was not taken, while the old one goes on.
    pub rejected: Option<RejectedView>,
    /// Counters of the instance that runs, by name.
    pub stats: BTreeMap<String, u64>,
    /// Addresses of its routes: method, a space, the URL.
    pub urls: Vec<String>,
}

/// What the plugins use and have used, at one moment. Counters begin with the daemon's start and
/// only grow while a plugin is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageView {
    /// When it was looked at.
    pub time: DateTime<Utc>,
    /// When the launcher was asked for what jails use, which may be a little before.
    pub resources_time: Option<DateTime<Utc>>,
    /// Each plugin, by name.
    pub plugins: Vec<PluginUsage>,
}

/// What one plugin uses and has used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginUsage {
    /// The plugin.
    pub id: PluginId,
    /// State in its life.
    pub state: String,
    /// Times it was started again after it had ended by itself.
    pub restarts: u64,
    /// Requests under way to it.
    pub in_flight: u64,
    /// Calls made of it, however they ended.
    pub calls: u64,
    /// Those that gave no result; not those that their caller gave up.
    pub failures: u64,
    /// Requests that were refused for want of a place, or over its rate.
    pub refused: u64,
    /// Calls by how long they took, each in one bucket; not those that their caller gave up.
    pub latency: Vec<LatencyBucket>,
    /// Calls that it made of the host.
    pub host_calls: u64,
    /// Those of them that were refused: not granted, or over a rate.
    pub host_calls_refused: u64,
    /// Memory that its jail uses, without what the kernel keeps of files and can take back; absent where nothing
    /// runs or nothing tells.
    pub memory_bytes: Option<u64>,
    /// Memory that its jail may use.
    pub memory_limit_bytes: Option<u64>,
    /// Processor time that its jails used.
    pub cpu_seconds: Option<f64>,
    /// Processes and threads in its jail.
    pub tasks: Option<u64>,
}

/// Calls that took no longer than this, and longer than the bucket before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// Upper bound; absent in the last.
    pub up_to_seconds: Option<f64>,
    /// Number of calls.
    pub calls: u64,
}

/// Which controls are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureView {
    /// The plugin that it is about; absent for the machine.
    pub plugin: Option<PluginId>,
    /// How the launcher runs: `root` or `user`.
    pub mode: String,
    /// Kernel release.
    pub kernel: String,
    /// Where policies come from: `operator` or `development`.
    pub policy_trust: String,
    /// Each control, in a fixed order.
    pub controls: Vec<ControlView>,
    /// Further facts, a line each.
    pub notes: Vec<String>,
}

/// One control of the jail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlView {
    /// Stable id: `seccomp`.
    pub id: String,
    /// One sentence about it.
    pub about: String,
    /// How much it is wanted: `required`, `preferred`, `off`.
    pub wanted: String,
    /// What it is here.
    pub state: ControlState,
    /// Why it is not in force, or what limits it.
    pub reason: Option<String>,
}

/// What a control is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlState {
    /// The kernel enforces it.
    InForce,
    /// This kernel, or this way of running, cannot give it.
    Missing,
    /// It was in force since the launcher's start, and is no more.
    Failed,
    /// This version does not have it yet.
    NotBuilt,
    /// The policy does not ask for it.
    Off,
}

/// Which log records are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// Most records, 1 to [`LogQuery::MAX_LIMIT`]; the latest are kept.
    pub limit: usize,
    /// The least severe level wanted.
    pub level: Option<LogLevel>,
    /// Only what came this way.
    pub stream: Option<LogStream>,
    /// Whether to go on with each record as it comes.
    pub follow: bool,
}

impl LogQuery {
    /// Most records that are given at once.
    pub const MAX_LIMIT: usize = 1000;

    /// Whether a record is one of those wanted.
    #[must_use]
    pub fn wants(&self, record: &LogRecord) -> bool {
        self.stream.is_none_or(|stream| record.stream == stream)
            && self.level.is_none_or(|least| record.level >= least)
    }
}

impl Default for LogQuery {
    fn default() -> Self {
        Self {
            limit: 100,
            level: None,
            stream: None,
            follow: false,
        }
    }
}

/// Severity of a log record, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Frames and steps.
    Trace,
    /// Details.
    Debug,
    /// Plain news.
    Info,
    /// Abnormal, handled.
    Warn,
    /// Something failed.
    Error,
}

/// Which way a log record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// The plugin's standard output.
    Stdout,
    /// The plugin's standard error.
    Stderr,
    /// The host's log service, called by the plugin.
    Log,
    /// What the daemon notes about the plugin: started, ended, refused.
    Host,
}

/// One line that a plugin printed or logged, or that is about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it came.
    pub time: DateTime<Utc>,
    /// Which way.
    pub stream: LogStream,
    /// Its severity; standard output is `info`.
    pub level: LogLevel,
    /// Generation of the instance.
    pub generation: u64,
    /// The text, length-limited, control characters escaped.
    pub message: String,
    /// Named values beside it.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// A token that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What the operator calls it.
    pub name: String,
    /// Id of the user for whom it stands.
    pub user: String,
    /// Roles; `admin` is the administrator's.
    #[serde(default)]
    pub roles: Vec<String>,
    /// When it shall end by itself.
    #[serde(default)]
    pub expires: Option<DateTime<Utc>>,
}

/// Why no token is made of what is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadToken {
    /// A text that cannot be printed, compared and stored.
    #[error(
        "{what} has {bytes} bytes, or characters that are not shown: 1 to {} bytes that are shown are taken",
        NewToken::NAME_LIMIT_BYTES
    )]
    Text {
        /// `name`, `user` or `role`.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Too many roles.
    #[error("{count} roles, at most {} are taken", NewToken::ROLE_LIMIT)]
    Roles {
        /// How many.
        count: usize,
    },
}

impl NewToken {
    /// Longest name of a token or a user, and of a role, in bytes.
    pub const NAME_LIMIT_BYTES: usize = 128;
    /// Most roles of one token.
    pub const ROLE_LIMIT: usize = 32;

    /// Checks what is asked for, but for what others there are.
    ///
    /// # Errors
    /// [`BadToken`]
    pub fn check(&self) -> Result<(), BadToken> {
        let texts = [("name", &self.name), ("user", &self.user)].into_iter();
        let roles = self.roles.iter().map(|role| ("role", role));
        for (what, text) in texts.chain(roles) {
            let bytes = text.len();
            let fits = (1..=Self::NAME_LIMIT_BYTES).contains(&bytes);
            if !fits || text.chars().any(is_unprintable) {
                return Err(BadToken::Text { what, bytes });
            }
        }
        if self.roles.len() > Self::ROLE_LIMIT {
            let count = self.roles.len();
            return Err(BadToken::Roles { count });
        }
        Ok(())
    }
}

/// A token just made. Its text is shown this once; `Debug` does not print it.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The token's text, for the `Authorization: Bearer` header.
    pub token: String,
    /// What the list says of it.
    #[serde(flatten)]
    pub view: TokenView,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken")
            .field("token", &"[redacted]")
            .field("view", &self.view)
            .finish()
    }
}

/// One token in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Id, by which it is revoked.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// Id of the user.
    pub user: String,
    /// Roles.
    pub roles: Vec<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it ends by itself, if it does.
    pub expires: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked: Option<DateTime<Utc>>,
}

/// What the API answers when it refuses or fails: problem details (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the code says more than a page could.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What went wrong, for people.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// Id of the request, by which the log has it.
    pub request_id: String,
}
