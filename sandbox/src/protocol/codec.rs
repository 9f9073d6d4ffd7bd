//! Messages as bytes.
//!
//! A packet is: version (1 byte), type (1 byte), request number (4 bytes, 0 for an event), then the
//! fields of that type. Numbers are big-endian, a text is its length (2 bytes) and UTF-8, an
//! optional value is 0 or 1 and then the value. Nothing may follow the last field, and each type
//! has a fixed number of descriptors.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use pinfold_policy::{
    Digest, FROM_DAEMON_LIMIT_BYTES, Generation, InstanceId, PluginId, PluginIdError,
};

use super::packet::Packet;
use super::{
    Event, ExitCause, Failure, FailureKind, Incoming, KillHow, Launched, PACKET_LIMIT_BYTES, Reply,
    Request, RequestId, SocketDirectory, Stats,
};

/// Version of this encoding. Launcher and daemon are installed together, so there is one.
const VERSION: u8 = 1;

/// Longest failure message, in bytes: a chain of causes with paths. Longer ones are cut.
const MESSAGE_LIMIT_BYTES: usize = 4096;

/// Most `from-daemon` values and most missing controls that one message names.
const ITEMS_LIMIT: usize = 64;

/// Why bytes are no message, or a message does not fit into a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The packet ends within a field.
    #[error("the packet ends within {field}")]
    Short {
        /// The field.
        field: &'static str,
    },
    /// Bytes after the last field.
    #[error("the packet has {bytes} bytes after its last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Another version of the protocol.
    #[error("protocol version {version}, this side speaks {VERSION}")]
    Version {
        /// What the packet says.
        version: u8,
    },
    /// A value that the field does not have.
    #[error("{field} has no value {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// The value.
        value: u8,
    },
    /// A text that is not UTF-8.
    #[error("{field} is not UTF-8")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// A field over its limit.
    #[error("{field} has {found}, at most {limit} are allowed")]
    Limit {
        /// The field.
        field: &'static str,
        /// Its length or count.
        found: usize,
        /// The most.
        limit: usize,
    },
    /// A name twice.
    #[error("{field} names {name:?} twice")]
    Twice {
        /// The field.
        field: &'static str,
        /// The name, cut at 80 characters.
        name: String,
    },
    /// No plugin name.
    #[error("{0}")]
    Plugin(PluginIdError),
    /// More or fewer descriptors than the type has. They are closed.
    #[error("the packet has {found} descriptors, its type has {expected}")]
    Descriptors {
        /// How many the type has.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// The message does not fit into a packet.
    #[error("the message has {bytes} bytes, a packet at most {PACKET_LIMIT_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

mod kind {
    pub(super) const PROBE: u8 = 0x01;
    pub(super) const STAGE: u8 = 0x02;
    pub(super) const LAUNCH: u8 = 0x03;
    pub(super) const CONNECT: u8 = 0x04;
    pub(super) const KILL: u8 = 0x05;
    pub(super) const STATS: u8 = 0x06;
    /// A reply has the request's type with this bit.
    pub(super) const REPLY: u8 = 0x40;
    pub(super) const FAILURE: u8 = 0x7f;
    pub(super) const EXITED: u8 = 0x80;
}

/// A request as bytes. It carries no descriptors.
///
/// # Errors
/// [`CodecError::Limit`] and [`CodecError::TooLong`] where a value is too long for a packet.
pub(crate) fn encode_request(id: RequestId, request: &Request) -> Result<Vec<u8>, CodecError> {
    let mut out = Writer::new();
    match request {
        Request::Probe { plugin } => {
            out.header(kind::PROBE, id);
            out.option(plugin.as_ref(), |out, plugin| out.plugin(plugin))?;
        }
        Request::Stage { plugin } => {
            out.header(kind::STAGE, id);
            out.plugin(plugin)?;
        }
        Request::Launch {
            plugin,
            generation,
            digest,
            values,
        } => {
            out.header(kind::LAUNCH, id);
            out.plugin(plugin)?;
            out.u64(generation.0);
            out.bytes.extend(digest.0);
            out.count("values", values.len())?;
            for (name, value) in values {
                out.text("a value's name", name)?;
                out.text("a value", value)?;
            }
        }
        Request::Connect {
            instance,
            directory,
            name,
        } => {
            out.header(kind::CONNECT, id);
            out.u64(instance.0);
            out.u8(match directory {
                SocketDirectory::Run => 0,
                SocketDirectory::Tmp => 1,
            });
            out.text("name", name)?;
        }
        Request::Kill { instance, how } => {
            out.header(kind::KILL, id);
            out.u64(instance.0);
            out.u8(match how {
                KillHow::Terminate => 0,
                KillHow::Kill => 1,
            });
        }
        Request::Stats { instance } => {
            out.header(kind::STATS, id);
            out.u64(instance.0);
        }
    }
    out.finish()
}

/// The number of a request whose bytes may be broken further on: its answer can still say so.
pub(crate) fn request_id(bytes: &[u8]) -> Option<RequestId> {
    match *bytes {
        [VERSION, _, a, b, c, d, ..] => Some(RequestId::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Reads a request.
///
/// # Errors
/// [`CodecError`]. Its descriptors are closed: no request has any.
pub(crate) fn decode_request(packet: Packet) -> Result<(RequestId, Request), CodecError> {
    packet.expect_descriptors(0)?;
    let mut read = Reader(&packet.bytes);
    let (kind, id) = read.header()?;
    let request = match kind {
        kind::PROBE => Request::Probe {
            plugin: read.option("plugin", Reader::plugin)?,
        },
        kind::STAGE => Request::Stage {
            plugin: read.plugin()?,
        },
        kind::LAUNCH => Request::Launch {
            plugin: read.plugin()?,
            generation: Generation(read.u64("generation")?),
            digest: Digest(read.array("digest")?),
            values: read.values()?,
        },
        kind::CONNECT => Request::Connect {
            instance: InstanceId(read.u64("instance")?),
            directory: match read.u8("directory")? {
                0 => SocketDirectory::Run,
                1 => SocketDirectory::Tmp,
                value => {
                    let field = "directory";
                    return Err(CodecError::Value { field, value });
                }
            },
            name: read.text("name")?,
        },
        kind::KILL => Request::Kill {
            instance: InstanceId(read.u64("instance")?),
            how: match read.u8("how")? {
                0 => KillHow::Terminate,
                1 => KillHow::Kill,
                value => {
                    let field = "how";
                    return Err(CodecError::Value { field, value });
                }
            },
        },
        kind::STATS => Request::Stats {
            instance: InstanceId(read.u64("instance")?),
        },
        value => {
            let field = "type";
            return Err(CodecError::Value { field, value });
        }
    };
    read.end()?;
    Ok((id, request))
}

/// A reply as a packet.
///
/// # Errors
/// [`CodecError::Limit`] and [`CodecError::TooLong`] where a value is too long for a packet.
pub(crate) fn encode_reply(
    id: RequestId,
    result: Result<Reply, Failure>,
) -> Result<Packet, CodecError> {
    let mut out = Writer::new();
    let mut descriptors = Vec::new();
    match result {
        Ok(Reply::Posture { toml }) => {
            out.header(kind::PROBE | kind::REPLY, id);
            descriptors.push(toml);
        }
        Ok(Reply::Staged { digest, root }) => {
            out.header(kind::STAGE | kind::REPLY, id);
            out.bytes.extend(digest.0);
            descriptors.push(root);
        }
        Ok(Reply::Launched(launched)) => {
            out.header(kind::LAUNCH | kind::REPLY, id);
            out.u64(launched.instance.0);
            out.u32(launched.pid);
            out.text("tmp directory", &launched.tmp_directory)?;
            out.u8(launched.development_policy.into());
            out.count("missing", launched.missing.len())?;
            for control in &launched.missing {
                out.text("missing", control)?;
            }
            descriptors.extend([
                launched.pidfd,
                launched.stdout,
                launched.stderr,
                launched.policy,
            ]);
        }
        Ok(Reply::Connected { socket }) => {
            out.header(kind::CONNECT | kind::REPLY, id);
            descriptors.push(socket);
        }
        Ok(Reply::Killed) => out.header(kind::KILL | kind::REPLY, id),
        Ok(Reply::Stats(stats)) => {
            out.header(kind::STATS | kind::REPLY, id);
            for value in stats_fields(&stats) {
                out.option(value, |out, value| {
                    out.u64(value);
                    Ok(())
                })?;
            }
        }
        Err(failure) => {
            out.header(kind::FAILURE, id);
            out.u8(failure_kind_code(failure.kind));
            out.text("message", cut(&failure.message))?;
            out.option(failure.hint.as_deref(), |out, hint| {
                out.text("hint", cut(hint))
            })?;
        }
    }
    Ok(Packet {
        bytes: out.finish()?,
        descriptors,
    })
}

/// An event as bytes. It carries no descriptors.
///
/// # Errors
/// [`CodecError::TooLong`], which no event of ours reaches.
pub(crate) fn encode_event(event: &Event) -> Result<Vec<u8>, CodecError> {
    let mut out = Writer::new();
    match event {
        Event::Exited { instance, cause } => {
            out.header(kind::EXITED, 0);
            out.u64(instance.0);
            match cause {
                ExitCause::Code(code) => {
                    out.u8(0);
                    out.bytes.extend(code.to_be_bytes());
                }
                ExitCause::Signal(signal) => {
                    out.u8(1);
                    out.bytes.extend(signal.to_be_bytes());
                }
                ExitCause::OutOfMemory => out.u8(2),
                ExitCause::SyscallRefused => out.u8(3),
                ExitCause::Limit(limit) => {
                    out.u8(4);
                    out.text("limit", cut(limit))?;
                }
                ExitCause::Killed => out.u8(5),
                ExitCause::Launcher(reason) => {
                    out.u8(6);
                    out.text("reason", cut(reason))?;
                }
            }
        }
    }
    out.finish()
}

/// Reads what the launcher sent.
///
/// # Errors
/// [`CodecError`]. The packet's descriptors are closed then.
pub(crate) fn decode_incoming(packet: Packet) -> Result<Incoming, CodecError> {
    let expected = match packet.bytes.get(1).copied() {
        Some(kind) if kind == kind::PROBE | kind::REPLY => 1,
        Some(kind) if kind == kind::STAGE | kind::REPLY => 1,
        Some(kind) if kind == kind::CONNECT | kind::REPLY => 1,
        Some(kind) if kind == kind::LAUNCH | kind::REPLY => 4,
        _ => 0,
    };
    packet.expect_descriptors(expected)?;
    let Packet { bytes, descriptors } = packet;
    let mut read = Reader(&bytes);
    let (kind, id) = read.header()?;
    let incoming = if kind == kind::EXITED {
        Incoming::Event(read.exited()?)
    } else if kind == kind::FAILURE {
        let result = Err(read.failure()?);
        Incoming::Reply { id, result }
    } else {
        let result = Ok(read.reply(kind, descriptors)?);
        Incoming::Reply { id, result }
    };
    read.end()?;
    Ok(incoming)
}

impl Packet {
    fn expect_descriptors(&self, expected: usize) -> Result<(), CodecError> {
        match self.descriptors.len() {
            found if found == expected => Ok(()),
            found => Err(CodecError::Descriptors { expected, found }),
        }
    }
}

/// The text up to [`MESSAGE_LIMIT_BYTES`], cut between characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE_LIMIT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn stats_fields(stats: &Stats) -> [Option<u64>; 8] {
    [
        stats.memory_current_bytes,
        stats.memory_peak_bytes,
        stats.memory_limit_bytes,
        stats.cpu_usage_us,
        stats.cpu_throttled_us,
        stats.tasks_current,
        stats.tasks_refused,
        stats.oom_kills,
    ]
}

const FAILURE_KINDS: [FailureKind; 6] = [
    FailureKind::Request,
    FailureKind::Policy,
    FailureKind::Stage,
    FailureKind::Control,
    FailureKind::Plugin,
    FailureKind::Host,
];

fn failure_kind_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Request => 0,
        FailureKind::Policy => 1,
        FailureKind::Stage => 2,
        FailureKind::Control => 3,
        FailureKind::Plugin => 4,
        FailureKind::Host => 5,
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(128),
        }
    }

    fn header(&mut self, kind: u8, id: RequestId) {
        self.u8(VERSION);
        self.u8(kind);
        self.u32(id);
    }

    fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn text(&mut self, field: &'static str, text: &str) -> Result<(), CodecError> {
        let length = u16::try_from(text.len()).map_err(|_| CodecError::Limit {
            field,
            found: text.len(),
            limit: u16::MAX.into(),
        })?;
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(text.as_bytes());
        Ok(())
    }

    fn plugin(&mut self, plugin: &PluginId) -> Result<(), CodecError> {
        self.text("plugin", plugin.as_str())
    }

    fn count(&mut self, field: &'static str, found: usize) -> Result<(), CodecError> {
        match u8::try_from(found) {
            Ok(count) if found <= ITEMS_LIMIT => {
                self.u8(count);
                Ok(())
            }
            _ => Err(CodecError::Limit {
                field,
                found,
                limit: ITEMS_LIMIT,
            }),
        }
    }

    fn option<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        self.u8(value.is_some().into());
        value.map_or(Ok(()), |value| write(self, value))
    }

    fn finish(self) -> Result<Vec<u8>, CodecError> {
        match self.bytes.len() {
            bytes if bytes > PACKET_LIMIT_BYTES => Err(CodecError::TooLong { bytes }),
            _ => Ok(self.bytes),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(CodecError::Short { field })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        self.take(field, N)?
            .try_into()
            .map_err(|_| CodecError::Short { field })
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, CodecError> {
        self.array(field).map(u8::from_be_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, CodecError> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, CodecError> {
        self.array(field).map(u64::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, CodecError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn text(&mut self, field: &'static str) -> Result<String, CodecError> {
        let length = self.array(field).map(u16::from_be_bytes)?;
        let bytes = self.take(field, length.into())?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(CodecError::Text { field }),
        }
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, CodecError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(CodecError::Value { field, value }),
        }
    }

    fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        match self.flag(field)? {
            true => read(self).map(Some),
            false => Ok(None),
        }
    }

    fn count(&mut self, field: &'static str) -> Result<usize, CodecError> {
        match usize::from(self.u8(field)?) {
            found if found > ITEMS_LIMIT => Err(CodecError::Limit {
                field,
                found,
                limit: ITEMS_LIMIT,
            }),
            found => Ok(found),
        }
    }

    fn plugin(&mut self) -> Result<PluginId, CodecError> {
        PluginId::parse(&self.text("plugin")?).map_err(CodecError::Plugin)
    }

    fn header(&mut self) -> Result<(u8, RequestId), CodecError> {
        match self.u8("version")? {
            VERSION => Ok((self.u8("type")?, self.u32("request number")?)),
            version => Err(CodecError::Version { version }),
        }
    }

    fn values(&mut self) -> Result<BTreeMap<String, String>, CodecError> {
        let field = "values";
        let mut values = BTreeMap::new();
        let mut found = 0;
        for _ in 0..self.count(field)? {
            let (name, value) = (self.text("a value's name")?, self.text("a value")?);
            found += name.len() + value.len();
            if values.insert(name.clone(), value).is_some() {
                let name = name.chars().take(80).collect();
                return Err(CodecError::Twice { field, name });
            }
        }
        match found {
            found if found > FROM_DAEMON_LIMIT_BYTES => Err(CodecError::Limit {
                field,
                found,
                limit: FROM_DAEMON_LIMIT_BYTES,
            }),
            _ => Ok(values),
        }
    }

    fn exited(&mut self) -> Result<Event, CodecError> {
        let field = "cause";
        Ok(Event::Exited {
            instance: InstanceId(self.u64("instance")?),
            cause: match self.u8(field)? {
                0 => ExitCause::Code(self.i32("code")?),
                1 => ExitCause::Signal(self.i32("signal")?),
                2 => ExitCause::OutOfMemory,
                3 => ExitCause::SyscallRefused,
                4 => ExitCause::Limit(self.text("limit")?),
                5 => ExitCause::Killed,
                6 => ExitCause::Launcher(self.text("reason")?),
                value => return Err(CodecError::Value { field, value }),
            },
        })
    }

    fn failure(&mut self) -> Result<Failure, CodecError> {
        let field = "failure";
        let value = self.u8(field)?;
        Ok(Failure {
            kind: FAILURE_KINDS
                .into_iter()
                .find(|kind| failure_kind_code(*kind) == value)
                .ok_or(CodecError::Value { field, value })?,
            message: self.text("message")?,
            hint: self.option("hint", |read| read.text("hint"))?,
        })
    }

    fn reply(&mut self, kind: u8, descriptors: Vec<OwnedFd>) -> Result<Reply, CodecError> {
        let mut descriptors = descriptors.into_iter();
        // Their number was checked against the type before.
        let mut next = || {
            descriptors.next().ok_or(CodecError::Descriptors {
                expected: 1,
                found: 0,
            })
        };
        const PROBED: u8 = kind::PROBE | kind::REPLY;
        const STAGED: u8 = kind::STAGE | kind::REPLY;
        const LAUNCHED: u8 = kind::LAUNCH | kind::REPLY;
        const CONNECTED: u8 = kind::CONNECT | kind::REPLY;
        const KILLED: u8 = kind::KILL | kind::REPLY;
        const STATS: u8 = kind::STATS | kind::REPLY;
        Ok(match kind {
            PROBED => Reply::Posture { toml: next()? },
            STAGED => Reply::Staged {
                digest: Digest(self.array("digest")?),
                root: next()?,
            },
            LAUNCHED => Reply::Launched(Launched {
                instance: InstanceId(self.u64("instance")?),
                pid: self.u32("pid")?,
                tmp_directory: self.text("tmp directory")?,
                development_policy: self.flag("development policy")?,
                missing: (0..self.count("missing")?)
                    .map(|_| self.text("missing"))
                    .collect::<Result<_, _>>()?,
                pidfd: next()?,
                stdout: next()?,
                stderr: next()?,
                policy: next()?,
            }),
            CONNECTED => Reply::Connected { socket: next()? },
            KILLED => Reply::Killed,
            STATS => {
                let mut field = || self.option("statistics", |read| read.u64("statistics"));
                Reply::Stats(Stats {
                    memory_current_bytes: field()?,
                    memory_peak_bytes: field()?,
                    memory_limit_bytes: field()?,
                    cpu_usage_us: field()?,
                    cpu_throttled_us: field()?,
                    tasks_current: field()?,
                    tasks_refused: field()?,
                    oom_kills: field()?,
                })
            }
            value => {
                let field = "type";
                return Err(CodecError::Value { field, value });
            }
        })
    }

    fn end(&self) -> Result<(), CodecError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Trailing { bytes }),
        }
    }
}

#[cfg(test)]
#[path = "codec/tests.rs"]
mod tests;
