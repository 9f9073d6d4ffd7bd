//! The one task of a connection: it alone touches the socket.
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::consumer::Consumers;
use super::error::SessionError;
use super::gathering::Gathering;
use super::session::Handed;
use super::shared::Shared;

/// Most bytes taken from the socket at once: a reply of 64 KiB with all its headers. The buffer is on the stack: an idle
/// session holds none.
const READ_SIZE: usize = 68 * 1024;
/// Reads in a row before other tasks get their turn.
const TURNS: usize = 16;
/// Frames after which other tasks get their turn before the next read: as many bytes are more work the smaller the frames
/// are that they come in, and a peer can fill each read with thousands.
const FRAMES: usize = 1024;
/// An empty write buffer above this is given back at once, one below when the connection is idle.
const KEPT_CAPACITY: usize = 256 * 1024;
/// A connection on which fewer bytes passed since the last deadline is idle: pings and their answers.
const IDLE_BYTES: usize = 256;

/// What is to be done about what is queued.
enum Next {
    Write,
    /// Other tasks have their turn first.
    Wait,
    Close,
    Nothing,
}

/// Reads, writes and keeps time for one session until it ends.
pub(super) struct Driver<S> {
    socket: S,
    shared: Arc<Shared>,
    writing: Vec<u8>,
    written: usize,
    /// The peer takes nothing any more; what it has sent before is still read.
    write_failure: Option<io::Error>,
    write_blocked: bool,
    gathering: Gathering,
    consumers: Consumers,
    handed: Vec<Handed>,
    /// Received since other tasks had their turn.
    frames: usize,
    /// Bytes read and written since the last deadline.
    passed: usize,
    timer: Pin<Box<Sleep>>,
    armed: Option<Duration>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(socket: S, shared: Arc<Shared>) -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self {
            socket,
            shared,
            writing: Vec::new(),
            written: 0,
            write_failure: None,
            write_blocked: false,
            gathering: Gathering::default(),
            consumers: Consumers::default(),
            handed: Vec::new(),
            frames: 0,
            passed: 0,
            timer,
            armed: None,
        }
    }

    /// Runs the session to its end and tells everyone who holds a part of it.
    pub(super) async fn run(mut self) {
        let cause = (&mut self).await;
        self.shared.finish(cause);
    }

    /// Writes what is queued. Ready when all of it is gone, pending while the socket takes no more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        loop {
            if self.writing.is_empty() {
                let (writing, gathering) = (&mut self.writing, &mut self.gathering);
                let next = self.shared.drive(|state| {
                    state.wait_for_outgoing(cx.waker());
                    if gathering.waits(state.session.outgoing_bytes()) {
                        Next::Wait
                    } else if state.session.take_outgoing(writing) {
                        Next::Write
                    } else if state.closing {
                        Next::Close
                    } else {
                        Next::Nothing
                    }
                });
                match next {
                    Next::Write => {}
                    Next::Nothing => return Poll::Ready(Ok(())),
                    Next::Wait => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Next::Close => {
                        // Whether the peer still listens or not, this session is closed.
                        ready!(Pin::new(&mut self.socket).poll_shutdown(cx)).ok();
                        return Poll::Ready(Err(SessionError::Closed));
                    }
                }
            }
            if self.write_failure.is_some() {
                self.writing.clear();
                self.written = 0;
                continue;
            }
            let rest = self.writing.get(self.written..).unwrap_or_default();
            match Pin::new(&mut self.socket).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => self.write_failure = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.written = self.written.saturating_add(n);
                    self.passed = self.passed.saturating_add(n);
                    if std::mem::take(&mut self.write_blocked) {
                        self.shared.drive(|state| state.session.write_progressed());
                    }
                }
                Poll::Ready(Err(error)) => self.write_failure = Some(error),
                Poll::Pending => {
                    let now = self.shared.now();
                    self.write_blocked = true;
                    self.shared.drive(|state| state.session.write_blocked(now));
                    return Poll::Pending;
                }
            }
            if self.written >= self.writing.len() {
                self.written = 0;
                self.writing.clear();
                self.writing.shrink_to(KEPT_CAPACITY);
            }
        }
    }

    /// Reads once. Pending when there is nothing, or nothing is wanted.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        let mut space = [const { MaybeUninit::uninit() }; READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)).map_err(socket_failed)?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(SessionError::PeerClosed));
        }
        let now = self.shared.now();
        let input = buffer.filled();
        self.passed = self.passed.saturating_add(input.len());
        let handed = &mut self.handed;
        let (outcome, consumers, frames) = self.shared.drive(|state| {
            let outcome = state.session.receive(input, now);
            let frames = state.session.take_frames();
            (outcome, state.take_handed(handed), frames)
        });
        self.frames = self.frames.saturating_add(frames);
        self.consumers.add(consumers);
        self.consumers.show(&mut self.handed, input);
        Poll::Ready(outcome)
    }

    /// Takes in new consumers. Returns whether the socket shall be read.
    fn prepare_to_receive(&mut self) -> bool {
        let handed = &mut self.handed;
        let (wants_input, consumers) = self
            .shared
            .drive(|state| (state.session.wants_input(), state.take_handed(handed)));
        self.consumers.add(consumers);
        self.consumers.show(&mut self.handed, &[]);
        wants_input
    }

    /// Gives back memory if little has passed since the last deadline.
    fn look_for_idleness(&mut self) {
        if self.passed < IDLE_BYTES {
            if self.writing.is_empty() {
                self.writing = Vec::new();
            }
            self.handed.shrink_to(0);
            self.shared.drive(|state| state.session.give_back());
            self.consumers.idle();
        }
        self.passed = 0;
    }

    /// Does what is due. Ready when something was done, pending with the timer set otherwise.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        let now = self.shared.now();
        let (outcome, next) = self.shared.drive(|state| {
            let due = state
                .session
                .next_deadline()
                .is_some_and(|deadline| deadline <= now);
            let outcome = due.then(|| state.session.handle_deadline(now));
            (outcome, state.session.next_deadline())
        });
        if let Some(outcome) = outcome {
            self.look_for_idleness();
            return Poll::Ready(outcome);
        }
        let Some(next) = next else {
            return Poll::Pending;
        };
        // A timer that fires too early costs one look at the clock; setting it at each frame would cost more.
        if self.armed.is_none_or(|armed| next < armed) {
            self.armed = Some(next);
            self.timer.as_mut().reset(self.shared.instant(next));
        }
        ready!(self.timer.as_mut().poll(cx));
        self.armed = None;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = SessionError;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SessionError> {
        let this = &mut *self;
        this.frames = 0;
        for _ in 0..TURNS {
            if let Poll::Ready(Err(error)) = this.poll_flush(cx) {
                return Poll::Ready(error);
            }
            let received = if this.prepare_to_receive() {
                this.poll_receive(cx)
            } else {
                Poll::Pending
            };
            let outcome = match received {
                Poll::Pending if let Some(error) = this.write_failure.take() => {
                    Err(socket_failed(error))
                }
                Poll::Pending => ready!(this.poll_deadlines(cx)),
                Poll::Ready(outcome) => outcome,
            };
            if let Err(error) = outcome {
                return Poll::Ready(error);
            }
            if this.frames >= FRAMES {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A process that ends with bytes unread leaves a reset connection: it is gone all the same.
fn socket_failed(source: io::Error) -> SessionError {
    match source.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => SessionError::PeerClosed,
        _ => SessionError::Io { source },
    }
}
