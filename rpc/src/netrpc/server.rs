//! The answering side.
use std::future::poll_fn;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use pinfold_gob::{Empty, Limits, Schema};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::End;
use super::header::{RequestHeader, ResponseHeaderRef};
use super::outbox::Outbox;
use super::reader::Reader;
use super::refusals::Refusals;
use super::services::{Place, Reply, Services};

static RESPONSE: LazyLock<Schema> = LazyLock::new(Schema::of::<ResponseHeaderRef<'_>>);

/// An empty buffer of replies above this is given back.
const KEPT_CAPACITY: usize = 8 * 1024;

/// Requests in a row before other tasks get their turn. Thousands may have come at once, and most are answered at once.
const IN_ROW: usize = 16;

/// In place of a reply that there is no room for.
const UNREAD: &str = "reply dropped: too much that was sent before it has not been read";

/// In place of an error without text, which a peer could not tell from success.
const NO_TEXT: &str = "unspecified error";

/// Limits of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// What an argument may make this side hold.
    pub limits: Limits,
    /// Requests served at once; while there are as many, no further one is read.
    pub max_concurrent: usize,
    /// Refused requests a second, and as many at once, after which the stream is not read until there are fewer; `None`
    /// allows any number. Those are refused that no method is there for, whose argument does not decode, whose method
    /// returns an error, and which it says are ([`Place::refused`]).
    pub refusals_per_second: Option<u32>,
    /// Bytes of replies that the peer has not taken, from which on a request that has left its place ([`Place::leave`])
    /// is answered with an error instead of its reply. It bounds those replies as `max_concurrent` does the others.
    pub max_unread: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            max_concurrent: 256,
            refusals_per_second: None,
            max_unread: 64 * 1024 * 1024,
        }
    }
}

/// Serves the requests of one stream, concurrently, until the peer ends it or sends something unreadable.
///
/// Requests under way when the peer ends are finished, and answered if it still listens. Dropping the future ends all
/// of them. An argument or reply that does not fit is an error to the peer, not the end.
pub async fn serve<S>(stream: S, services: Arc<Services>, config: ServerConfig) -> End
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    serve_until(stream, services, config, std::future::pending()).await
}

/// The same, at most until `stop` is done: what is under way then is ended, with [`End::Closed`].
///
/// When this returns, nothing is under way any more: the future of each request has been dropped. It waits for no
/// method to come to its end by itself, only for one that does not give way at the moment.
pub async fn serve_until<S>(
    stream: S,
    services: Arc<Services>,
    config: ServerConfig,
    stop: impl Future<Output = ()>,
) -> End
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reading, writing) = tokio::io::split(stream);
    let outbox = Arc::new(Outbox::new(writing, KEPT_CAPACITY));
    let mut serving = Serving {
        services,
        outbox: Arc::clone(&outbox),
        permits: Arc::new(Semaphore::new(config.max_concurrent)),
        refusals: Arc::new(Refusals::new(config.refusals_per_second)),
        max_unread: config.max_unread,
        in_row: 0,
        tasks: JoinSet::new(),
    };
    let mut reader = Reader::new(reading, config.limits);
    let conversation = async {
        let end = serving.read_requests(&mut reader).await;
        while serving.tasks.join_next().await.is_some() {}
        // The peer may not read any more; the stream's own time-outs bound this.
        poll_fn(|cx| outbox.poll_written(cx)).await.ok();
        end
    };
    let end = tokio::select! {
        biased;
        source = poll_fn(|cx| outbox.poll_pump(cx)) => End::Io { source },
        () = stop => End::Closed,
        end = conversation => end,
    };
    outbox.close();
    // Being dropped they would end too, but some time later.
    serving.tasks.shutdown().await;
    end
}

/// One conversation being served.
struct Serving {
    services: Arc<Services>,
    outbox: Arc<Outbox>,
    permits: Arc<Semaphore>,
    refusals: Arc<Refusals>,
    max_unread: usize,
    in_row: usize,
    /// Those under way. Dropping this ends them.
    tasks: JoinSet<()>,
}

impl Serving {
    async fn read_requests<S: AsyncRead>(&mut self, reader: &mut Reader<ReadHalf<S>>) -> End {
        loop {
            if let Err(end) = self.read_request(reader).await {
                return end;
            }
        }
    }

    async fn read_request<S: AsyncRead>(
        &mut self,
        reader: &mut Reader<ReadHalf<S>>,
    ) -> Result<(), End> {
        // A peer that does not read its replies is not read from either.
        self.outbox.room().await;
        self.refusals.allowed().await;
        self.in_row = self.in_row.wrapping_add(1);
        if self.in_row.is_multiple_of(IN_ROW) {
            tokio::task::yield_now().await;
        }
        // Closed by nobody.
        let place = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map(|permit| Place::new(permit, Arc::clone(&self.refusals)))
            .map_err(|_| End::Closed)?;
        while self.tasks.try_join_next().is_some() {}
        let header: RequestHeader = reader.header().await?;
        let body = reader.body().await?;
        let answer = match (self.services.find(&header.service_method), body) {
            (Ok(method), Ok(body)) => method
                .call(body, place.clone())
                .map_err(|error| format!("gob: {error}")),
            (Err(text), _) => Err(text),
            (Ok(_), Err(error)) => Err(format!("gob: {error}")),
        };
        let outbox = Arc::clone(&self.outbox);
        match answer {
            Err(text) => {
                self.refusals.count();
                respond(&outbox, &header, Err(text));
            }
            Ok(mut answer) => {
                // Most have their reply at once: a task for each would cost more than they do.
                let now = answer
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(outcome) = now {
                    if outcome.is_err() {
                        self.refusals.count();
                    }
                    respond(&outbox, &header, outcome);
                    return Ok(());
                }
                let refusals = Arc::clone(&self.refusals);
                let max_unread = self.max_unread;
                self.tasks.spawn(async move {
                    let mut outcome = answer.await;
                    // Not for room, which may never be: it would be held for as long.
                    if place.is_left() && outbox.unwritten() >= max_unread {
                        outcome = Err(UNREAD.to_owned());
                    }
                    if outcome.is_err() {
                        refusals.count();
                    }
                    respond(&outbox, &header, outcome);
                    outbox.room().await;
                    drop(place);
                });
            }
        }
        Ok(())
    }
}

/// Sends the reply. What cannot be encoded becomes an error: the peer waits for something.
fn respond(outbox: &Outbox, request: &RequestHeader, outcome: Result<Box<dyn Reply>, String>) {
    let sent = outbox.send(|messages| {
        let text = match outcome {
            Ok(reply) => match reply.append((&RESPONSE, &header(request, "")), messages) {
                Ok(()) => return Ok(()),
                Err(error) => format!("gob: {error}"),
            },
            Err(text) if text.is_empty() => NO_TEXT.to_owned(),
            Err(text) => text,
        };
        // Never a nil interface beside an error: Go's reader waits for more of it.
        let schema = Schema::empty_struct();
        messages.append((&RESPONSE, &header(request, &text)), |encoder, out| {
            encoder.encode(&schema, &Empty, out)
        })
    });
    if let Err(error) = sent {
        tracing::debug!(error = %error, "error response could not be encoded");
    }
}

fn header<'a>(request: &'a RequestHeader, error: &'a str) -> ResponseHeaderRef<'a> {
    ResponseHeaderRef {
        service_method: &request.service_method,
        seq: request.seq,
        error,
    }
}
