//! One stream of a connection as a tokio byte stream.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

    /// Ends both directions at once; either side loses what it has not read.
    pub fn reset(self) {
        self.shared.with(|state| state.session.reset(self.key));
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
            let outcome = state.session.read(key, into.initialize_unfilled());
            if outcome.is_pending() {
                state.wait_readable(key, cx.waker());
            }
            outcome
        });
        outcome.map(|result| {
            into.advance(result?);
            Ok(())
        })
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
