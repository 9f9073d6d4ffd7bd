//! The dispatcher and its services as a dialect sees them, on real database files.
//!
//! What is refused here is also done on a plain connection beside it, so that no test passes only
//! because the thing could not have worked anyway.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod attacks;
mod database;
mod dispatch;
mod engine;
mod http;
mod limits;
mod oracle;
mod plugins;
mod reach;
mod schema;
mod world;
