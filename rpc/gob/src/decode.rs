//! Reading one direction of one stream.

use serde::de::{DeserializeOwned, DeserializeSeed};

use crate::cursor::{Cursor, begin_value};
use crate::de::ValueReader;
use crate::error::DecodeError;
use crate::graph::NodeRef;
use crate::limits::Limits;
use crate::registry::{Registry, Resolved};
use crate::scan::{Progress, Scan};
use crate::schema::WireType;
use crate::value::{self, Value};
use crate::wire::{self, Reader};

/// Capacity that an empty buffer keeps, in bytes: enough that usual messages do not ask the
/// allocator each time.
const KEPT_CAPACITY: usize = 256 << 10;

/// Longest message that is passed over because it is above its limit, in bytes: nothing of it is kept, but all of it
/// has to be received.
const PASSED_OVER_LIMIT: u64 = 1 << 30;

/// Decoder of one direction of one stream: bytes in as they arrive, values out.
///
/// Call a decoding method until it gives `None` before pushing more: then no more is buffered
/// than one value within the limits and what was pushed last.
///
/// After an error the stream goes on with the next value, unless [`Decoder::is_broken`].
#[derive(Debug)]
pub struct Decoder {
    registry: Registry,
    buffer: Vec<u8>,
    /// How much of the buffer has been read.
    read: usize,
    state: State,
    /// Whether the last message was a type definition, after which a stream does not end.
    after_definition: bool,
}

#[derive(Debug)]
enum State {
    /// A message comes next.
    Between,
    /// In a value that may span messages, of which not all are there.
    Scanning {
        value: Extent,
        scan: Scan,
        reached: usize,
        message_end: usize,
    },
    /// A value is wholly buffered.
    Ready { value: Extent, end: usize },
    /// In a message above the limit, of which so many bytes are still to come.
    PassingOver { left: u64 },
    /// The position in the stream is lost.
    Broken,
}

/// Where a value begins, as distances from what has been read.
#[derive(Debug, Clone, Copy)]
struct Extent {
    ty: Resolved,
    start: usize,
    /// End of its first message.
    message_end: usize,
}

/// An error, and whether the stream goes on after it.
enum Failure {
    Stream(DecodeError),
    Value(DecodeError),
}

