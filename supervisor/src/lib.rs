//! The daemon pinfoldd, which keeps plugins running and serves them, and the command line pinfold.
//!
//! The daemon wires the other crates together: [`run`] builds the parts; `catalogue` knows every
//! plugin; `lifecycle` is the task that owns one; `dialect` has a folder for each foreign plugin
//! contract; `launcher` asks the privileged process for stages and jails; `control` is what the
//! administration sees; `store` is the daemon's own state.
//!
//! It has no rights of its own: what a jail is, the launcher decides from root-owned files.
#![forbid(unsafe_code)]

mod banner;
mod catalogue;
mod chain;
pub mod cli;
mod config;
mod control;
pub mod daemon;
mod development;
mod dialect;
mod discovery;
mod events;
mod follow;
mod grants;
mod heap;
mod install;
mod keys;
mod launcher;
mod lifecycle;
mod log_filter;
mod logs;
mod manager;
mod meters;
mod metrics;
mod pending;
mod place;
mod plugin_calls;
mod posture;
mod privileges;
mod recorder;
mod reload;
pub mod run;
mod runtime;
mod shell;
mod stage;
mod state;
mod store;
mod telemetry;
mod tokens;

pub use config::{
    Config, ConfigError, CredentialError, Credentials, DiscoverySection, GatewaySection,
    HealthSection, HostApiSection, LogFormat, PluginList, RestartSection,
};
pub use place::Place;
