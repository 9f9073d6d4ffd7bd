//! How a HashiCorp go-plugin process is started: what the host puts into its environment, and the one line it prints.
//!
//! A line has the form `CORE|APP|NETWORK|ADDRESS[|PROTOCOL[|CERTIFICATE[|MULTIPLEX]]]`. [`FirstLine`] collects it from
//! the pieces that come through the pipe, [`HandshakeLine::parse`] reads it.
mod base64;
mod certificate;
mod environment;
mod first_line;
mod line;

pub use environment::{PortRange, environment};
pub use first_line::{FirstLine, FirstLineError, MAX_LINE};
pub use line::{Address, CORE_VERSION, Expectation, HandshakeError, HandshakeLine, Protocol};
