//! The calling side.
use std::future::poll_fn;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use pinfold_gob::{DecodeError, EncodeError, Encoder, GobType, Limits, Schema, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::error::{CallError, End};
use super::header::RequestHeaderRef;
use super::outbox::Outbox;
use super::pending::{Caller, Pending};
use super::reader::read_once;
use super::replies::{DirectReplies, Replies};
use super::schema::schema_of;
use crate::yamux::Stream;

/// An empty buffer of requests above this is given back at once, one below when the connection is idle.
const KEPT_CAPACITY: usize = 2 * 1024 * 1024;

static REQUEST: LazyLock<Schema> = LazyLock::new(Schema::of::<RequestHeaderRef<'_>>);

/// Limits of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What a reply may make this side hold.
    pub limits: Limits,
    /// Calls that may be waited for at once; one more waits, within its deadline.
    pub max_in_flight: usize,
    /// Unanswered calls that nobody waits for any more. While there are more, new calls are refused; once so many are
    /// overdue, the peer counts as stuck and the conversation ends.
    pub max_given_up: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            max_in_flight: 1024,
            max_given_up: 1024,
        }
    }
}

/// Calls the methods that the peer serves on one stream. Clones share it; it is closed when the last is dropped.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Ends the conversation when the last handle goes.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}

pub(super) struct Shared {
    outbox: Outbox,
    pending: Mutex<Pending>,
    in_flight: Semaphore,
    max_given_up: usize,
    shutdown: CancellationToken,
    ended: CancellationToken,
    end: OnceLock<Arc<End>>,
}

