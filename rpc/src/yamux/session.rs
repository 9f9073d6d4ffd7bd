//! The yamux state machine: bytes and the time go in, bytes and events come out.
mod receive;

use std::collections::VecDeque;
use std::ops::Range;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use super::config::{Config, INITIAL_WINDOW};
use super::control::Control;
use super::error::{OpenError, SessionError, StreamError};
use super::frame::{Flags, FrameType, HEADER_LEN, Header};
use super::liveness::Liveness;
use super::table::{StreamKey, StreamState, Table};

/// Payload of one frame of ours, in bytes: large enough that headers cost nothing, small enough that streams take turns.
const MAX_FRAME: u32 = 64 * 1024;
/// Writers wait while this many bytes are not taken by the socket.
const OUTGOING_HIGH_WATER: usize = 256 * 1024;
/// The socket is not read while this many bytes are not taken by it: answers (to pings, to streams that are refused)
/// would otherwise pile up for a peer that sends and never reads.
const OUTGOING_LIMIT: usize = 1024 * 1024;
/// Buffers above this are given back once empty, so that an idle stream costs little.
const KEPT_CAPACITY: usize = 16 * 1024;

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens streams 1, 3, 5 and so on.
    Client,
    /// Opens streams 2, 4, 6 and so on.
    Server,
}

/// What has become possible since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// [`Session::accept`] has something.
    Incoming,
    /// [`Session::open`] may succeed now, or fail for good.
    MayOpen,
    /// The stream has data, its end, or an error.
    Readable(StreamKey),
    /// The stream takes data again, or has an error.
    Writable(StreamKey),
}

/// What has arrived on a stream that was [handed over](Session::hand_over).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// Data, by its place in the bytes that were last given to [`Session::receive`].
    Data(StreamKey, Range<usize>),
    /// Nothing more: the peer has ended the stream, or it is over.
    End(StreamKey),
    /// Nothing more: the stream was ended in both directions at once.
    Reset(StreamKey),
}

/// Where the next byte of the peer belongs.
#[derive(Debug)]
enum Input {
    Header {
        have: [u8; HEADER_LEN],
        len: usize,
    },
    Payload {
        stream: Option<StreamKey>,
        remaining: usize,
        then_fin: bool,
    },
}

const NO_HEADER: Input = Input::Header {
    have: [0; HEADER_LEN],
    len: 0,
};

/// One yamux session without socket or clock; times are counted from its start.
///
/// Streams the peer opens are acknowledged at once. After an error of [`receive`](Self::receive) or
/// [`handle_deadline`](Self::handle_deadline) the session is over: what was received can still be read, then comes the
/// end; nothing can be written.
#[derive(Debug)]
pub struct Session {
    config: Config,
    table: Table,
    next_id: Option<u32>,
    unacknowledged: usize,
    unaccepted: VecDeque<StreamKey>,
    input: Input,
    outgoing: Vec<u8>,
    starved: Vec<StreamKey>,
    buffered: usize,
    events: Vec<Event>,
    handed: Vec<Handed>,
    liveness: Liveness,
    control: Control,
    /// Received since they were last taken.
    frames: usize,
    peer_gone_away: bool,
    gone_away: bool,
    ended: bool,
}

impl Session {
    /// A session that begins at time zero.
    pub fn new(role: Role, mut config: Config) -> Self {
        config.receive_window = config.receive_window.max(INITIAL_WINDOW);
        let liveness = Liveness::new(&config);
        Self {
            config,
            table: Table::default(),
            next_id: Some(match role {
                Role::Client => 1,
                Role::Server => 2,
            }),
            unacknowledged: 0,
            unaccepted: VecDeque::new(),
            input: NO_HEADER,
            outgoing: Vec::new(),
            starved: Vec::new(),
            buffered: 0,
            events: Vec::new(),
            handed: Vec::new(),
            liveness,
            control: Control::default(),
            frames: 0,
            peer_gone_away: false,
            gone_away: false,
            ended: false,
        }
    }

