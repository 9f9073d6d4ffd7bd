//! HashiCorp go-plugin for Rust: handshake, yamux, net/rpc and its broker.
#![forbid(unsafe_code)]
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
pub mod handshake;
pub mod log;
pub mod yamux;