impl Client {
    /// Starts a conversation on any byte stream, with a task of its own. Needs a tokio runtime.
    pub fn start<S>(stream: S, config: ClientConfig) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reading, writing) = tokio::io::split(stream);
        let shared = Arc::new(Shared::new(Outbox::new(writing, KEPT_CAPACITY), &config));
        let replies = Replies::new(Arc::clone(&shared), config.limits);
        Self::run(shared, read_replies(reading, replies))
    }

    /// Starts a conversation on a stream of a yamux connection. The connection's task takes the replies apart and hands
    /// them to their callers itself: one wake-up and two copies less for each than [`start`](Self::start).
    pub fn start_direct(stream: Stream, config: ClientConfig) -> Self {
        let inbound = stream.inbound();
        let shared = Arc::new(Shared::new(Outbox::new(stream, KEPT_CAPACITY), &config));
        let replies = Replies::new(Arc::clone(&shared), config.limits);
        let (direct, end) = DirectReplies::new(replies);
        inbound.consume(Box::new(direct));
        Self::run(shared, async { end.await.unwrap_or(End::Closed) })
    }

    /// `replies` is done when no more come.
    fn run(shared: Arc<Shared>, replies: impl Future<Output = End> + Send + 'static) -> Self {
        // Ends with the stream, or when the last handle is dropped.
        tokio::spawn(run(Arc::clone(&shared), replies));
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// Calls `Service.Method` and waits for the reply, at most until the deadline.
    ///
    /// Dropping the future forgets the call: it may still be carried out, its reply is thrown away.
    pub async fn call<A, R>(&self, method: &str, arg: &A, deadline: Instant) -> Result<R, CallError>
    where
        A: Serialize + GobType + ?Sized + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let schema = schema_of::<A>();
        self.call_with(method, (&schema, arg), deadline, |body| body.decode())
            .await
    }

    /// Calls with an argument of any schema, and reads the reply with `decode`, which can look at its type first.
    pub async fn call_with<A, R, F>(
        &self,
        method: &str,
        (schema, arg): (&Schema, &A),
        deadline: Instant,
        decode: F,
    ) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: Send + 'static,
        F: FnOnce(Body<'_>) -> Result<R, DecodeError> + Send + 'static,
    {
        self.call_owned(method, (schema, arg), deadline, decode)
            .await
    }

    /// The same with an argument of its own, which is dropped once it is in the encoder's buffer: before the
    /// call is sent, and so before its reply is waited for.
    ///
    /// Dropping the future forgets the call, as with [`Client::call`].
    ///
    /// # Errors
    /// [`CallError`]: one that is encoded or decoded in vain, the other side's own, the deadline, or the end
    /// of the conversation.
    pub async fn call_owned<A, R, F>(
        &self,
        method: &str,
        (schema, arg): (&Schema, A),
        deadline: Instant,
        decode: F,
    ) -> Result<R, CallError>
    where
        A: Serialize,
        R: Send + 'static,
        F: FnOnce(Body<'_>) -> Result<R, DecodeError> + Send + 'static,
    {
        let encode = move |encoder: &mut Encoder, out: &mut Vec<u8>| {
            let arg = arg;
            encoder.encode(schema, &arg, out)
        };
        timeout_at(deadline, self.call_until(deadline, method, encode, decode))
            .await
            .unwrap_or(Err(CallError::Deadline))
    }

    /// Calls with values whose types are known only at run time, those inside interfaces included.
    pub async fn call_value(
        &self,
        method: &str,
        (schema, arg): (&Schema, &Value),
        deadline: Instant,
    ) -> Result<Value, CallError> {
        let encode =
            |encoder: &mut Encoder, out: &mut Vec<u8>| encoder.encode_value(schema, arg, out);
        timeout_at(
            deadline,
            self.call_until(deadline, method, encode, |body| body.value()),
        )
        .await
        .unwrap_or(Err(CallError::Deadline))
    }

    /// Why the conversation is over, if it is.
    pub fn end(&self) -> Option<Arc<End>> {
        self.handle.shared.end.get().cloned()
    }

    /// Calls; whoever polls this stops at the deadline.
    async fn call_until<R, F>(
        &self,
        deadline: Instant,
        method: &str,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(), EncodeError>,
        decode: F,
    ) -> Result<R, CallError>
    where
        R: Send + 'static,
        F: FnOnce(Body<'_>) -> Result<R, DecodeError> + Send + 'static,
    {
        let shared = &*self.handle.shared;
        let Ok(_permit) = shared.in_flight.acquire().await else {
            return Err(shared.closed());
        };
        let turn = shared.outbox.turn().await;
        let (sender, receiver) = oneshot::channel();
        let waiting = Box::new(Caller { decode, sender });
        let seq = shared.outbox.send(|messages| {
            let mut pending = shared.pending();
            let unanswered = pending.given_up();
            if unanswered > shared.max_given_up {
                return Err(CallError::Busy { unanswered });
            }
            let seq = pending.next_seq();
            let header = RequestHeaderRef {
                service_method: method,
                seq,
            };
            messages
                .append((&REQUEST, &header), encode)
                .map_err(|source| CallError::Encode { source })?;
            if pending.add(waiting) {
                Ok(seq)
            } else {
                Err(shared.closed())
            }
        });
        drop(turn);
        let seq = match seq {
            Err(CallError::Busy { .. }) if shared.end_if_stuck() => return Err(shared.closed()),
            seq => seq?,
        };
        let _given_up = GiveUpOnDrop {
            shared,
            seq,
            deadline,
        };
        match receiver.await {
            Ok(outcome) => outcome,
            Err(_) => {
                // The conversation ended while this reply was being read.
                shared.ended.cancelled().await;
                Err(shared.closed())
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

/// Marks a call as given up unless its reply has come by then.
struct GiveUpOnDrop<'a> {
    shared: &'a Shared,
    seq: u64,
    deadline: Instant,
}

impl Drop for GiveUpOnDrop<'_> {
    fn drop(&mut self) {
        let given_up = {
            let mut pending = self.shared.pending();
            pending.give_up(self.seq, self.deadline);
            pending.given_up()
        };
        if given_up > self.shared.max_given_up {
            self.shared.end_if_stuck();
        }
    }
}

impl Shared {
    fn new(outbox: Outbox, config: &ClientConfig) -> Self {
        Self {
            outbox,
            pending: Mutex::default(),
            in_flight: Semaphore::new(config.max_in_flight),
            max_given_up: config.max_given_up,
            shutdown: CancellationToken::new(),
            ended: CancellationToken::new(),
            end: OnceLock::new(),
        }
    }

    /// Gives back memory that nothing is in.
    pub(super) fn give_back(&self) {
        self.outbox.give_back();
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the conversation with a peer that has left too many calls unanswered beyond their deadlines.
    fn end_if_stuck(&self) -> bool {
        let limit = self.max_given_up;
        let is_stuck = self.pending().overdue(Instant::now()) > limit;
        if is_stuck {
            self.finish(End::Stuck { limit });
            self.shutdown.cancel();
        }
        is_stuck
    }

    /// Records why the conversation is over; the first reason stays.
    fn finish(&self, end: End) -> &Arc<End> {
        self.end.get_or_init(|| {
            tracing::debug!(cause = %end, "net/rpc conversation ended");
            Arc::new(end)
        })
    }

    fn closed(&self) -> CallError {
        CallError::Closed {
            cause: Arc::clone(self.finish(End::Closed)),
        }
    }
}

/// Runs the conversation to its end, then tells every caller.
async fn run(shared: Arc<Shared>, replies: impl Future<Output = End>) {
    let end = tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => End::Closed,
        source = poll_fn(|cx| shared.outbox.poll_pump(cx)) => End::Io { source },
        end = replies => end,
    };
    shared.finish(end);
    shared.in_flight.close();
    let left = shared.pending().close();
    shared.outbox.close();
    for waiting in left {
        waiting.fail(shared.closed());
    }
    shared.ended.cancel();
}

async fn read_replies<S: AsyncRead>(mut stream: ReadHalf<S>, mut replies: Replies) -> End {
    loop {
        let outcome = read_once(&mut stream, |bytes| replies.take(bytes)).await;
        match outcome {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(end))) => return end,
            Ok(None) => return replies.end(),
            Err(source) => return End::Io { source },
        }
    }
}