    /// Opens a stream and announces it to the peer without waiting for data.
    pub fn open(&mut self, now: Duration) -> Result<StreamKey, OpenError> {
        if self.ended {
            return Err(OpenError::SessionEnded);
        }
        if self.peer_gone_away {
            return Err(OpenError::GoAway);
        }
        if self.unacknowledged >= self.config.open_backlog {
            return Err(OpenError::Backlog);
        }
        if self.table.len() >= self.config.max_streams {
            return Err(OpenError::TooManyStreams {
                limit: self.config.max_streams,
            });
        }
        let id = self.next_id.ok_or(OpenError::IdsUsedUp)?;
        self.next_id = id.checked_add(2);
        let key = self.add_stream(id, true, now);
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        self.liveness.watch_streams(now);
        self.push(FrameType::WindowUpdate, Flags::SYN, id, self.extra_window());
        Ok(key)
    }

    /// Takes the oldest stream that the peer has opened and nobody has taken.
    pub fn accept(&mut self) -> Option<StreamKey> {
        self.unaccepted.pop_front()
    }

    /// Reads into `into`: 0 bytes are the end of the stream, pending means that nothing is there yet.
    pub fn read(&mut self, key: StreamKey, into: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        let most = into.len();
        self.read_with(key, most, |data| {
            if let Some(target) = into.get_mut(..data.len()) {
                target.copy_from_slice(data);
            }
        })
    }

