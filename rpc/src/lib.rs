//! HashiCorp go-plugin for Rust, spoken as its host over net/rpc, without being tied to its Go code.
//!
//! * [`handshake`]: what a plugin is started with, and the line that it prints;
//! * [`yamux`]: many streams on the one connection;
//! * [`netrpc`]: calls and replies on one stream, in gob;
//! * [`broker`]: further streams, in either direction;
//! * [`session`]: the parts together, [`PluginSession`] being one connected plugin;
//! * [`log`]: what the plugin writes to its standard error.
//!
//! It starts no process and opens no socket: it is given bytes and streams. Everything it is given counts as hostile:
//! sizes, counts and times are bounded, and what is malformed is an error that names it.
//!
//! Not here: TLS (AutoMTLS), gRPC plugins, reattaching, the plugin's side of the handshake.
#![forbid(unsafe_code)]
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

pub mod broker;
pub mod handshake;
pub mod log;
pub mod netrpc;
pub mod session;
pub mod yamux;

pub use session::PluginSession;