impl Decoder {
    /// Decoder of a fresh stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            registry: Registry::new(limits),
            buffer: Vec::new(),
            read: 0,
            state: State::Between,
            after_definition: false,
        }
    }

    /// Buffers input as it arrives, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) {
        self.release();
        if self.read > self.buffer.len() / 2 {
            // Moves at most as many bytes as have been read since the last time.
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Decodes the next value. `None` when more bytes are needed.
    ///
    /// Struct fields match by name; what the destination lacks is skipped, and what was not sent
    /// is for serde to fill in, so that structs want `#[serde(default)]`: Go omits zero fields.
    /// Kinds must agree, as the crate's documentation says in full.
    ///
    /// # Errors
    /// If the input is malformed, goes over a limit, or does not fit the destination. Then the
    /// value is gone and the stream goes on, unless [`Decoder::is_broken`].
    pub fn decode<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DecodeError> {
        let value = self.decode_seed(std::marker::PhantomData);
        self.release();
        value
    }

    /// Decodes the next value by a seed, possibly borrowing from this decoder. `None` when more
    /// bytes are needed.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_seed<'de, S: DeserializeSeed<'de>>(
        &'de mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        match self.take()? {
            Some((mut cursor, node)) => seed
                .deserialize(ValueReader::new(&mut cursor, node))
                .map(Some),
            None => Ok(None),
        }
    }

    /// Decodes the next value, of any type. `None` when more bytes are needed.
    ///
    /// # Errors
    /// If the input is malformed or goes over a limit; as [`Decoder::decode`].
    pub fn decode_value(&mut self) -> Result<Option<Value>, DecodeError> {
        let value = match self.take()? {
            Some((mut cursor, node)) => value::read::value(&mut cursor, node).map(Some),
            None => Ok(None),
        };
        self.release();
        value
    }

    /// Passes over the next value. `None` when more bytes are needed.
    ///
    /// Unlike Go's decoder it also passes over interfaces that hold nil or nested definitions.
    ///
    /// # Errors
    /// If the input is malformed or goes over a limit; as [`Decoder::decode`].
    pub fn skip(&mut self) -> Result<Option<()>, DecodeError> {
        let skipped = match self.take()? {
            Some((mut cursor, node)) => cursor.skip(node).map(Some),
            None => Ok(None),
        };
        self.release();
        skipped
    }

    /// Whether the next value is wholly buffered. The value stays.
    ///
    /// # Errors
    /// As [`Decoder::peek_type`].
    pub fn is_ready(&mut self) -> Result<bool, DecodeError> {
        self.advance()?;
        Ok(matches!(self.state, State::Ready { .. }))
    }

    /// The type of the next value, once that is wholly buffered. The value stays.
    ///
    /// # Errors
    /// If the input is malformed or goes over a limit; as [`Decoder::decode`].
    pub fn peek_type(&mut self) -> Result<Option<WireType>, DecodeError> {
        self.advance()?;
        Ok(match &self.state {
            State::Ready { value, .. } => Some(WireType::from(self.registry.schema(value.ty.node))),
            _ => None,
        })
    }

    /// Gives back memory that holds nothing.
    pub fn give_back(&mut self) {
        self.release();
        self.buffer.shrink_to(0);
    }

    /// Bytes that are buffered and not read.
    pub fn buffered(&self) -> usize {
        self.buffer.len().saturating_sub(self.read)
    }

    /// Whether the input may end here: no value, message or definition is cut short by that.
    pub fn is_clean_end(&self) -> bool {
        matches!(self.state, State::Between) && self.buffered() == 0 && !self.after_definition
    }

    /// Whether an error has left the stream without a known position, so that nothing more can
    /// be decoded: broken framing, a bad type definition, a malformed value that spans messages,
    /// a message above its limit that is not the whole of a value, or has more than 1 GiB.
    pub fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// Empties the buffer if all of it has been read, and gives back what a large value took.
    fn release(&mut self) {
        if self.read >= self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_CAPACITY);
            self.read = 0;
        }
    }

    /// Consumes the next value and gives a cursor into it.
    fn take(&mut self) -> Result<Option<(Cursor<'_>, NodeRef)>, DecodeError> {
        self.advance()?;
        let State::Ready { value, end } = self.state else {
            return Ok(None);
        };
        self.state = State::Between;
        let base = self.read;
        self.read = base.saturating_add(end);
        // The bytes stay in the buffer until the next push.
        let message = slice(&self.buffer, base, value.start, value.message_end);
        let following = slice(&self.buffer, base, value.message_end, end);
        let reader = Reader::new(message, following);
        Ok(Some((
            Cursor::new(reader, &self.registry, value.ty),
            value.ty.node,
        )))
    }

    /// Takes in definitions up to the next value, and finds that value's end.
    fn advance(&mut self) -> Result<(), DecodeError> {
        self.step().map_err(|failure| match failure {
            Failure::Stream(error) => {
                self.state = State::Broken;
                error
            }
            Failure::Value(error) => error,
        })
    }

    fn step(&mut self) -> Result<(), Failure> {
        loop {
            match self.state {
                State::Ready { .. } => return Ok(()),
                State::Broken => return Err(Failure::Stream(DecodeError::Broken)),
                State::Scanning { .. } => return self.go_on_scanning(),
                State::PassingOver { left } => {
                    if !self.pass_over(left) {
                        return Ok(());
                    }
                }
                State::Between => {
                    if !self.next_message()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads the beginning of one message; false if it is not wholly there.
    fn next_message(&mut self) -> Result<bool, Failure> {
        let unread = self.buffer.get(self.read..).unwrap_or_default();
        let limit = self.registry.limits().message_bytes;
        let (message, following) = match wire::split_message(unread, limit) {
            Ok(Some(split)) => split,
            Ok(None) => return Ok(false),
            Err(error @ DecodeError::MessageTooLarge { .. }) => return self.refuse_message(error),
            Err(error) => return Err(Failure::Stream(error)),
        };
        let message_end = unread.len().saturating_sub(following.len());
        let mut reader = Reader::new(message, following);
        match begin_message(&mut self.registry, &mut reader) {
            Ok(Some(ty)) => {
                let start = message_end.saturating_sub(reader.remaining());
                let value = Extent {
                    ty,
                    start,
                    message_end,
                };
                self.after_definition = false;
                if ty.interfaces {
                    let mut scan = Scan::whole(&self.registry, true, message.len());
                    scan.start(ty.node, &mut reader, &self.registry)
                        .map_err(Failure::Stream)?;
                    let reached = message_end.saturating_sub(reader.remaining());
                    self.state = State::Scanning {
                        value,
                        scan,
                        reached,
                        message_end,
                    };
                } else {
                    self.state = State::Ready {
                        value,
                        end: message_end,
                    };
                }
                Ok(true)
            }
            Ok(None) => {
                self.after_definition = true;
                self.read = self.read.saturating_add(message_end);
                Ok(true)
            }
            Err(failure) => {
                self.after_definition = false;
                self.read = self.read.saturating_add(message_end);
                Err(failure)
            }
        }
    }

    /// Fails with `error`, by which the next message is above its limit; false if it has to be seen first what the
    /// message is. The stream goes on behind it where it is a value, all of it.
    fn refuse_message(&mut self, error: DecodeError) -> Result<bool, Failure> {
        let unread = self.buffer.get(self.read..).unwrap_or_default();
        let Some((length, rest)) = wire::split_length(unread).map_err(Failure::Stream)? else {
            return Ok(false);
        };
        if length > PASSED_OVER_LIMIT {
            return Err(Failure::Stream(error));
        }
        let id = match Reader::new(rest, &[]).int("a type id") {
            Ok(id) => id,
            Err(DecodeError::UnexpectedEnd { .. }) => return Ok(false),
            Err(_) => return Err(Failure::Stream(error)),
        };
        let whole = self.registry.resolve(id).is_ok_and(|ty| !ty.interfaces);
        if !whole {
            return Err(Failure::Stream(error));
        }
        self.read = self.buffer.len().saturating_sub(rest.len());
        self.after_definition = false;
        self.state = State::PassingOver { left: length };
        Err(Failure::Value(error))
    }

    /// Drops what there is of a message of which `left` bytes are to come; whether that was all.
    fn pass_over(&mut self, left: u64) -> bool {
        let buffered = self.buffered();
        let dropped = usize::try_from(left).map_or(buffered, |left| left.min(buffered));
        self.read = self.read.saturating_add(dropped);
        let left = left.saturating_sub(u64::try_from(dropped).unwrap_or(u64::MAX));
        self.state = if left == 0 {
            State::Between
        } else {
            State::PassingOver { left }
        };
        left == 0
    }

    /// Scans as far as the buffered messages reach.
    fn go_on_scanning(&mut self) -> Result<(), Failure> {
        let State::Scanning {
            value,
            scan,
            reached,
            message_end,
        } = &mut self.state
        else {
            return Ok(());
        };
        let buffered = self.buffer.len().saturating_sub(self.read);
        let message = slice(&self.buffer, self.read, *reached, *message_end);
        let following = slice(&self.buffer, self.read, *message_end, buffered);
        let mut reader = Reader::new(message, following);
        let progress = scan
            .run(&mut reader, &mut self.registry)
            .map_err(Failure::Stream)?;
        *message_end = buffered.saturating_sub(reader.following());
        *reached = message_end.saturating_sub(reader.remaining());
        if progress == Progress::Done {
            self.state = State::Ready {
                value: *value,
                end: *message_end,
            };
        }
        Ok(())
    }
}

/// Takes in a definition, or reads up to a value and gives its type.
fn begin_message(
    registry: &mut Registry,
    reader: &mut Reader<'_>,
) -> Result<Option<Resolved>, Failure> {
    let id = reader.int("a type id").map_err(Failure::Value)?;
    if id < 0 {
        let id = id.saturating_neg();
        registry.define(reader, id).map_err(Failure::Stream)?;
        if reader.remaining() > 0 {
            let reason = "more follows in its message";
            return Err(Failure::Stream(DecodeError::BadDefinition { id, reason }));
        }
        return Ok(None);
    }
    let ty = registry.resolve(id).map_err(Failure::Value)?;
    let shape = registry.shape(ty.node).map_err(Failure::Value)?;
    begin_value(reader, shape).map_err(Failure::Value)?;
    Ok(Some(ty))
}

/// What lies between two distances from `base`.
fn slice(buffer: &[u8], base: usize, start: usize, end: usize) -> &[u8] {
    buffer
        .get(base.saturating_add(start)..base.saturating_add(end))
        .unwrap_or_default()
}
