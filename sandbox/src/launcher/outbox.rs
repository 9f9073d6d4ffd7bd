//! What is to be sent to the daemon, when its socket takes it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::log;
use crate::protocol::packet::{self, Packet};
use crate::protocol::{Event, Failure, FailureKind, Reply, RequestId, codec};

/// With as many packets waiting no more requests are read: a daemon that does not read its answers
/// gets none. Events still come on top, one for each instance.
const HIGH: usize = 128;

/// Between attempts where the kernel takes no more descriptors in flight: the socket itself is
/// writable all the time, so nothing tells when it does again.
const AGAIN: Duration = Duration::from_millis(10);

/// The queue, in front of the socket.
#[derive(Debug)]
pub(super) struct Outbox {
    socket: OwnedFd,
    waiting: VecDeque<Packet>,
    /// Set while descriptors in flight are too many.
    again: Option<Instant>,
}

impl Outbox {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
            again: None,
        }
    }

    /// Answers a request.
    pub(super) fn reply(&mut self, id: RequestId, result: Result<Reply, Failure>) {
        let packet = codec::encode_reply(id, result).or_else(|error| {
            let failure = Failure {
                kind: FailureKind::Host,
                message: format!("the answer cannot be sent: {error}"),
                hint: None,
            };
            codec::encode_reply(id, Err(failure))
        });
        match packet {
            Ok(packet) => self.waiting.push_back(packet),
            Err(error) => log::line(&format!("the answer to request {id} is lost: {error}")),
        }
    }

    /// Tells of an event.
    pub(super) fn event(&mut self, event: &Event) {
        match codec::encode_event(event) {
            Ok(bytes) => self.waiting.push_back(Packet {
                bytes,
                descriptors: Vec::new(),
            }),
            Err(error) => log::line(&format!("the event {event:?} is lost: {error}")),
        }
    }

    /// Sends what the socket takes. The error is that of a connection that has ended.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        if self.again.is_some_and(|again| Instant::now() < again) {
            return Ok(());
        }
        self.again = None;
        while let Some(packet) = self.waiting.front() {
            let descriptors: Vec<BorrowedFd<'_>> =
                packet.descriptors.iter().map(AsFd::as_fd).collect();
            match packet::send(&self.socket, &packet.bytes, &descriptors) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::TOOMANYREFS) => {
                    self.again = Some(Instant::now() + AGAIN);
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Whether something waits for the socket to be writable.
    pub(super) fn wants_room(&self) -> bool {
        !self.waiting.is_empty() && self.again.is_none()
    }

    /// When to try again although the socket has not become writable.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// Whether no more requests are to be read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= HIGH
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
