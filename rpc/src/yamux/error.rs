//! Why a session, a stream or an attempt to open one ends.
use std::io;
use std::time::Duration;

use super::frame::HeaderError;

/// Why a session is over; every stream of it is over too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer sent something that is no frame.
    #[error("invalid frame header")]
    Header {
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
    /// The peer opened a stream that is open.
    #[error("stream {stream} opened twice")]
    DuplicateStream {
        /// The stream's id.
        stream: u32,
    },
    /// The peer closed its side of a stream twice.
    #[error("stream {stream} closed twice")]
    UnexpectedFin {
        /// The stream's id.
        stream: u32,
    },
    /// The peer sent more than it was allowed to.
    #[error("frame of {length} bytes on stream {stream} exceeds its window of {window}")]
    WindowExceeded {
        /// The stream's id.
        stream: u32,
        /// Payload length announced.
        length: u32,
        /// Bytes that were allowed.
        window: u32,
    },
    /// The peer ended the session.
    #[error("peer ended the session with code {code}")]
    GoAway {
        /// 1 protocol error, 2 internal error, others unknown.
        code: u32,
    },
    /// More unread data than [`Config::max_buffered`](super::Config::max_buffered).
    #[error("more than {limit} unread bytes in the session")]
    BufferedTooMuch {
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer gave no sign of life.
    #[error("keep-alive not answered within {timeout:?}")]
    KeepAlive {
        /// The time it had.
        timeout: Duration,
    },
    /// The peer never acknowledged a stream.
    #[error("stream {stream} not acknowledged within {timeout:?}")]
    OpenTimeout {
        /// The stream's id.
        stream: u32,
        /// The time it had.
        timeout: Duration,
    },
    /// The socket took no byte for too long.
    #[error("nothing could be written for {timeout:?}")]
    WriteStalled {
        /// The time it had.
        timeout: Duration,
    },
    /// The peer closed the connection.
    #[error("connection closed by the peer")]
    PeerClosed,
    /// The connection failed.
    #[error("connection failed")]
    Io {
        /// The socket's error.
        #[source]
        source: io::Error,
    },
    /// This side closed the session.
    #[error("session closed")]
    Closed,
}

/// Why a stream cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Either side has reset the stream.
    #[error("stream reset")]
    Reset,
    /// This side has closed it for writing.
    #[error("stream already closed for writing")]
    Finished,
    /// The session is over.
    #[error("session ended")]
    SessionEnded,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Reset => io::ErrorKind::ConnectionReset,
            StreamError::Finished | StreamError::SessionEnded => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// Why no stream can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Too many streams await their acknowledgement; room comes with the next one.
    #[error("too many unacknowledged streams")]
    Backlog,
    /// [`Config::max_streams`](super::Config::max_streams) exist already.
    #[error("limit of {limit} streams reached")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// The peer takes no more streams.
    #[error("peer takes no more streams")]
    GoAway,
    /// All ids of this side were used.
    #[error("stream ids used up")]
    IdsUsedUp,
    /// The session is over.
    #[error("session ended")]
    SessionEnded,
}
