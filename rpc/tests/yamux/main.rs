//! yamux against itself and against hostile bytes: properties of the state machine, behaviour of connections.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall fail at once"
)]

mod connection;
mod consumer;
mod hostile;
mod simulation;
