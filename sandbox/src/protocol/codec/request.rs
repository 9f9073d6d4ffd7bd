//! Requests as bytes.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use pinfold_policy::{Digest, FROM_DAEMON_LIMIT_BYTES, Generation, InstanceId};

use super::fields::{Reader, Writer};
use super::{CodecError, VERSION, kind};
use crate::protocol::packet::Packet;
use crate::protocol::{KillHow, Loopback, NOTE_LIMIT_BYTES, Request, RequestId, SocketDirectory};

/// A request as bytes. It carries no descriptors.
///
/// # Errors
/// [`CodecError::Limit`] and [`CodecError::TooLong`] where a value is too long for a packet.
pub(crate) fn encode_request(id: RequestId, request: &Request) -> Result<Vec<u8>, CodecError> {
    let mut out = Writer::new();
    match request {
        Request::Probe { plugin } => {
            out.header(kind::PROBE, id);
            out.option(plugin.as_ref(), Writer::plugin)?;
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
        Request::ConnectPort {
            instance,
            loopback,
            port,
        } => {
            out.header(kind::CONNECT_PORT, id);
            out.u64(instance.0);
            out.u8(match loopback {
                Loopback::V4 => 0,
                Loopback::V6 => 1,
            });
            out.u16(port.get());
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
        Request::Trust { plugin, digest } => {
            out.header(kind::TRUST, id);
            out.plugin(plugin)?;
            out.bytes.extend(digest.0);
        }
        Request::Handover => out.header(kind::HANDOVER, id),
        Request::Keep { instance, note } => {
            out.header(kind::KEEP, id);
            out.u64(instance.0);
            check_note(note)?;
            out.text("note", note)?;
        }
        Request::Adopt { plugin, digest } => {
            out.header(kind::ADOPT, id);
            out.plugin(plugin)?;
            out.bytes.extend(digest.0);
        }
        Request::Discard { plugin } => {
            out.header(kind::DISCARD, id);
            out.option(plugin.as_ref(), Writer::plugin)?;
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
        kind::CONNECT_PORT => Request::ConnectPort {
            instance: InstanceId(read.u64("instance")?),
            loopback: match read.u8("loopback")? {
                0 => Loopback::V4,
                1 => Loopback::V6,
                value => {
                    let field = "loopback";
                    return Err(CodecError::Value { field, value });
                }
            },
            port: NonZeroU16::new(read.u16("port")?).ok_or(CodecError::Value {
                field: "port",
                value: 0,
            })?,
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
        kind::TRUST => Request::Trust {
            plugin: read.plugin()?,
            digest: Digest(read.array("digest")?),
        },
        kind::HANDOVER => Request::Handover,
        kind::KEEP => Request::Keep {
            instance: InstanceId(read.u64("instance")?),
            note: read.note()?,
        },
        kind::ADOPT => Request::Adopt {
            plugin: read.plugin()?,
            digest: Digest(read.array("digest")?),
        },
        kind::DISCARD => Request::Discard {
            plugin: read.option("plugin", Reader::plugin)?,
        },
        value => {
            let field = "type";
            return Err(CodecError::Value { field, value });
        }
    };
    read.end()?;
    Ok((id, request))
}

/// A note is one of the daemon's: no longer than it may be, on either side.
pub(super) fn check_note(note: &str) -> Result<(), CodecError> {
    match note.len() {
        found if found > NOTE_LIMIT_BYTES => Err(CodecError::Limit {
            field: "note",
            found,
            limit: NOTE_LIMIT_BYTES,
        }),
        _ => Ok(()),
    }
}

impl Reader<'_> {
    pub(super) fn note(&mut self) -> Result<String, CodecError> {
        let note = self.text("note")?;
        check_note(&note)?;
        Ok(note)
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
}
