//! HTTP in front of plugins, and the administration API.
//!
//! The gateway knows plugins as [`Instance`]s in a [`Table`] that is swapped whole, users through
//! [`Tokens`], and the daemon through [`admin::Control`]. It starts no plugin, keeps no state of
//! its own beyond counters, and has no TLS: a listener off loopback is refused unless a proxy
//! stands in front.
#![forbid(unsafe_code)]

pub mod admin;
mod audit;
mod authenticate;
mod config;
mod path;
mod plugin;
mod refusal;
mod table;
pub mod token;

pub use audit::{Actor, Audit, AuditRecord, Decision};
pub use authenticate::{Tokens, TokensError};
pub use config::{Compat, ConfigError, GatewayConfig, ListForm};
pub use path::PatternError;
pub use plugin::{CallError, Fault, Instance, PluginRequest, PluginResponse, Retry};
pub use table::{
    ConflictCause, Entry, RESERVED_PREFIXES, ROUTES_PER_PLUGIN_LIMIT, RouteConflict, Shared, Table,
};
