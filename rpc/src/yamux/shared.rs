//! What a connection's task, its handles and its streams share: the session, and who waits for what.
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consumer::{Consumer, NewConsumer};
use super::error::SessionError;
use super::session::{Event, Handed, Session};
use super::table::StreamKey;

/// The session behind a lock that is held for a few hundred nanoseconds at a time and never across an await.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    started: Instant,
    /// Something may be accepted, or the session has ended.
    pub(super) incoming: Notify,
    /// A stream may be opened, or never again.
    pub(super) may_open: Notify,
    end: OnceLock<Arc<SessionError>>,
    ended: CancellationToken,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session,
    /// Flush what is queued, then end.
    pub(super) closing: bool,
    waiting: Vec<StreamWakers>,
    /// On their way to the connection's task.
    consumers: Vec<NewConsumer>,
    driver: Option<Waker>,
}

#[derive(Debug, Default)]
struct StreamWakers {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    pub(super) fn new(session: Session) -> Self {
        let state = State {
            session,
            closing: false,
            waiting: Vec::new(),
            consumers: Vec::new(),
            driver: None,
        };
        Self {
            state: Mutex::new(state),
            started: Instant::now(),
            incoming: Notify::new(),
            may_open: Notify::new(),
            end: OnceLock::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Time since the session's start, as the session counts it.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// When `deadline`, counted from the session's start, is.
    pub(super) fn instant(&self, deadline: Duration) -> Instant {
        self.started.checked_add(deadline).unwrap_or(self.started)
    }

    /// Works on the session for a handle or stream; then wakes whom that concerns, the connection's task included.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = work(&mut state);
        let has_work = state.session.has_outgoing() || state.closing || !state.consumers.is_empty();
        let driver = if has_work { state.driver.take() } else { None };
        self.unlock_and_wake(state, driver);
        result
    }

    /// Works on the session for the connection's task.
    pub(super) fn drive<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = work(&mut state);
        self.unlock_and_wake(state, None);
        result
    }

    /// Ends the session once its streams are finished and everything is written.
    pub(super) fn close(&self) {
        let now = self.now();
        self.with(|state| {
            if !state.closing {
                state.closing = true;
                state.session.finish_all(now);
            }
        });
    }

    /// Records why the session is over and tells everyone.
    pub(super) fn finish(&self, cause: SessionError) {
        tracing::debug!(cause = %cause, "yamux session ended");
        // A session ends once; the task that runs it is the only caller.
        if self.end.set(Arc::new(cause)).is_ok() {
            let consumers = self.drive(|state| {
                state.session.end();
                std::mem::take(&mut state.consumers)
            });
            drop(consumers);
            self.ended.cancel();
        }
    }

    /// Waits for the session's end.
    pub(super) async fn ended(&self) -> Arc<SessionError> {
        self.ended.cancelled().await;
        self.end
            .get()
            .cloned()
            .unwrap_or_else(|| Arc::new(SessionError::Closed))
    }

    /// Why the session is over, if it is.
    pub(super) fn end(&self) -> Option<Arc<SessionError>> {
        self.end.get().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlock_and_wake(&self, mut state: MutexGuard<'_, State>, driver: Option<Waker>) {
        let State {
            session, waiting, ..
        } = &mut *state;
        let mut wakers: Vec<Waker> = Vec::new();
        let (mut incoming, mut may_open) = (false, false);
        for event in session.drain_events() {
            let waker = match event {
                Event::Incoming => {
                    incoming = true;
                    None
                }
                Event::MayOpen => {
                    may_open = true;
                    None
                }
                Event::Readable(key) => waiting
                    .get_mut(key.index())
                    .and_then(|waiting| waiting.reader.take()),
                Event::Writable(key) => waiting
                    .get_mut(key.index())
                    .and_then(|waiting| waiting.writer.take()),
            };
            wakers.extend(waker);
        }
        drop(state);
        if incoming {
            self.incoming.notify_waiters();
        }
        if may_open {
            self.may_open.notify_waiters();
        }
        wakers.into_iter().chain(driver).for_each(Waker::wake);
    }
}

impl State {
    /// What arrives on a stream is for `consumer` from now on. Gives it back if the session is over.
    pub(super) fn hand_over(
        &mut self,
        key: StreamKey,
        consumer: Box<dyn Consumer>,
    ) -> Option<Box<dyn Consumer>> {
        if self.session.is_ended() {
            return Some(consumer);
        }
        let received = self.session.hand_over(key);
        self.consumers.push(NewConsumer {
            key,
            received,
            consumer,
        });
        None
    }

    /// Consumers since the last call, and what they are to be shown.
    pub(super) fn take_handed(&mut self, handed: &mut Vec<Handed>) -> Vec<NewConsumer> {
        self.session.take_handed(handed);
        std::mem::take(&mut self.consumers)
    }

    /// The connection's task goes to sleep unless something is queued.
    pub(super) fn wait_for_outgoing(&mut self, waker: &Waker) {
        remember(&mut self.driver, waker);
    }

    pub(super) fn wait_readable(&mut self, key: StreamKey, waker: &Waker) {
        remember(&mut self.wakers(key).reader, waker);
    }

    pub(super) fn wait_writable(&mut self, key: StreamKey, waker: &Waker) {
        remember(&mut self.wakers(key).writer, waker);
    }

    /// Forgets who waits for a stream; its place may be another stream's next.
    pub(super) fn forget(&mut self, key: StreamKey) {
        *self.wakers(key) = StreamWakers::default();
    }

    #[expect(clippy::indexing_slicing, reason = "the line before makes the place")]
    fn wakers(&mut self, key: StreamKey) -> &mut StreamWakers {
        let places = key.index().saturating_add(1);
        if self.waiting.len() < places {
            self.waiting.resize_with(places, StreamWakers::default);
        }
        &mut self.waiting[key.index()]
    }
}

fn remember(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(known) if known.will_wake(waker) => {}
        place => *place = Some(waker.clone()),
    }
}
