//! Go's net/rpc over one byte stream: a gob stream in each direction, a header in front of each argument and reply.
//!
//! [`Client`] calls, [`serve`] and [`serve_until`] answer. Either works on any tokio byte stream; on one of a yamux
//! connection [`Client::start_direct`] costs less. Calls run concurrently, replies come in any
//! order. Everything that is read is bounded by [`pinfold_gob::Limits`]; calls under way, requests served at once and
//! bytes not yet written are bounded too.
mod body;
mod client;
mod error;
mod header;
mod outbox;
mod pending;
mod reader;
mod refusals;
mod replies;
mod schema;
mod server;
mod services;

pub use body::Body;
pub use client::{Client, ClientConfig};
pub use error::{CallError, End};
pub use server::{ServerConfig, serve, serve_until};
pub use services::{Place, Request, Services};
