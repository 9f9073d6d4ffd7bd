//! Messages as bytes.
//!
//! A packet is: version (1 byte), type (1 byte), request number (4 bytes, 0 for an event), then the
//! fields of that type. Numbers are big-endian, a text is its length (2 bytes) and UTF-8, an
//! optional value is 0 or 1 and then the value. Nothing may follow the last field, and each type
//! has a fixed number of descriptors, but a launched or adopted instance, which has one more for each
//! listener.

mod answer;
mod fields;
mod request;

use pinfold_policy::PluginIdError;

use super::PACKET_LIMIT_BYTES;
use super::packet::Packet;

pub(crate) use answer::{decode_incoming, encode_event, encode_reply};
pub(crate) use request::{decode_request, encode_request, request_id};

/// Version of this encoding. Launcher and daemon are installed together, so there is one.
const VERSION: u8 = 4;

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
    pub(super) const TRUST: u8 = 0x07;
    pub(super) const CONNECT_PORT: u8 = 0x08;
    pub(super) const HANDOVER: u8 = 0x09;
    pub(super) const KEEP: u8 = 0x0a;
    pub(super) const ADOPT: u8 = 0x0b;
    pub(super) const DISCARD: u8 = 0x0c;
    /// A reply has the request's type with this bit; a connection's is `CONNECT`'s either way.
    pub(super) const REPLY: u8 = 0x40;
    pub(super) const FAILURE: u8 = 0x7f;
    pub(super) const EXITED: u8 = 0x80;
    pub(super) const CONTROL_CHANGED: u8 = 0x81;
}

impl Packet {
    fn expect_descriptors(&self, expected: usize) -> Result<(), CodecError> {
        match self.descriptors.len() {
            found if found == expected => Ok(()),
            found => Err(CodecError::Descriptors { expected, found }),
        }
    }
}

#[cfg(test)]
#[path = "codec/tests.rs"]
mod tests;
