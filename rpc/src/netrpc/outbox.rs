//! The writing half of a conversation, shared by all who write on it.
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use pinfold_gob::{EncodeError, Encoder, Schema};
use serde::Serialize;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

/// New messages wait while this many bytes are not taken by the stream.
const HIGH_WATER: usize = 1024 * 1024;
/// Written bytes in front of unwritten ones are cut off once they are this many, and as many as those: each byte is then
/// moved once at most.
const COMPACT_ABOVE: usize = 64 * 1024;

/// Encodes messages into one buffer and writes it.
///
/// A message is written at once by whoever sends it, as far as the stream takes it; the rest is written by the
/// conversation's task, which polls [`poll_pump`](Self::poll_pump). So most messages need no other task to be woken.
pub(super) struct Outbox {
    state: Mutex<State>,
    room: Notify,
    /// Who waits for room does so in a row.
    turn: tokio::sync::Mutex<()>,
    in_row: AtomicUsize,
}

/// Room for one message.
pub(super) struct Turn<'a> {
    /// Given up in this order.
    _row: Option<(tokio::sync::MutexGuard<'a, ()>, InRow<'a>)>,
}

/// One who waits for room, or has got it and not used it.
struct InRow<'a> {
    count: &'a AtomicUsize,
}

impl Drop for InRow<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

struct State {
    writer: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    messages: Messages,
    written: usize,
    kept_capacity: usize,
    needs_flush: bool,
    pump: Option<Waker>,
    failure: Option<io::Error>,
}

/// The encoder of one stream, and what it has encoded.
pub(super) struct Messages {
    encoder: Encoder,
    buffer: Vec<u8>,
    header_announced: bool,
}

impl Messages {
    /// Appends header and body, or nothing at all.
    pub(super) fn append<H: Serialize>(
        &mut self,
        (header_schema, header): (&Schema, &H),
        body: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.buffer.len();
        self.encoder
            .encode(header_schema, header, &mut self.buffer)?;
        let encoded = body(&mut self.encoder, &mut self.buffer);
        if encoded.is_err() {
            self.buffer.truncate(start);
            if !self.header_announced {
                // The header's definition was cut off with it, and it was the first: nothing has been announced.
                self.encoder = Encoder::new();
            }
        }
        self.header_announced |= encoded.is_ok();
        encoded
    }
}

impl Outbox {
    /// An empty buffer above `kept_capacity` bytes is given back at once.
    pub(super) fn new(
        writer: impl AsyncWrite + Send + Unpin + 'static,
        kept_capacity: usize,
    ) -> Self {
        let messages = Messages {
            encoder: Encoder::new(),
            buffer: Vec::new(),
            header_announced: false,
        };
        let state = State {
            writer: Some(Box::new(writer)),
            messages,
            written: 0,
            kept_capacity,
            needs_flush: false,
            pump: None,
            failure: None,
        };
        Self {
            state: Mutex::new(state),
            room: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            in_row: AtomicUsize::new(0),
        }
    }

    /// Waits until a new message may be added, in the order of those who ask. The turn is to be held until it is added.
    pub(super) async fn turn(&self) -> Turn<'_> {
        if self.in_row.load(Ordering::Relaxed) == 0 && self.has_room() {
            return Turn { _row: None };
        }
        self.in_row.fetch_add(1, Ordering::Relaxed);
        let place = InRow {
            count: &self.in_row,
        };
        let first = self.turn.lock().await;
        self.room().await;
        Turn {
            _row: Some((first, place)),
        }
    }

    /// Lets `append` add messages, then writes what the stream takes. An error of the stream shows in the pump.
    pub(super) fn send<T>(&self, append: impl FnOnce(&mut Messages) -> T) -> T {
        let mut state = self.lock();
        let result = append(&mut state.messages);
        if state.failure.is_none() {
            let pump = state.pump.clone();
            let mut cx = Context::from_waker(pump.as_ref().unwrap_or(Waker::noop()));
            if let Poll::Ready(Err(error)) = self.poll_write(&mut state, &mut cx) {
                state.failure = Some(error);
                pump.inspect(Waker::wake_by_ref);
            }
        }
        result
    }

    /// Waits until a new message may be added.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Writes what senders could not; ready only with the stream's error.
    pub(super) fn poll_pump(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut state = self.lock();
        if !state
            .pump
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.pump = Some(cx.waker().clone());
        }
        if let Some(error) = state.failure.take() {
            return Poll::Ready(error);
        }
        match self.poll_write(&mut state, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Ready once everything is written.
    pub(super) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(&mut self.lock(), cx)
    }

    /// Gives up the stream's half; what is not written is dropped, and so is what is sent later.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        let writer = state.writer.take();
        state.messages.buffer = Vec::new();
        state.written = 0;
        drop(state);
        drop(writer);
        self.room.notify_waiters();
    }

    /// Gives back memory that nothing is in.
    pub(super) fn give_back(&self) {
        self.lock().messages.buffer.shrink_to(0);
    }

    /// Writes what the stream takes, and lets in who waits for room.
    fn poll_write(&self, state: &mut State, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let was_full = state.unwritten() >= HIGH_WATER;
        let outcome = state.poll_write(cx);
        if was_full && state.unwritten() < HIGH_WATER {
            self.room.notify_waiters();
        }
        outcome
    }

    fn has_room(&self) -> bool {
        self.unwritten() < HIGH_WATER
    }

    /// How many bytes the stream has not taken.
    pub(super) fn unwritten(&self) -> usize {
        self.lock().unwritten()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unwritten(&self) -> usize {
        self.messages.buffer.len().saturating_sub(self.written)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let buffer = &mut self.messages.buffer;
        let Some(writer) = &mut self.writer else {
            buffer.clear();
            return Poll::Ready(Ok(()));
        };
        let mut writer = Pin::new(writer);
        while let Some(rest) = buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            let outcome = writer.as_mut().poll_write(cx, rest);
            let is_worth_moving = self.written >= COMPACT_ABOVE && self.written >= rest.len();
            if outcome.is_pending() && is_worth_moving {
                buffer.drain(..self.written);
                self.written = 0;
            }
            match ready!(outcome)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written = self.written.saturating_add(n),
            }
        }
        if self.written > 0 {
            buffer.clear();
            buffer.shrink_to(self.kept_capacity);
            self.written = 0;
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(writer.poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}
