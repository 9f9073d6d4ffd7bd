//! A proxy for the programs in one jail that speak HTTP by themselves: HTTP/1.1, requests with whole
//! URLs and `CONNECT` (RFC 9110, section 9.3.6).
//!
//! Who asks is told by the listener, which is in the jail's own network: nothing that a request says is
//! asked for it. Each request, also each of one connection, is judged alone, and sent on as a message
//! of our own making on a connection of its own: two readings of one message have nothing to disagree
//! about.

mod answer;
mod pace;
mod problem;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Answer;
use self::pace::Pace;
use super::request::{HEADER_LIMIT, HEADERS_LIMIT_BYTES, URL_LIMIT_BYTES};
use crate::{Caller, HostApi};

/// Connections of one jail: as many as may have requests and tunnels under way by default, and as many
/// again that wait for their next request. Further ones wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// Time for the head of a request, from the end of the one before.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Most bytes of a request's head that are read.
const HEAD_LIMIT_BYTES: usize = URL_LIMIT_BYTES + HEADERS_LIMIT_BYTES;

/// What is written before the client has to read.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// How long the loop waits when the kernel refuses a connection for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one jail's programs until `stop`, and then cuts what is under way. `listener` accepts from that
/// jail alone; `caller` is who its programs are, and may come to be allowed other things while this
/// runs.
///
/// # Cancellation
/// Dropping it cuts everything too.
pub async fn serve_proxy(
    host: Arc<HostApi>,
    listener: TcpListener,
    caller: watch::Receiver<Arc<Caller>>,
    stop: CancellationToken,
) {
    // Whatever ends this ends its tasks.
    let cut = CancellationToken::new();
    let _cut = cut.clone().drop_guard();
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let pace = Arc::new(Pace::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places, &pace) => accepted,
        };
        let Some((stream, place)) = accepted else {
            continue;
        };
        let connection = Connection {
            host: Arc::clone(&host),
            caller: caller.clone(),
            tasks: tasks.clone(),
            cut: cut.child_token(),
            place: Arc::new(place),
            pace: Arc::clone(&pace),
            asked: Arc::default(),
        };
        tasks.spawn(connection.serve(stream));
    }
    drop(listener);
    cut.cancel();
    tasks.close();
    tasks.wait().await;
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    pace: &Pace,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    pace.allowed().await;
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are written whole: waiting to fill a segment only delays them.
            stream.set_nodelay(true).unwrap_or_default();
            Some((stream, place))
        }
        // A client that gave up in the queue.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
        Err(error) => {
            tracing::debug!(%error, "proxy accepts no connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection, and what its requests need.
#[derive(Clone)]
struct Connection {
    host: Arc<HostApi>,
    caller: watch::Receiver<Arc<Caller>>,
    tasks: TaskTracker,
    cut: CancellationToken,
    /// Its place, also as a tunnel's.
    place: Arc<OwnedSemaphorePermit>,
    pace: Arc<Pace>,
    /// It has brought a request.
    asked: Arc<AtomicBool>,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let cut = self.cut.clone();
        let (pace, asked) = (Arc::clone(&self.pace), Arc::clone(&self.asked));
        let (taking, taken) = watch::channel(None);
        let taking = Arc::new(taking);
        // An answer counts as under way until it is taken, for which there is as long as there was for
        // getting it.
        let take_limit = self.host.http_timeout();
        let service = service_fn(move |request| {
            let (connection, taking) = (self.clone(), Arc::clone(&taking));
            async move {
                let answered = Box::pin(connection.answer(request)).await;
                Ok::<_, Infallible>(answered.map(|body| body.taken_by(take_limit, &taking)))
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_headers(HEADER_LIMIT)
            .max_header_size(HEAD_LIMIT_BYTES)
            .max_buf_size(WRITE_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::select! {
            result = served => {
                // What is no HTTP, and what says nothing, costs a connection without being a request.
                if result.is_err() || !asked.load(Ordering::Relaxed) {
                    pace.refused();
                }
                if let Err(error) = result {
                    tracing::debug!(%error, "proxy connection ended early");
                }
            }
            () = overdue(taken) => tracing::debug!("proxy answer not taken in time"),
            () = cut.cancelled() => {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        self.asked.store(true, Ordering::Relaxed);
        self.pace.allowed().await;
        let caller = Arc::clone(&self.caller.borrow());
        if request.method() == Method::CONNECT {
            return self.connect(&caller, request).await;
        }
        match self.host.forward(&caller, request).await {
            Ok(forwarded) => {
                let places = forwarded.places;
                forwarded
                    .response
                    .map(|body| Answer::new(body, Some(places)))
            }
            Err(error) => {
                self.pace.refused();
                problem::response(&error)
            }
        }
    }

    async fn connect(&self, caller: &Caller, request: Request<Incoming>) -> Response<Answer> {
        // Host and port alone: what has a scheme or a path is no tunnel's.
        let uri = request.uri();
        let authority = uri.authority().filter(|_| uri.scheme().is_none());
        let tunnel = match self.host.tunnel(caller, authority).await {
            Ok(tunnel) => tunnel,
            Err(error) => {
                self.pace.refused();
                return problem::with_reason(&error);
            }
        };
        let (plugin, generation) = (caller.plugin.clone(), caller.generation);
        let (cut, place) = (self.cut.clone(), Arc::clone(&self.place));
        self.tasks.spawn(async move {
            let _place = place;
            let carried = async {
                match hyper::upgrade::on(request).await {
                    Ok(client) => Some(tunnel.carry(TokioIo::new(client)).await),
                    Err(_) => None,
                }
            };
            let carried = tokio::select! {
                carried = carried => carried,
                () = cut.cancelled() => None,
            };
            if let Some((end, bytes)) = carried {
                let end = end.as_str();
                tracing::debug!(plugin.id = %plugin, plugin.generation = generation.0, end, bytes, "tunnel ended");
            }
        });
        Response::new(Answer::new(Bytes::new(), None))
    }
}

/// Returns once an answer has not been taken in its time; never while there is none.
async fn overdue(mut taken: watch::Receiver<Option<Instant>>) {
    loop {
        let limit = *taken.borrow_and_update();
        let over = async {
            match limit {
                Some(limit) => tokio::time::sleep_until(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return,
            changed = taken.changed() => if changed.is_err() {
                std::future::pending().await
            },
        }
    }
}
