//! Why a call, or a whole conversation, fails.
use std::io;
use std::sync::Arc;

use pinfold_gob::{DecodeError, EncodeError};

/// Why a call brought no reply.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The peer answered with an error.
    #[error("{text}")]
    Remote {
        /// Its text, never empty.
        text: String,
    },
    /// No reply in time. The peer may still be at work; its reply will be dropped.
    #[error("no reply within the deadline")]
    Deadline,
    /// Nothing was sent: the peer has not answered calls that were given up, and is to do so first.
    #[error("{unanswered} calls that were given up are unanswered")]
    Busy {
        /// How many.
        unanswered: usize,
    },
    /// The conversation is over; the call may or may not have reached the peer.
    #[error("connection is shut down")]
    Closed {
        /// Why it is over.
        #[source]
        cause: Arc<End>,
    },
    /// The argument cannot be written; nothing was sent.
    #[error("encode the argument")]
    Encode {
        /// What is wrong with it.
        #[source]
        source: EncodeError,
    },
    /// The reply is not what the caller asked for. Other calls go on where the position in the stream is known.
    #[error("decode the reply")]
    Decode {
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
}

/// Why a conversation is over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// The peer ended it between two messages.
    #[error("ended by the peer")]
    PeerClosed,
    /// The peer ended it in the middle of a message.
    #[error("ended by the peer inside a message")]
    Truncated,
    /// The stream failed.
    #[error("stream failed")]
    Io {
        /// The stream's error.
        #[source]
        source: io::Error,
    },
    /// The peer sent something that cannot be read, and where the next message begins is unknown.
    #[error("unreadable message")]
    Decode {
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The peer has left too many calls unanswered beyond their deadlines.
    #[error("more than {limit} calls unanswered beyond their deadlines")]
    Stuck {
        /// The limit.
        limit: usize,
    },
    /// The peer has sent too many replies that answer nothing.
    #[error("more than {limit} replies to no call")]
    Unasked {
        /// The limit.
        limit: usize,
    },
    /// This side ended it.
    #[error("closed")]
    Closed,
}
