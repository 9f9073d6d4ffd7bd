//! One stream of a connection as a tokio byte stream.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::consumer::Consumer;
use super::shared::Shared;
use super::table::StreamKey;

/// A stream. Dropping it closes it orderly: what was written still arrives, what the peer still sends is thrown away.
///
/// Reading ends with 0 bytes at the peer's end of data *and* at the session's end; `Connection::ended` tells these
/// apart. Writing goes into a bounded buffer of the connection and waits for the peer's window. `shutdown` ends the own
/// direction alone.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    key: StreamKey,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, key: StreamKey) -> Self {
        Self { shared, key }
    }

    /// The incoming direction, to be handed to a consumer; this stream then writes alone.
    pub fn inbound(&self) -> Inbound {
        Inbound {
            shared: Arc::clone(&self.shared),
            key: self.key,
        }
    }

    /// Ends both directions at once; either side loses what it has not read.
    pub fn reset(self) {
        self.shared.with(|state| state.session.reset(self.key));
    }
}

/// The incoming direction of a stream. It does not keep the stream.
#[derive(Debug)]
pub struct Inbound {
    shared: Arc<Shared>,
    key: StreamKey,
}

impl Inbound {
    /// Lets the connection's task show everything that arrives to `consumer`, at once, in place of keeping it to be
    /// read; reading the stream brings nothing from then on. The consumer is dropped when nothing more comes: at the
    /// peer's end of data, at the session's end, or when the stream is dropped.
    pub fn consume(self, consumer: Box<dyn Consumer>) {
        let refused = self
            .shared
            .with(|state| state.hand_over(self.key, consumer));
        drop(refused);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.with(|state| {
            state.forget(self.key);
            state.session.release(self.key, now);
        });
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let key = self.key;
        let outcome = self.shared.with(|state| {
            let room = into.remaining();
            let outcome = state
                .session
                .read_with(key, room, |data| into.put_slice(data));
            if outcome.is_pending() {
                state.wait_readable(key, cx.waker());
            }
            outcome
        });
        outcome.map(|result| result.map(drop).map_err(io::Error::from))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let key = self.key;
        let outcome = self.shared.with(|state| {
            let outcome = state.session.write(key, data);
            if outcome.is_pending() {
                state.wait_writable(key, cx.waker());
            }
            outcome
        });
        outcome.map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes at once whatever is queued.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.shared.now();
        self.shared
            .with(|state| state.session.finish(self.key, now));
        Poll::Ready(Ok(()))
    }
}
