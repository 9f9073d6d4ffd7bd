//! A gateway on a real socket, with raw clients before it and instances of our making behind it.
#![expect(
    clippy::unwrap_used,
    reason = "a test asserts by panicking, its helpers too"
)]

mod access_log;
mod administration;
mod bounds;
mod client;
mod daemon;
mod ending;
mod goatflow;
mod neighbours;
mod statuses;
