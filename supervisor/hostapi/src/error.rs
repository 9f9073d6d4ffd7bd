//! Why a call was not carried out, with its classification.

use std::time::Duration;

use pinfold_policy::{PluginId, Refusal};

use crate::cache::CACHE_TOTAL_LIMIT_BYTES;
use crate::http::HttpError;
use crate::plugin::{PLUGIN_CALL_DEPTH_LIMIT, PluginCallError};
use crate::{DatabaseError, StatementError};

/// Why a call was not carried out. The text, with its sources joined by `: `, may be shown to the
/// plugin: it names what the plugin itself passed and which permission was missing, no path and
/// nothing of the host. It has no plugin name in front: a dialect adds what its contract wants.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Not granted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Over the service's rate.
    #[error("{} rate limit exceeded", rate_name(.service))]
    RateLimited {
        /// As [`crate::HostCall::service`].
        service: &'static str,
        /// After how long a call passes again; absent where the rate is zero.
        retry_after: Option<Duration>,
    },
    /// A statement that is not allowed whatever is granted, or cannot be understood.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The database did not carry the statement out.
    #[error("{method} failed")]
    Database {
        /// `query` or `exec`.
        method: &'static str,
        /// Why.
        source: DatabaseError,
    },
    /// No database has that name.
    #[error("database {name:?} not found")]
    UnknownDatabase {
        /// The name asked for.
        name: String,
    },
    /// The operator has configured none.
    #[error("no databases configured")]
    NoDatabases,
    /// Something that the plugin passed, or a result, is over its limit.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// The limit.
        limit_bytes: usize,
    },
    /// A query has more rows than are given back.
    #[error("result has more than {limit} rows")]
    TooManyRows {
        /// The limit.
        limit: usize,
    },
    /// Not as many values as placeholders.
    #[error("statement has {expected} placeholders, {given} parameters given")]
    ParameterCount {
        /// Placeholders of the statement.
        expected: usize,
        /// Values passed.
        given: usize,
    },
    /// The call's own deadline, or the time limit of one statement, has passed.
    #[error("deadline exceeded")]
    Deadline,
    /// The operator has not set that key.
    #[error("unknown config key: {key}")]
    UnknownConfigKey {
        /// The key asked for.
        key: String,
    },
    /// A permitted HTTP request gave no response.
    #[error("HTTP request failed")]
    Http(#[from] HttpError),
    /// A chain of calls from plugin to plugin is too long.
    #[error("plugin call depth exceeded (max {PLUGIN_CALL_DEPTH_LIMIT}): {caller} -> {target}")]
    PluginCallDepth {
        /// Who calls.
        caller: PluginId,
        /// Who was to be called.
        target: String,
    },
    /// The call of another plugin gave no result.
    #[error("call of plugin {target:?}, function {function:?}")]
    PluginCall {
        /// The plugin asked for.
        target: String,
        /// Its function.
        function: String,
        /// Why.
        source: PluginCallError,
    },
    /// As many calls of one kind are under way as the plugin may have.
    #[error("more than {limit} {what} are under way")]
    TooManyUnderWay {
        /// What kind, in the plural.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// What the plugin passed cannot be read, or names no method: in the dialect's words.
    #[error("{text}")]
    Unread {
        /// Why.
        text: String,
    },
    /// Granted, and this version has no such service.
    #[error("{service} is not served")]
    NotServed {
        /// As [`crate::HostCall::service`].
        service: &'static str,
    },
    /// The caches of all plugins together are at their limit.
    #[error("cache is full: the plugins together hold {CACHE_TOTAL_LIMIT_BYTES} bytes")]
    CacheFull,
}

fn rate_name(service: &str) -> &str {
    match service {
        "db" => "DB query",
        "http" => "HTTP request",
        "plugin" => "plugin call",
        "other" => "host call",
        other => other,
    }
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Configuration or grants.
    Operator,
    /// The plugin asked for what it may not, or wrongly.
    Plugin,
    /// Pinfold.
    Host,
    /// What Pinfold calls: a database, a server, another plugin.
    Upstream,
}

/// When the same call may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not without a change.
    Never,
    /// At once.
    Now,
    /// After this long.
    After(Duration),
}

/// When a lock or a full queue is worth another try.
pub(crate) const CONTENTION_RETRY: Duration = Duration::from_millis(100);

