//! net/rpc, broker and session against peers that are slow, wrong or gone.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall fail at once"
)]

mod broker;
mod client;
mod hostile;
mod server;
mod session;

use std::time::Duration;

use tokio::time::Instant;

/// A deadline that no working test reaches.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}
