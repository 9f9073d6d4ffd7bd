//! The streams of one session, by wire id and by key.
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;

/// Names one stream for as long as somebody holds it; unlike the wire id, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    index: usize,
    serial: u64,
}

impl StreamKey {
    /// A small number, unique among the streams that exist at this moment.
    pub(super) fn index(self) -> usize {
        self.index
    }
}

/// One stream's state.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) id: u32,
    /// Opened by this side and not acknowledged yet.
    pub(super) awaits_ack: bool,
    /// Bytes that we may still send.
    pub(super) send_window: u32,
    /// Bytes that the peer may still send.
    pub(super) receive_window: u32,
    pub(super) received: BytesMut,
    /// What arrives goes to somebody at once; nothing is kept.
    pub(super) handed_over: bool,
    pub(super) fin_sent: bool,
    pub(super) fin_received: bool,
    pub(super) reset: bool,
    /// In the session's list of streams whose writers wait for the socket.
    pub(super) starved: bool,
    /// Nobody holds the stream any more: what arrives is thrown away.
    pub(super) released: bool,
    /// When it was opened or, once our FIN is sent, when that was.
    pub(super) since: Duration,
}

impl StreamState {
    /// No frame about this stream has a meaning any more.
    pub(super) fn is_over(&self) -> bool {
        self.reset || (self.fin_sent && self.fin_received)
    }
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    stream: StreamState,
}

/// All streams; a slot is freed when the stream is over *and* nobody holds it.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_id: BTreeMap<u32, StreamKey>,
    last_serial: u64,
    held: usize,
}

impl Table {
    pub(super) fn insert(&mut self, stream: StreamState) -> StreamKey {
        self.last_serial = self.last_serial.wrapping_add(1);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len().saturating_sub(1)
        });
        let key = StreamKey {
            index,
            serial: self.last_serial,
        };
        self.by_id.insert(stream.id, key);
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(Slot {
                serial: key.serial,
                stream,
            });
        }
        self.held = self.held.saturating_add(1);
        key
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut StreamState> {
        let slot = self.slots.get_mut(key.index)?.as_mut()?;
        (slot.serial == key.serial).then_some(&mut slot.stream)
    }

    /// The key of the stream that frames with this id are about.
    pub(super) fn find(&self, id: u32) -> Option<StreamKey> {
        self.by_id.get(&id).copied()
    }

    /// Forgets what may be forgotten about a stream: its id once it is over, all of it once nobody holds it either.
    pub(super) fn settle(&mut self, key: StreamKey) {
        let Some(stream) = self.get_mut(key) else {
            return;
        };
        if !stream.is_over() {
            return;
        }
        let (id, released) = (stream.id, stream.released);
        if self.by_id.get(&id) == Some(&key) {
            self.by_id.remove(&id);
        }
        if released && let Some(slot) = self.slots.get_mut(key.index) {
            *slot = None;
            self.free.push(key.index);
            self.held = self.held.saturating_sub(1);
        }
    }

    /// Streams that are not over, or that somebody still holds.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// Streams that frames of the peer can still be about.
    pub(super) fn live(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn keys(&self) -> Vec<StreamKey> {
        let key = |(index, slot): (usize, &Option<Slot>)| {
            slot.as_ref().map(|slot| StreamKey {
                index,
                serial: slot.serial,
            })
        };
        self.slots.iter().enumerate().filter_map(key).collect()
    }
}
