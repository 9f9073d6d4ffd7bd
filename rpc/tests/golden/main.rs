//! Recorded streams and outcomes of HashiCorp's Go implementation, replayed against this crate.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its data shall fail at once"
)]

mod go_types;
mod handshake_lines;
mod netrpc_calls;
mod plugin_session;
mod stderr_log;
mod vectors;
mod yamux_raw;
mod yamux_scenarios;
