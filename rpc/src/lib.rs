//! HashiCorp go-plugin for Rust: handshake, yamux, net/rpc and its broker.
#![forbid(unsafe_code)]