    /// Reads at most `most` bytes by showing them to `take`; otherwise as [`read`](Self::read).
    pub fn read_with(
        &mut self,
        key: StreamKey,
        most: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<Result<usize, StreamError>> {
        let Some(stream) = self.table.get_mut(key) else {
            return Poll::Ready(Err(StreamError::Reset));
        };
        if stream.reset {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if stream.received.is_empty() {
            let at_end = stream.fin_received || self.ended || most == 0;
            return if at_end {
                Poll::Ready(Ok(0))
            } else {
                Poll::Pending
            };
        }
        let n = stream.received.len().min(most);
        take(stream.received.get(..n).unwrap_or_default());
        stream.received.advance(n);
        if stream.received.is_empty() && stream.received.capacity() > KEPT_CAPACITY {
            stream.received = BytesMut::new();
        }
        self.buffered = self.buffered.saturating_sub(n);
        self.top_up(key);
        Poll::Ready(Ok(n))
    }

    /// From now on, what arrives on this stream is not kept but reported by [`take_handed`](Self::take_handed), and
    /// counts as read. Returns what had arrived before.
    pub fn hand_over(&mut self, key: StreamKey) -> BytesMut {
        let Some(stream) = self.table.get_mut(key) else {
            self.handed.push(Handed::End(key));
            return BytesMut::new();
        };
        stream.handed_over = true;
        let received = std::mem::take(&mut stream.received);
        let is_over = stream.reset || stream.fin_received || self.ended;
        self.buffered = self.buffered.saturating_sub(received.len());
        if is_over {
            self.hand_end(key);
        }
        self.top_up(key);
        received
    }

    /// Moves into `into`, which must be empty, what has arrived on streams that were handed over, oldest first.
    pub fn take_handed(&mut self, into: &mut Vec<Handed>) {
        if into.is_empty() {
            std::mem::swap(&mut self.handed, into);
        }
    }

    /// Gives back memory that nothing is in.
    pub fn give_back(&mut self) {
        self.outgoing.shrink_to(0);
        self.handed.shrink_to(0);
        self.events.shrink_to(0);
    }

    /// Whether the session is over.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Queues as much of `data` as window and buffer allow; pending means none of it.
    pub fn write(&mut self, key: StreamKey, data: &[u8]) -> Poll<Result<usize, StreamError>> {
        if self.ended {
            return Poll::Ready(Err(StreamError::SessionEnded));
        }
        let Some(stream) = self.table.get_mut(key) else {
            return Poll::Ready(Err(StreamError::Reset));
        };
        if stream.reset {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if stream.fin_sent {
            return Poll::Ready(Err(StreamError::Finished));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.outgoing.len() >= OUTGOING_HIGH_WATER {
            if !stream.starved {
                stream.starved = true;
                self.starved.push(key);
            }
            return Poll::Pending;
        }
        let wanted = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let length = wanted.min(stream.send_window).min(MAX_FRAME);
        let n = usize::try_from(length).unwrap_or(usize::MAX);
        let (Some(payload), true) = (data.get(..n), n > 0) else {
            return Poll::Pending;
        };
        stream.send_window = stream.send_window.saturating_sub(length);
        let id = stream.id;
        self.push(FrameType::Data, Flags::NONE, id, length);
        self.outgoing.extend_from_slice(payload);
        Poll::Ready(Ok(n))
    }

    /// Says that this side sends no more on the stream; said once, however often it is called.
    pub fn finish(&mut self, key: StreamKey, now: Duration) {
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        if stream.fin_sent || stream.reset || self.ended {
            return;
        }
        stream.fin_sent = true;
        stream.since = now;
        let id = stream.id;
        self.push(FrameType::WindowUpdate, Flags::FIN, id, 0);
        self.settle(key);
    }

    /// Ends the stream in both directions; the peer loses what it has not read.
    pub fn reset(&mut self, key: StreamKey) {
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        if stream.is_over() || self.ended {
            return;
        }
        let id = stream.id;
        self.push(FrameType::WindowUpdate, Flags::RST, id, 0);
        self.kill(key);
    }

    /// Gives a stream back: it is finished, what still arrives is thrown away, the key is no longer valid.
    pub fn release(&mut self, key: StreamKey, now: Duration) {
        self.finish(key, now);
        let ended = self.ended;
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        stream.released = true;
        stream.reset |= ended;
        stream.since = now;
        let handed_over = std::mem::take(&mut stream.handed_over);
        let unread = std::mem::take(&mut stream.received).len();
        self.buffered = self.buffered.saturating_sub(unread);
        if handed_over {
            self.handed.push(Handed::End(key));
        }
        // What was unread may have been all that the peer could send.
        self.top_up(key);
        self.liveness.watch_streams(now);
        self.settle(key);
    }

    /// Finishes every stream: what is said before the connection is closed.
    pub fn finish_all(&mut self, now: Duration) {
        for key in self.table.keys() {
            self.finish(key, now);
        }
    }

    /// Tells the peer to open no more streams; existing ones continue.
    pub fn go_away(&mut self) {
        if !self.gone_away && !self.ended {
            self.gone_away = true;
            self.push(FrameType::GoAway, Flags::NONE, 0, 0);
        }
    }

    /// Takes what the peer sent, in pieces of any size. An error ends the session. What
    /// [`take_handed`](Self::take_handed) then brings is about these bytes: take it before the next call.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> Result<(), SessionError> {
        let outcome = self.receive_all(bytes, now);
        if outcome.is_err() {
            self.end();
        }
        outcome
    }

    /// How many frames have begun since the last call: what they were to take apart, whatever they brought.
    pub fn take_frames(&mut self) -> usize {
        std::mem::take(&mut self.frames)
    }

    /// Whether more should be read from the socket; false while the peer does not take our answers, and until a
    /// [deadline](Self::next_deadline) where it has sent more frames without data, or with next to none, than any purpose needs.
    pub fn wants_input(&self) -> bool {
        self.outgoing.len() < OUTGOING_LIMIT && self.control.until().is_none()
    }

    /// Moves everything that shall go to the socket into `into`, if that is empty. Returns whether there is something.
    pub fn take_outgoing(&mut self, into: &mut Vec<u8>) -> bool {
        if into.is_empty() && !self.outgoing.is_empty() {
            std::mem::swap(&mut self.outgoing, into);
            for key in std::mem::take(&mut self.starved) {
                if let Some(stream) = self.table.get_mut(key) {
                    stream.starved = false;
                }
                self.events.push(Event::Writable(key));
            }
        }
        !into.is_empty()
    }

    /// Whether [`take_outgoing`](Self::take_outgoing) has something.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Bytes that [`take_outgoing`](Self::take_outgoing) would move.
    pub fn outgoing_bytes(&self) -> usize {
        self.outgoing.len()
    }

    /// Tells that the socket takes nothing at the moment.
    pub fn write_blocked(&mut self, now: Duration) {
        self.liveness.write_blocked(now);
    }

    /// Tells that the socket has taken something.
    pub fn write_progressed(&mut self) {
        self.liveness.write_progressed();
    }

    /// When [`handle_deadline`](Self::handle_deadline) wants to be called next.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.ended {
            None
        } else {
            let deadlines = [self.liveness.next_deadline(), self.control.until()];
            deadlines.into_iter().flatten().min()
        }
    }

    /// Does what is due: asks the peer for a sign of life, forgets streams it never closed. An error ends the session.
    pub fn handle_deadline(&mut self, now: Duration) -> Result<(), SessionError> {
        let outcome = self.check_deadlines(now);
        if outcome.is_err() {
            self.end();
        }
        outcome
    }

    /// Ends the session; its streams can still be read to the end of what was received.
    pub fn end(&mut self) {
        self.ended = true;
        self.outgoing = Vec::new();
        self.events.push(Event::Incoming);
        self.events.push(Event::MayOpen);
        for key in self.table.keys() {
            self.events.push(Event::Readable(key));
            self.events.push(Event::Writable(key));
            self.hand_end(key);
        }
    }

    /// Takes the events since the last call, oldest first; one may be there more than once.
    pub fn drain_events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// Streams that are open in at least one direction.
    pub fn live_streams(&self) -> usize {
        self.table.live()
    }

    /// Bytes received and not read, of all streams.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered
    }

