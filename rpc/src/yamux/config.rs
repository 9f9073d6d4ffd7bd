//! Limits and times of a yamux session.
use std::time::Duration;

/// The window that both sides assume for a new stream, fixed by the protocol, in bytes.
pub const INITIAL_WINDOW: u32 = 256 * 1024;

/// Limits and times of a session; the default is what Go's implementation uses, with bounds where it has none.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes that the peer may have under way or unread on one stream. Never below [`INITIAL_WINDOW`].
    pub receive_window: u32,
    /// Streams opened by the peer that nobody has accepted yet; one more is reset.
    pub accept_backlog: usize,
    /// Streams opened by this side that the peer has not acknowledged; opening one more waits.
    pub open_backlog: usize,
    /// Streams of either origin that may exist at once; one more of the peer's is reset, one more of ours is refused.
    pub max_streams: usize,
    /// Received bytes, of all streams together, that nobody has read; beyond it the session ends.
    pub max_buffered: usize,
    /// Questions to the peer whether it lives; `None` asks nothing (a paused peer then stays connected).
    pub keep_alive: Option<KeepAlive>,
    /// How long a stream may wait for its acknowledgement before the session counts as dead.
    pub open_timeout: Duration,
    /// How long a stream that this side has closed waits for the peer to close, before it is reset.
    pub close_timeout: Duration,
    /// How long the socket may take no byte before the session counts as dead.
    pub write_timeout: Duration,
}

/// When to ask the peer for a sign of life, and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Time between an answer and the next question.
    pub interval: Duration,
    /// Time within which the answer must come.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_window: INITIAL_WINDOW,
            accept_backlog: 256,
            open_backlog: 256,
            max_streams: 1024,
            // 256 streams with a full window each; a plugin that leaves more unread is at fault, or its host is.
            max_buffered: 64 * 1024 * 1024,
            keep_alive: Some(KeepAlive {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(10),
            }),
            open_timeout: Duration::from_secs(75),
            close_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(10),
        }
    }
}
