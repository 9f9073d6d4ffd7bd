//! Which lines the daemon writes to its own log.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What the log goes by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFilterView {
    /// The filter in force.
    pub filter: String,
    /// The configuration's, which is in force again when nothing else is, and after a restart.
    pub configured: String,
    /// Until when another than the configuration's is in force; absent where that has no end.
    pub until: Option<DateTime<Utc>>,
}

/// What it is to go by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLogFilter {
    /// `debug`, or `target=level` parts separated by commas, as `log` in `pinfold.toml`; at most
    /// [`LIMIT_BYTES`](Self::LIMIT_BYTES).
    pub filter: String,
    /// For how long, in seconds, 1 to [`LONGEST`](Self::LONGEST); until the daemon ends if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

impl NewLogFilter {
    /// Longest filter.
    pub const LIMIT_BYTES: usize = 1024;
    /// Longest time: what is meant to last is configuration.
    pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);
}
