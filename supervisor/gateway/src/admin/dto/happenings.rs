//! What happened to plugins, and following it: events and log records as they come.

use chrono::{DateTime, Utc};
use pinfold_policy::PluginId;
use serde::{Deserialize, Serialize};

use super::LogRecord;

/// Something that happened to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Counts from 1 with each start of the daemon, without a gap.
    pub number: u64,
    /// When.
    pub time: DateTime<Utc>,
    /// To which plugin.
    pub plugin: PluginId,
    /// The instance that it is about; 0 where there is none yet.
    pub generation: u64,
    /// `state-changed`, `reloaded`, `rejected`.
    pub kind: String,
    /// State before, where it has changed.
    pub from: Option<String>,
    /// State after.
    pub to: Option<String>,
    /// Why, where there is more to say than the kind does.
    pub cause: Option<String>,
}

/// Which events are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventQuery {
    /// Only those after this number. One larger than the latest is of an earlier start of the
    /// daemon, and counts as none.
    pub after: Option<u64>,
    /// Most events, 1 to [`EventQuery::MAX_LIMIT`]; the latest are given. With `follow`, of those
    /// that are there already, and then it may be 0.
    pub limit: usize,
    /// Only those of this plugin.
    pub plugin: Option<PluginId>,
    /// Whether to go on with each event as it comes.
    pub follow: bool,
}

impl EventQuery {
    /// Most events that are given at once, and kept.
    pub const MAX_LIMIT: usize = 1000;
}

impl Default for EventQuery {
    fn default() -> Self {
        Self {
            after: None,
            limit: 100,
            plugin: None,
            follow: false,
        }
    }
}

/// One line of what a follower reads: a JSON object with one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FollowLine {
    /// An event.
    Event(EventView),
    /// A log record.
    Log(LogRecord),
    /// So many events or records are gone that came since the line before, whatever they were
    /// about: the follower was too slow, or asked for what is no longer kept.
    Missed(u64),
    /// Nothing has happened for a while, and the daemon lives.
    Heartbeat(DateTime<Utc>),
    /// Nothing more will come, and why.
    End(String),
}

/// How an instance answers when it is asked whether it lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthView {
    /// When it was last asked.
    pub last_ping: Option<DateTime<Utc>>,
    /// How often in a row it has not answered in time.
    pub failures: u32,
    /// How long its latest answer took.
    pub round_trip_seconds: Option<f64>,
}

/// A version of a plugin that was not taken, while the old one goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedView {
    /// When.
    pub time: DateTime<Utc>,
    /// Its files, where they could be staged.
    pub digest: Option<String>,
    /// Why, with what to do where there is something.
    pub reason: String,
}
