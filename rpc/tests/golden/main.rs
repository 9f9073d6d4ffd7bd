//! Recorded streams and outcomes of HashiCorp's Go implementation, replayed against this crate.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its data shall fail at once"
)]

mod handshake_lines;
mod stderr_log;
mod vectors;
mod yamux_raw;
mod yamux_scenarios;
