//! The body of an answer: given out in pieces, so that what waits to be read is not all copied ahead,
//! and counting as under way until the last of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::Places;

/// What is given out at once.
const PIECE_BYTES: usize = 32 * 1024;

/// When the answer under way must be taken; none where there is none.
pub(super) type Taking = watch::Sender<Option<Instant>>;

/// A body.
#[derive(Debug)]
pub(super) struct Answer {
    rest: Bytes,
    _places: Option<Places>,
    taking: Option<Arc<Taking>>,
}

impl Answer {
    pub(super) const fn new(body: Bytes, places: Option<Places>) -> Self {
        Self {
            rest: body,
            _places: places,
            taking: None,
        }
    }

    /// Says how long the client has to take it.
    pub(super) fn taken_by(mut self, limit: Duration, taking: &Arc<Taking>) -> Self {
        taking.send_replace(Some(Instant::now() + limit));
        self.taking = Some(Arc::clone(taking));
        self
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(taking) = &self.taking {
            taking.send_replace(None);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = self.rest.len().min(PIECE_BYTES);
        if count == 0 {
            return Poll::Ready(None);
        }
        let piece = self.rest.split_to(count);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}
