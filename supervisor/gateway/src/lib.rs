//! HTTP in front of plugins, and the administration API.
//!
//! One request walks through separate places, a module each, in this order: `listen`,
//! `authenticate`, `route`, `authorise`, `limit`, `audit`, then the current entry of the [`Table`]
//! and its [`Instance`] (`forward`), and `respond`. [`Gateway`] puts them in a row.
//!
//! The gateway knows plugins as [`Instance`]s in a [`Table`] that is swapped whole, users through
//! [`Tokens`], and the daemon through [`admin::Control`]. It starts no plugin, keeps no state of
//! its own beyond counters, and has no TLS: a listener off loopback is refused unless a proxy
//! stands in front.
#![forbid(unsafe_code)]

mod access_log;
pub mod admin;
mod answers;
mod audit;
mod authenticate;
mod authorise;
mod body;
mod config;
mod content_security;
mod entropy;
mod failure;
mod forward;
mod gateway;
mod goatflow;
mod limit;
mod listen;
mod meter;
mod path;
mod plugin;
mod refusal;
mod request_id;
mod respond;
mod route;
mod table;
pub mod token;

pub use audit::{Actor, Audit, AuditRecord, Decision};
pub use authenticate::{Tokens, TokensError};
pub use config::{Compat, ConfigError, GatewayConfig, ListForm};
pub use content_security::{ContentSecurity, ContentSecurityError};
pub use entropy::random;
pub use gateway::{Gateway, ServeError};
pub use limit::{Capacity, Meter};
pub use listen::Drained;
pub use meter::{CallCounts, OUTCOMES, REFUSALS};
pub use path::PatternError;
pub use plugin::{CallError, Fault, Instance, PluginRequest, PluginResponse, Retry};
pub use route::RoutePattern;
pub use table::{
    ConflictCause, Entry, RESERVED_PREFIXES, ROUTES_PER_PLUGIN_LIMIT, RouteConflict, Shared, Table,
};
