//! What a plugin may ask of its host, and the one dispatcher through which every such call goes:
//! identify by connection, meter, authorise, run with a deadline, audit.
//!
//! It knows no dialect: method names, argument encodings and error prefixes of a plugin contract
//! are its dialect's. It keeps no log and no audit trail of its own: both go to sinks.
//!
//! Main types: [`HostApi`] and its [`Services`], [`Caller`], [`HostCall`], [`HostReply`],
//! [`HostError`]; [`Databases`], [`Cache`] and [`HttpClient`]; [`AuditSink`], [`LogSink`] and [`PluginCalls`].
#![forbid(unsafe_code)]

mod allowance;
mod audit;
mod authorize;
mod cache;
mod call;
mod caller;
mod config;
mod db;
mod dispatch;
mod error;
mod http;
mod log;
mod plugin;
mod quota;
mod recent;
mod under_way;
mod would;

pub use audit::{AuditEntry, AuditSink, Decision};
pub use cache::{
    CACHE_KEY_LIMIT_BYTES, CACHE_PLUGIN_LIMIT_BYTES, CACHE_TOTAL_LIMIT_BYTES,
    CACHE_VALUE_LIMIT_BYTES, Cache,
};
pub use call::{HostCall, HostReply, LogLevel};
pub use caller::Caller;
pub use config::CONFIG_KEY_LIMIT_BYTES;
pub use db::{
    Classified, DatabaseConfig, DatabaseError, Databases, Dialect, NEEDLE_LIMIT_BYTES,
    OpenDatabaseError, OpenFailure, PARAMETER_LIMIT, PARAMETERS_LIMIT_BYTES, RESULT_LIMIT_BYTES,
    ROW_LIMIT, RowChanges, SQL_LIMIT_BYTES, STATEMENT_TIME_LIMIT, StatementError, StatementKind,
    classify, fuzz_classify,
};
pub use dispatch::{HostApi, Services};
pub use error::{Fault, HostError, Retry};
pub use http::{
    HEADER_LIMIT, HEADERS_LIMIT_BYTES, HttpClient, HttpConfig, HttpError, HttpRequest,
    HttpResponse, HttpSetupError, LookupPlace, Resolve, Roots, RootsError, SystemResolver,
    URL_LIMIT_BYTES, serve_proxy,
};
pub use log::{LOG_FIELDS_LIMIT_BYTES, LOG_MESSAGE_LIMIT_BYTES, LogSink};
pub use plugin::{
    FUNCTION_NAME_LIMIT_BYTES, PLUGIN_CALL_DEPTH_LIMIT, PLUGIN_CALL_LIMIT_BYTES,
    PLUGIN_CALLS_AT_ONCE, PluginCallError, PluginCalls,
};
pub use quota::{DEFAULT_CALLS_PER_SECOND, DEFAULT_REQUESTS_PER_MINUTE};
pub use would::{Permitted, would_permit, would_permit_tunnel};
