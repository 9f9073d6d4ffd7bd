//! yamux: many streams over one connection, as HashiCorp's Go implementation speaks it.
//!
//! [`Session`] is the protocol, without socket or clock, for either side. [`Connection`] runs one on a socket: a task
//! of its own reads and writes, [`Stream`]s are ordinary tokio byte streams. A [`Consumer`] takes what arrives on one of
//! them in the connection's task itself, and many small writes leave as one (`gathering`). What differs from the Go implementation:
//! a stream is acknowledged when it arrives, not when somebody accepts it; streams and unread bytes are bounded per
//! session; a stream that is half-closed and still held is never reset for its age.
mod config;
mod connection;
mod consumer;
mod control;
mod driver;
mod error;
mod frame;
mod gathering;
mod liveness;
mod session;
mod shared;
mod stream;
mod table;

pub use config::{Config, INITIAL_WINDOW, KeepAlive};
pub use connection::{Connection, Incoming};
pub use consumer::Consumer;
pub use error::{OpenError, SessionError, StreamError};
pub use frame::{Flags, FrameType, HEADER_LEN, Header, HeaderError};
pub use session::{Event, Handed, Role, Session};
pub use stream::{Inbound, Stream};
pub use table::StreamKey;
