//! Step 1: connections. Each is one task with limits on head, idleness, stalled reading and
//! number; all of them end within the drain time once the listener is told to stop.

mod stall;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::stall::StallLimit;
use crate::audit::Actor;

/// How long the loop waits when the kernel refuses a connection for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// `ENFILE` and `EMFILE` of errno(3), the same on every architecture that this is built for.
const TOO_MANY_FILES: [i32; 2] = [23, 24];
/// How long a connection on which nothing is asked is kept once the listener is to stop: a request that is
/// on its way there is answered, where closing at once would lose it. Clients that ask again and again
/// have learnt by then, from an answer, that the connection closes.
const IDLE_GRACE: Duration = Duration::from_millis(500);

/// Least rate in bytes a second at which a client reads an answer that waits for it: the longest one, of
/// 16 MiB, is held for some 17 minutes at most.
const LEAST_RATE: u32 = 16 << 10;

/// Limits on connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) header_limit_bytes: usize,
    pub(crate) header_count: usize,
    pub(crate) header_read_time_out: Duration,
    pub(crate) write_time_out: Duration,
    pub(crate) max_connections: usize,
    pub(crate) drain_time: Duration,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because the drain time was over.
    pub abandoned: usize,
}

/// What connections are accepted from.
pub(crate) trait Listener: Send + 'static {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    type Peer: Clone + Send + Sync + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Self::Peer)>> + Send;
}

impl Listener for TcpListener {
    type Io = tokio::net::TcpStream;
    type Peer = std::net::SocketAddr;
    async fn accept(&self) -> io::Result<(Self::Io, Self::Peer)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are written whole: waiting to fill a segment only delays them.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}

impl Listener for UnixListener {
    type Io = tokio::net::UnixStream;
    type Peer = Actor;
    async fn accept(&self) -> io::Result<(Self::Io, Self::Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let peer = stream.peer_cred()?;
        Ok((
            stream,
            Actor::Process {
                uid: peer.uid(),
                pid: peer.pid(),
            },
        ))
    }
}

/// Accepts until `stop`, answers each request, drains.
pub(crate) async fn listen<L, A, F, B>(
    listener: L,
    limits: ConnectionLimits,
    stop: CancellationToken,
    answer: A,
) -> Drained
where
    L: Listener,
    A: Fn(Request<Incoming>, L::Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let abandoned = Arc::new(AtomicUsize::new(0));
    let mut refusals: u64 = 0;
    loop {
        // Over the limit nothing is accepted: further clients wait in the kernel's queue.
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        // Who waits in that queue once it stops is the next one's, where the socket is.
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error, &mut refusals).await;
                continue;
            }
        };
        if refusals > 0 {
            tracing::info!(refusals, "connections are accepted again");
            refusals = 0;
        }
        // Children, for each look at a token takes its lock.
        let task = Connection {
            limits,
            stop: stop.child_token(),
            cut: cut.child_token(),
        };
        let (answer, abandoned) = (answer.clone(), Arc::clone(&abandoned));
        connections.spawn(async move {
            if task.run(io, peer, answer).await == Ending::Cut {
                abandoned.fetch_add(1, Ordering::Relaxed);
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain_time, connections.wait())
        .await
        .is_err()
    {
        cut.cancel();
        connections.wait().await;
    }
    Drained {
        abandoned: abandoned.load(Ordering::Relaxed),
    }
}

/// A client that gave up in the queue is no reason to wait; lack of descriptors is.
async fn pause_after(error: &io::Error, refusals: &mut u64) {
    let its_own_doing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    );
    if its_own_doing {
        return;
    }
    if *refusals == 0 {
        let is_of_files = error
            .raw_os_error()
            .is_some_and(|code| TOO_MANY_FILES.contains(&code));
        let hint = is_of_files
            .then_some("raise the limit on open files (LimitNOFILE), or lower gateway.connections");
        tracing::error!(%error, hint, "connections cannot be accepted");
    }
    *refusals = refusals.saturating_add(1);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[derive(PartialEq, Eq)]
enum Ending {
    Finished,
    Cut,
}

struct Connection {
    limits: ConnectionLimits,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Connection {
    async fn run<I, P, A, F, B>(self, io: I, peer: P, answer: A) -> Ending
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Clone,
        A: Fn(Request<Incoming>, P) -> F,
        F: Future<Output = Response<B>> + Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let asked = AtomicBool::new(false);
        let service = service_fn(|request| {
            asked.store(true, Ordering::Relaxed);
            let (answering, stop) = (answer(request, peer.clone()), &self.stop);
            async move {
                let mut answer = answering.await;
                if stop.is_cancelled() {
                    let headers = answer.headers_mut();
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let io = TokioIo::new(StallLimit::new(io, self.limits.write_time_out, LEAST_RATE));
        let mut connection = pin!(self.builder().serve_connection(io, service));
        let early = tokio::select! {
            result = &mut connection => Some(result),
            () = self.has_waited() => None,
        };
        let result = match early {
            Some(result) => result,
            // hyper waits for the first request of a connection even when shutting down.
            None if !asked.load(Ordering::Relaxed) => return Ending::Finished,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased; // what is over is not cut
                    result = &mut connection => result,
                    () = self.cut.cancelled() => return Ending::Cut,
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended early");
        }
        Ending::Finished
    }

    /// Ends when the listener is to stop, and what was on its way has had time to come.
    async fn has_waited(&self) {
        self.stop.cancelled().await;
        tokio::select! {
            () = tokio::time::sleep(IDLE_GRACE) => {}
            () = self.cut.cancelled() => {}
        }
    }

    fn builder(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_read_time_out)
            .max_headers(self.limits.header_count)
            .max_header_size(self.limits.header_limit_bytes)
            .max_buf_size(self.limits.header_limit_bytes.max(64 << 10));
        builder
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use http_body_util::Empty;
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::GatewayConfig;

    struct Counted {
        listener: TcpListener,
        accepted: Arc<AtomicUsize>,
    }

    impl Listener for Counted {
        type Io = TcpStream;
        type Peer = SocketAddr;
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            let accepted = Listener::accept(&self.listener).await?;
            self.accepted.fetch_add(1, Ordering::Relaxed);
            Ok(accepted)
        }
    }

    #[tokio::test]
    async fn nobody_is_accepted_once_it_is_to_stop() {
        // Often: by chance it would not be seen.
        for _ in 0..64 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let first = TcpStream::connect(address).await.unwrap();
            let second = TcpStream::connect(address).await.unwrap();
            // After one, it is known to be ready for more.
            let one = listener.accept().await.unwrap();
            let (stop, accepted) = (CancellationToken::new(), Arc::default());
            stop.cancel();
            let counted = Counted {
                listener,
                accepted: Arc::clone(&accepted),
            };
            let limits = GatewayConfig::default().connection_limits();
            let answer = |_: Request<Incoming>, _: SocketAddr| async {
                Response::new(Empty::<Bytes>::new())
            };
            listen(counted, limits, stop, answer).await;
            assert_eq!(accepted.load(Ordering::Relaxed), 0);
            drop((first, second, one));
        }
    }
}
