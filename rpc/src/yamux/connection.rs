//! A yamux session on a socket.
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::config::Config;
use super::driver::Driver;
use super::error::{OpenError, SessionError};
use super::session::{Role, Session};
use super::shared::Shared;
use super::stream::Stream;

/// A running session. Clones share it; it is closed when the last clone is dropped, and its task ends with it.
#[derive(Clone, Debug)]
pub struct Connection {
    handle: Arc<Handle>,
}

/// Closes the session when the last handle goes; streams alone do not keep it.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Connection {
    /// Takes the socket and runs a session on it, in a task of its own. Needs a tokio runtime.
    pub fn start<S>(socket: S, role: Role, config: Config) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::new(Shared::new(Session::new(role, config)));
        // Ends with the session, which the last handle closes.
        tokio::spawn(Driver::new(socket, Arc::clone(&shared)).run());
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// Opens a stream; the peer hears of it at once. Waits only while too many streams are unacknowledged.
    pub async fn open(&self) -> Result<Stream, OpenError> {
        let shared = &self.handle.shared;
        loop {
            let room = shared.may_open.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let now = shared.now();
            match shared.with(|state| state.session.open(now)) {
                Ok(key) => return Ok(Stream::new(Arc::clone(shared), key)),
                Err(OpenError::Backlog) => room.await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The streams that the peer opens; holding this alone does not keep the session.
    pub fn incoming(&self) -> Incoming {
        Incoming {
            shared: Arc::clone(&self.handle.shared),
        }
    }

    /// Tells the peer to open no more streams.
    pub fn go_away(&self) {
        self.handle.shared.with(|state| state.session.go_away());
    }

    /// Ends every stream orderly and closes the session once what is queued is written; [`ended`](Self::ended) tells when that is done.
    ///
    /// Bounded by [`Config::write_timeout`] if the peer takes nothing.
    pub fn close(&self) {
        self.handle.shared.close();
    }

    /// Waits for the session's end and says why.
    pub async fn ended(&self) -> Arc<SessionError> {
        self.handle.shared.ended().await
    }

    /// Why the session is over, if it is.
    pub fn end(&self) -> Option<Arc<SessionError>> {
        self.handle.shared.end()
    }
}

/// Streams opened by the peer, acknowledged already. Meant for one task.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    /// The next stream; the error is the session's end. Nothing is lost if the future is dropped.
    pub async fn accept(&mut self) -> Result<Stream, Arc<SessionError>> {
        loop {
            let incoming = self.shared.incoming.notified();
            tokio::pin!(incoming);
            incoming.as_mut().enable();
            if let Some(key) = self.shared.with(|state| state.session.accept()) {
                return Ok(Stream::new(Arc::clone(&self.shared), key));
            }
            if let Some(cause) = self.shared.end() {
                return Err(cause);
            }
            incoming.await;
        }
    }
}
