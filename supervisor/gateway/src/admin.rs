//! The administration API, `/api/pinfold/v1`: what it can do ([`Control`]), what it says
//! ([`dto`]), and how it is served: on a Unix socket ([`serve_unix`]), and on a gateway's listener
//! to administrators.

mod control;
pub mod dto;
mod follow;
mod problem;
mod routes;
mod unix;

pub(crate) use control::in_time;
pub use control::{Control, ControlError, ControlFuture, LogsOfAll};
pub use follow::Following;
pub(crate) use routes::router;
pub use unix::serve_unix;