    fn extra_window(&self) -> u32 {
        self.config.receive_window.saturating_sub(INITIAL_WINDOW)
    }

    fn push(&mut self, kind: FrameType, flags: Flags, stream: u32, length: u32) {
        let header = Header {
            kind,
            flags,
            stream,
            length,
        };
        self.outgoing.extend_from_slice(&header.encode());
    }

    fn add_stream(&mut self, id: u32, ours: bool, now: Duration) -> StreamKey {
        self.table.insert(StreamState {
            id,
            awaits_ack: ours,
            send_window: INITIAL_WINDOW,
            receive_window: self.config.receive_window,
            received: BytesMut::new(),
            fin_sent: false,
            fin_received: false,
            reset: false,
            released: false,
            starved: false,
            handed_over: false,
            since: now,
        })
    }

    /// Says of a stream that was handed over that nothing more comes.
    fn hand_end(&mut self, key: StreamKey) {
        if let Some(stream) = self.table.get_mut(key)
            && stream.handed_over
        {
            let end = if stream.reset {
                Handed::Reset(key)
            } else {
                Handed::End(key)
            };
            self.handed.push(end);
        }
    }

    /// Grants window for what was read, in steps of at least half a window as Go's implementation does.
    fn top_up(&mut self, key: StreamKey) {
        let max = self.config.receive_window;
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        if stream.fin_received || stream.is_over() || self.ended {
            return;
        }
        let unread = u32::try_from(stream.received.len()).unwrap_or(u32::MAX);
        let grant = max
            .saturating_sub(unread)
            .saturating_sub(stream.receive_window);
        if grant < max / 2 {
            return;
        }
        stream.receive_window = stream.receive_window.saturating_add(grant);
        let id = stream.id;
        self.push(FrameType::WindowUpdate, Flags::NONE, id, grant);
    }

    /// Marks a stream reset and drops what nobody can read any more.
    fn kill(&mut self, key: StreamKey) {
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        stream.reset = true;
        let unread = std::mem::take(&mut stream.received).len();
        self.buffered = self.buffered.saturating_sub(unread);
        self.events.push(Event::Readable(key));
        self.events.push(Event::Writable(key));
        self.hand_end(key);
        self.settle(key);
    }

    fn settle(&mut self, key: StreamKey) {
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        if !stream.is_over() {
            return;
        }
        if std::mem::take(&mut stream.awaits_ack) {
            self.acknowledged();
        }
        self.table.settle(key);
    }

    fn acknowledged(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.events.push(Event::MayOpen);
    }

    fn check_deadlines(&mut self, now: Duration) -> Result<(), SessionError> {
        self.control.check(now);
        if let Some(value) = self.liveness.check(now)? {
            self.push(FrameType::Ping, Flags::SYN, 0, value);
        }
        if !self.liveness.sweep_is_due(now) {
            return Ok(());
        }
        let mut waiting = false;
        for key in self.table.keys() {
            let Some(stream) = self.table.get_mut(key) else {
                continue;
            };
            let age = now.saturating_sub(stream.since);
            if stream.awaits_ack && age >= self.config.open_timeout {
                let timeout = self.config.open_timeout;
                return Err(SessionError::OpenTimeout {
                    stream: stream.id,
                    timeout,
                });
            }
            // A stream that somebody still reads may stay half-closed for as long as they like.
            let orphaned = stream.released && !stream.is_over();
            waiting |= stream.awaits_ack || orphaned;
            if orphaned && age >= self.config.close_timeout {
                self.reset(key);
            }
        }
        if waiting {
            self.liveness.watch_streams(now);
        }
        Ok(())
    }
}
