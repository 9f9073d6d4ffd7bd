//! The daemon's side of the launcher's socket: synchronous, over one descriptor.
//!
//! [`Client::send`] and [`Client::receive`] each move one packet. A daemon with an event loop makes
//! the socket non-blocking and waits for it itself; tools and tests use [`Client::call`].

mod connect;
mod spawn;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::protocol::packet::{self, ReceiveError};
use crate::protocol::{CodecError, Event, Failure, Incoming, Reply, Request, RequestId, codec};

pub use connect::{ConnectError, connect};
pub use spawn::{SpawnError, spawn};

/// Most events kept while a [`Client::call`] waits for its answer; the oldest go first.
const ASIDE_LIMIT: usize = 4096;

/// One connection to a launcher.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    next: AtomicU32,
    aside: Mutex<VecDeque<Event>>,
}

/// Why nothing was sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket does not block, and nothing is there to read, or no room to write.
    #[error("the launcher's socket is not ready")]
    WouldBlock,
    /// The launcher is gone.
    #[error("the launcher has closed its connection")]
    Closed,
    /// A packet from the launcher that no launcher sends; its descriptors are closed.
    #[error("the launcher sent a packet that cannot be read")]
    Packet(#[source] CodecError),
    /// A packet longer, or with more descriptors, than any; its descriptors are closed.
    #[error("the launcher sent a packet that is too long")]
    Truncated,
    /// The request does not fit into a packet.
    #[error("the request cannot be sent")]
    Request(#[source] CodecError),
    /// The system call failed.
    #[error("{operation} on the launcher's socket")]
    System {
        /// `send`, `receive` or `wait`.
        operation: &'static str,
        /// Its errno.
        #[source]
        source: io::Error,
    },
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The launcher refused or failed.
    #[error("{0}")]
    Failed(Failure),
    /// The connection.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No answer in time.
    #[error("the launcher gave no answer within {timeout:?}")]
    Timeout {
        /// How long was waited.
        timeout: Duration,
    },
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    /// Takes a connected `SOCK_SEQPACKET` socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            next: AtomicU32::new(1),
            aside: Mutex::new(VecDeque::new()),
        }
    }

    /// Whether [`Self::send`] and [`Self::receive`] wait.
    ///
    /// # Errors
    /// That of fcntl(2).
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, nonblocking)?)
    }

    /// Sends one request. `id` comes back in its reply; numbers may be used again once answered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send(&self, id: RequestId, request: &Request) -> Result<(), ClientError> {
        let bytes = codec::encode_request(id, request).map_err(ClientError::Request)?;
        packet::send(&self.socket, &bytes, &[]).map_err(|errno| match errno {
            Errno::AGAIN => ClientError::WouldBlock,
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => ClientError::Closed,
            errno => ClientError::System {
                operation: "send",
                source: errno.into(),
            },
        })
    }

    /// Receives one reply or event. Descriptors are close-on-exec.
    ///
    /// # Errors
    /// [`ClientError`]; after [`ClientError::Packet`] and [`ClientError::Truncated`] the connection
    /// still stands.
    pub fn receive(&self) -> Result<Incoming, ClientError> {
        let packet = packet::receive(&self.socket).map_err(|error| match error {
            ReceiveError::WouldBlock => ClientError::WouldBlock,
            ReceiveError::Closed => ClientError::Closed,
            ReceiveError::Truncated => ClientError::Truncated,
            ReceiveError::System(source) => ClientError::System {
                operation: "receive",
                source,
            },
        })?;
        codec::decode_incoming(packet).map_err(ClientError::Packet)
    }

    /// Sends a request and waits for its answer. Events that come meanwhile are kept for
    /// [`Self::next_event`]; answers to other requests are dropped, so do not mix this with
    /// [`Self::send`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&self, request: &Request, timeout: Duration) -> Result<Reply, CallError> {
        let deadline = Instant::now() + timeout;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        loop {
            match self.send(id, request) {
                Ok(()) => break,
                Err(ClientError::WouldBlock) => self.wait(PollFlags::OUT, deadline, timeout)?,
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            self.wait(PollFlags::IN, deadline, timeout)?;
            match self.receive() {
                Ok(Incoming::Event(event)) => self.put_aside(event),
                Ok(Incoming::Reply { id: of, result }) if of == id => {
                    return result.map_err(CallError::Failed);
                }
                Ok(Incoming::Reply { .. }) | Err(ClientError::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The oldest event that was put aside, or else the next one to come.
    ///
    /// # Errors
    /// [`CallError::Timeout`] and [`CallError::Client`].
    pub fn next_event(&self, timeout: Duration) -> Result<Event, CallError> {
        let deadline = Instant::now() + timeout;
        loop {
            let kept = self.aside().pop_front();
            if let Some(event) = kept {
                return Ok(event);
            }
            self.wait(PollFlags::IN, deadline, timeout)?;
            match self.receive() {
                Ok(Incoming::Event(event)) => return Ok(event),
                Ok(Incoming::Reply { .. }) | Err(ClientError::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn put_aside(&self, event: Event) {
        let mut aside = self.aside();
        if aside.len() == ASIDE_LIMIT {
            aside.pop_front();
        }
        aside.push_back(event);
    }

    fn aside(&self) -> std::sync::MutexGuard<'_, VecDeque<Event>> {
        // Nothing that holds it can fail half way.
        self.aside
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait(
        &self,
        flags: PollFlags,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<(), CallError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.socket, flags)], Some(&left)) {
                Ok(0) => return Err(CallError::Timeout { timeout }),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(ClientError::System {
                        operation: "wait",
                        source: errno.into(),
                    }
                    .into());
                }
            }
        }
    }
}
