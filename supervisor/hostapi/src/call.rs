//! What can be asked and answered, in the host's own terms; a dialect translates its method names
//! and argument encodings to and from these.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{HttpRequest, HttpResponse};

/// One call of a plugin to its host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HostCall {
    /// Rows of a query.
    DbQuery {
        /// Name of the database; `main` where absent.
        database: Option<String>,
        /// One statement that reads.
        sql: String,
        /// Values of its `?` placeholders, in order.
        parameters: Vec<Value>,
    },
    /// A statement that changes rows or, where granted, the schema.
    DbExec {
        /// Name of the database; `main` where absent.
        database: Option<String>,
        /// One statement that writes.
        sql: String,
        /// Values of its `?` placeholders, in order.
        parameters: Vec<Value>,
    },
    /// A value from the plugin's own cache.
    CacheGet {
        /// Its key.
        key: String,
    },
    /// A value into the plugin's own cache.
    CacheSet {
        /// Its key.
        key: String,
        /// The value.
        value: Bytes,
        /// How long it is kept; absent or zero is until it is evicted.
        ttl: Option<Duration>,
    },
    /// A value out of the plugin's own cache.
    CacheDelete {
        /// Its key.
        key: String,
    },
    /// A line of the plugin's log.
    Log {
        /// Severity.
        level: LogLevel,
        /// Text.
        message: String,
        /// Further values.
        fields: Map<String, Value>,
        /// How many more there were, which were left out before they were built.
        left_out: usize,
    },
    /// A value of the host's configuration that the operator has put there for plugins.
    ConfigGet {
        /// Its key.
        key: String,
    },
    /// A request to a server elsewhere.
    HttpRequest(HttpRequest),
    /// A function of another plugin.
    PluginCall {
        /// The plugin's name.
        plugin: String,
        /// Its function.
        function: String,
        /// Arguments, JSON text.
        arguments: Bytes,
    },
    /// Mail. This version sends none: what is granted is answered with [`crate::HostError::NotServed`].
    SendEmail,
}

impl HostCall {
    /// The service, which is what rates are counted by: `db`, `cache`, `log`, `config`, `http`,
    /// `plugin` or `email`.
    #[must_use]
    pub const fn service(&self) -> &'static str {
        match self {
            Self::DbQuery { .. } | Self::DbExec { .. } => "db",
            Self::CacheGet { .. } | Self::CacheSet { .. } | Self::CacheDelete { .. } => "cache",
            Self::Log { .. } => "log",
            Self::ConfigGet { .. } => "config",
            Self::HttpRequest(_) => "http",
            Self::PluginCall { .. } => "plugin",
            Self::SendEmail => "email",
        }
    }

    /// The operation within the service.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::DbQuery { .. } => "query",
            Self::DbExec { .. } => "exec",
            Self::CacheGet { .. } | Self::ConfigGet { .. } => "get",
            Self::CacheSet { .. } => "set",
            Self::CacheDelete { .. } => "delete",
            Self::Log { .. } => "record",
            Self::HttpRequest(_) => "request",
            Self::PluginCall { .. } => "call",
            Self::SendEmail => "send",
        }
    }
}

/// The answer to a [`HostCall`] that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostReply {
    /// [`HostCall::DbQuery`]: a JSON array of objects, column to value; `[]` where no row.
    Rows(Bytes),
    /// [`HostCall::DbExec`]: rows inserted, changed or deleted.
    Affected(u64),
    /// [`HostCall::CacheGet`]: the value, where there is one.
    Cached(Option<Bytes>),
    /// Nothing to say but that it is done.
    Done,
    /// [`HostCall::ConfigGet`]: the value.
    Text(String),
    /// [`HostCall::HttpRequest`]: the response, whatever its status.
    Http(HttpResponse),
    /// [`HostCall::PluginCall`]: the result, JSON text.
    Json(Bytes),
}

/// Severity of a plugin's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// For its author.
    Debug,
    /// Worth keeping.
    Info,
    /// Abnormal, handled.
    Warn,
    /// Something did not happen.
    Error,
}

impl LogLevel {
    /// Reads the names that plugin contracts use, without regard to case; an unknown one is
    /// [`LogLevel::Info`], for a line is never lost over its level.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Self::Debug,
            "warn" | "warning" => Self::Warn,
            "error" | "err" | "fatal" | "panic" | "critical" => Self::Error,
            _ => Self::Info,
        }
    }

    /// The level's name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}
