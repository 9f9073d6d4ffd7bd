//! Replies and events as bytes, with their descriptors.

use std::os::fd::OwnedFd;
use std::time::Duration;

use pinfold_policy::{Control, Digest, Generation, InstanceId, Moment};

use super::fields::{Reader, Writer};
use super::request::check_note;
use super::{CodecError, MESSAGE_LIMIT_BYTES, kind};
use crate::protocol::packet::{LAUNCHED_DESCRIPTORS, Packet};
use crate::protocol::{
    Adopted, ControlChange, EndedKept, Event, ExitCause, Failure, FailureKind, Incoming,
    LISTENERS_LIMIT, Launched, Listener, ListenerPurpose, RefusedCall, Reply, RequestId, Stats,
};

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
            descriptors = out.launched(launched)?;
        }
        Ok(Reply::Adopted(adopted)) => {
            out.header(kind::ADOPT | kind::REPLY, id);
            out.u64(adopted.generation.0);
            check_note(&adopted.note)?;
            out.text("note", &adopted.note)?;
            descriptors = out.launched(adopted.launched)?;
        }
        // Also where it is the answer to `Adopt`: that type is of what is given.
        Ok(Reply::NotKept { ended }) => {
            out.header(kind::DISCARD | kind::REPLY, id);
            out.option(ended.as_ref(), |out, ended| {
                out.plugin(&ended.plugin)?;
                out.u64(ended.generation.0);
                out.text("reason", cut(&ended.reason))
            })?;
        }
        Ok(Reply::HandingOver { limit }) => {
            out.header(kind::HANDOVER | kind::REPLY, id);
            out.u64(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        }
        Ok(Reply::Kept) => out.header(kind::KEEP | kind::REPLY, id),
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
        Ok(Reply::Trusted { basis }) => {
            out.header(kind::TRUST | kind::REPLY, id);
            out.text("trust", cut(&basis))?;
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
        Event::ControlChanged(change) => {
            out.header(kind::CONTROL_CHANGED, 0);
            out.text("control", change.control.id())?;
            out.u8(change.is_in_force.into());
            out.text("reason", cut(&change.reason))?;
        }
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
                ExitCause::SyscallRefused(call) => {
                    out.u8(3);
                    out.option(call.as_ref(), |out, call| {
                        out.u32(call.number);
                        call.arguments.iter().for_each(|one| out.u64(*one));
                        Ok(())
                    })?;
                }
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
    const LAUNCHED: u8 = kind::LAUNCH | kind::REPLY;
    const ADOPTED: u8 = kind::ADOPT | kind::REPLY;
    let expected = match packet.bytes.get(1).copied() {
        Some(kind) if kind == kind::PROBE | kind::REPLY => 1,
        Some(kind) if kind == kind::STAGE | kind::REPLY => 1,
        Some(kind) if kind == kind::CONNECT | kind::REPLY => 1,
        // With its listeners, which are counted further on.
        Some(LAUNCHED | ADOPTED) => packet
            .descriptors
            .len()
            .clamp(LAUNCHED_DESCRIPTORS, LAUNCHED_DESCRIPTORS + LISTENERS_LIMIT),
        _ => 0,
    };
    packet.expect_descriptors(expected)?;
    let Packet { bytes, descriptors } = packet;
    let mut read = Reader(&bytes);
    let (kind, id) = read.header()?;
    let incoming = if kind == kind::EXITED {
        Incoming::Event(read.exited()?)
    } else if kind == kind::CONTROL_CHANGED {
        Incoming::Event(read.control_changed()?)
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

const FAILURE_KINDS: [FailureKind; 7] = [
    FailureKind::Request,
    FailureKind::Policy,
    FailureKind::Stage,
    FailureKind::Control,
    FailureKind::Plugin,
    FailureKind::Host,
    FailureKind::Trust,
];

fn failure_kind_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Request => 0,
        FailureKind::Policy => 1,
        FailureKind::Stage => 2,
        FailureKind::Control => 3,
        FailureKind::Plugin => 4,
        FailureKind::Host => 5,
        FailureKind::Trust => 6,
    }
}

fn purpose_code(purpose: ListenerPurpose) -> u8 {
    match purpose {
        ListenerPurpose::HttpProxy => 0,
    }
}

fn too_many_listeners(found: usize) -> CodecError {
    CodecError::Limit {
        field: "listeners",
        found,
        limit: LISTENERS_LIMIT,
    }
}

impl Writer {
    /// The fields of a launched instance; its descriptors in their order.
    fn launched(&mut self, launched: Launched) -> Result<Vec<OwnedFd>, CodecError> {
        self.u64(launched.instance.0);
        self.u32(launched.pid);
        self.text("tmp directory", &launched.tmp_directory)?;
        self.u8(launched.development_policy.into());
        self.count("missing", launched.missing.len())?;
        for control in &launched.missing {
            self.text("missing", control)?;
        }
        self.text("trust", cut(&launched.trust))?;
        self.option(launched.watched_until, |out, until| {
            out.u64(until.unix_seconds());
            Ok(())
        })?;
        let found = launched.listeners.len();
        match u8::try_from(found) {
            Ok(count) if found <= LISTENERS_LIMIT => self.u8(count),
            _ => return Err(too_many_listeners(found)),
        }
        for listener in &launched.listeners {
            self.u8(purpose_code(listener.purpose));
            self.u16(listener.port);
        }
        let mut descriptors = vec![
            launched.pidfd,
            launched.stdout,
            launched.stderr,
            launched.policy,
        ];
        descriptors.extend(launched.listeners.into_iter().map(|one| one.socket));
        Ok(descriptors)
    }
}

impl Reader<'_> {
    fn launched(&mut self, descriptors: Vec<OwnedFd>) -> Result<Launched, CodecError> {
        let found = descriptors.len();
        let mut descriptors = descriptors.into_iter();
        let mut next = || {
            descriptors.next().ok_or(CodecError::Descriptors {
                expected: LAUNCHED_DESCRIPTORS,
                found,
            })
        };
        let mut launched = Launched {
            instance: InstanceId(self.u64("instance")?),
            pid: self.u32("pid")?,
            tmp_directory: self.text("tmp directory")?,
            development_policy: self.flag("development policy")?,
            missing: (0..self.count("missing")?)
                .map(|_| self.text("missing"))
                .collect::<Result<_, _>>()?,
            trust: self.text("trust")?,
            watched_until: self
                .option("watched until", |read| read.u64("watched until"))?
                .map(Moment::from_unix_seconds),
            pidfd: next()?,
            stdout: next()?,
            stderr: next()?,
            policy: next()?,
            listeners: Vec::new(),
        };
        let count = usize::from(self.u8("listeners")?);
        if count > LISTENERS_LIMIT {
            return Err(too_many_listeners(count));
        }
        let expected = LAUNCHED_DESCRIPTORS + count;
        if found != expected {
            return Err(CodecError::Descriptors { expected, found });
        }
        for _ in 0..count {
            launched.listeners.push(Listener {
                purpose: self.purpose()?,
                port: self.u16("port")?,
                socket: next()?,
            });
        }
        Ok(launched)
    }

    fn purpose(&mut self) -> Result<ListenerPurpose, CodecError> {
        let field = "purpose";
        match self.u8(field)? {
            0 => Ok(ListenerPurpose::HttpProxy),
            value => Err(CodecError::Value { field, value }),
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
                3 => ExitCause::SyscallRefused(self.option("call", Self::call)?),
                4 => ExitCause::Limit(self.text("limit")?),
                5 => ExitCause::Killed,
                6 => ExitCause::Launcher(self.text("reason")?),
                value => return Err(CodecError::Value { field, value }),
            },
        })
    }

    fn control_changed(&mut self) -> Result<Event, CodecError> {
        let field = "control";
        let id = self.text(field)?;
        Ok(Event::ControlChanged(ControlChange {
            control: Control::from_id(&id).ok_or(CodecError::Value { field, value: 0 })?,
            is_in_force: self.flag("in force")?,
            reason: self.text("reason")?,
        }))
    }

    fn call(&mut self) -> Result<RefusedCall, CodecError> {
        let number = self.u32("call")?;
        let mut arguments = [0; 6];
        for one in &mut arguments {
            *one = self.u64("arguments")?;
        }
        Ok(RefusedCall { number, arguments })
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
        const PROBED: u8 = kind::PROBE | kind::REPLY;
        const STAGED: u8 = kind::STAGE | kind::REPLY;
        const LAUNCHED: u8 = kind::LAUNCH | kind::REPLY;
        const CONNECTED: u8 = kind::CONNECT | kind::REPLY;
        const KILLED: u8 = kind::KILL | kind::REPLY;
        const STATS: u8 = kind::STATS | kind::REPLY;
        const TRUSTED: u8 = kind::TRUST | kind::REPLY;
        const HANDING_OVER: u8 = kind::HANDOVER | kind::REPLY;
        const KEPT: u8 = kind::KEEP | kind::REPLY;
        const ADOPTED: u8 = kind::ADOPT | kind::REPLY;
        const NOT_KEPT: u8 = kind::DISCARD | kind::REPLY;
        match kind {
            LAUNCHED => return Ok(Reply::Launched(self.launched(descriptors)?)),
            ADOPTED => {
                return Ok(Reply::Adopted(Adopted {
                    generation: Generation(self.u64("generation")?),
                    note: self.note()?,
                    launched: self.launched(descriptors)?,
                }));
            }
            _ => {}
        }
        let mut descriptors = descriptors.into_iter();
        // Their number was checked against the type before.
        let mut next = || {
            descriptors.next().ok_or(CodecError::Descriptors {
                expected: 1,
                found: 0,
            })
        };
        Ok(match kind {
            PROBED => Reply::Posture { toml: next()? },
            STAGED => Reply::Staged {
                digest: Digest(self.array("digest")?),
                root: next()?,
            },
            CONNECTED => Reply::Connected { socket: next()? },
            KILLED => Reply::Killed,
            KEPT => Reply::Kept,
            NOT_KEPT => Reply::NotKept {
                ended: self.option("ended", |read| {
                    Ok(EndedKept {
                        plugin: read.plugin()?,
                        generation: Generation(read.u64("generation")?),
                        reason: read.text("reason")?,
                    })
                })?,
            },
            HANDING_OVER => Reply::HandingOver {
                limit: Duration::from_millis(self.u64("limit")?),
            },
            TRUSTED => Reply::Trusted {
                basis: self.text("trust")?,
            },
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
}