impl HostError {
    /// Every code that [`HostError::code`] can return.
    pub const CODES: [&'static str; 39] = [
        "hostapi.refused",
        "hostapi.rate-limited",
        "hostapi.too-large",
        "hostapi.deadline",
        "hostapi.unread",
        "hostapi.not-served",
        "hostapi.config.unknown-key",
        "hostapi.cache.full",
        "hostapi.under-way",
        "hostapi.http.request",
        "hostapi.http.not-found",
        "hostapi.http.connect",
        "hostapi.http.tls",
        "hostapi.http.response",
        "hostapi.http.deadline",
        "hostapi.http.redirect",
        "hostapi.plugin.depth",
        "hostapi.plugin.not-found",
        "hostapi.plugin.disabled",
        "hostapi.plugin.not-ready",
        "hostapi.plugin.deadline",
        "hostapi.plugin.overloaded",
        "hostapi.plugin.failed",
        "hostapi.plugin.broken",
        "hostapi.db.statement",
        "hostapi.db.unparsable",
        "hostapi.db.unknown-database",
        "hostapi.db.no-databases",
        "hostapi.db.too-many-rows",
        "hostapi.db.parameter-count",
        "hostapi.db.locked",
        "hostapi.db.queue-full",
        "hostapi.db.full",
        "hostapi.db.read-only",
        "hostapi.db.constraint",
        "hostapi.db.rejected",
        "hostapi.db.too-big",
        "hostapi.db.memory",
        "hostapi.db.unavailable",
    ];

    /// Stable dotted code, never reused.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "hostapi.refused",
            Self::RateLimited { .. } => "hostapi.rate-limited",
            Self::Statement(StatementError::Unparsable { .. }) => "hostapi.db.unparsable",
            Self::Statement(_) => "hostapi.db.statement",
            Self::Database { source, .. } => source.code(),
            Self::UnknownDatabase { .. } => "hostapi.db.unknown-database",
            Self::NoDatabases => "hostapi.db.no-databases",
            Self::TooLarge { .. } => "hostapi.too-large",
            Self::TooManyRows { .. } => "hostapi.db.too-many-rows",
            Self::ParameterCount { .. } => "hostapi.db.parameter-count",
            Self::Deadline => "hostapi.deadline",
            Self::Unread { .. } => "hostapi.unread",
            Self::NotServed { .. } => "hostapi.not-served",
            Self::UnknownConfigKey { .. } => "hostapi.config.unknown-key",
            Self::CacheFull => "hostapi.cache.full",
            Self::TooManyUnderWay { .. } => "hostapi.under-way",
            Self::PluginCallDepth { .. } => "hostapi.plugin.depth",
            Self::Http(error) => error.code(),
            Self::PluginCall { source, .. } => source.code(),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(_)
            | Self::RateLimited { .. }
            | Self::Statement(_)
            | Self::TooLarge { .. }
            | Self::TooManyRows { .. }
            | Self::ParameterCount { .. }
            | Self::TooManyUnderWay { .. }
            | Self::PluginCallDepth { .. }
            | Self::Unread { .. }
            | Self::Deadline => Fault::Plugin,
            Self::UnknownDatabase { .. } | Self::NoDatabases | Self::UnknownConfigKey { .. } => {
                Fault::Operator
            }
            Self::CacheFull | Self::NotServed { .. } => Fault::Host,
            Self::Database { source, .. } => source.fault(),
            Self::Http(error) if error.is_of_plugin() => Fault::Plugin,
            Self::Http(error) if error.is_of_operator() => Fault::Operator,
            Self::Http(_) => Fault::Upstream,
            Self::PluginCall { source, .. } => source.fault(),
        }
    }

    /// When the same call may succeed.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::RateLimited {
                retry_after: Some(after),
                ..
            } => Retry::After(*after),
            Self::CacheFull | Self::TooManyUnderWay { .. } => Retry::After(CONTENTION_RETRY),
            Self::PluginCall { source, .. } => source.retry(),
            Self::Database {
                source: DatabaseError::Locked | DatabaseError::QueueFull,
                ..
            } => Retry::After(CONTENTION_RETRY),
            _ => Retry::Never,
        }
    }

    /// The text with its sources, joined by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The text of an error with its sources, joined by `: `; without those that the one above them ends with.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}
