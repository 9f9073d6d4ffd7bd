//! Writing one direction of one stream.

use serde::Serialize;

use crate::error::EncodeError;
use crate::graph::Shape;
use crate::numbering::Numbering;
use crate::schema::Schema;
use crate::ser::Slot;
use crate::value::{self, Value};
use crate::wire;

/// Longest message that Go reads, in bytes.
const LONGEST_MESSAGE: u64 = (1 << 33) - 1;

/// First id that an encoder gives to a type. Readers take any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirstId {
    /// 64, as Go since 1.21.
    #[default]
    Go121,
    /// 65, as Go until 1.19.
    Go119,
}

/// Encoder of one direction of one stream.
///
/// It remembers which types the reader has been told: all that it writes must reach one
/// [`Decoder`](crate::Decoder), in order. What it writes is appended to the caller's buffer. When
/// encoding fails, the buffer and the encoder are as before.
#[derive(Debug)]
pub struct Encoder {
    types: Numbering,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// Encoder of a fresh stream that numbers types like current Go.
    pub fn new() -> Self {
        Self::with_first_id(FirstId::default())
    }

    /// Encoder of a fresh stream that numbers types from the given id.
    pub fn with_first_id(first: FirstId) -> Self {
        Self {
            types: Numbering::from(match first {
                FirstId::Go121 => 64,
                FirstId::Go119 => 65,
            }),
        }
    }

    /// Appends a value to `out`, after the definitions of its types that are new to the stream.
    ///
    /// The value must fit the schema: fields by name and in the schema's order (fields may be
    /// absent), `serialize_i*` to int, `serialize_u*` to uint, bytes or sequences of `u8` to
    /// bytes. As Go does, zero fields are not sent, but for arrays and structs. An empty map is
    /// sent and a `None` is not.
    ///
    /// # Errors
    /// If the value does not fit, or holds what gob cannot express.
    pub fn encode<T: Serialize + ?Sized>(
        &mut self,
        schema: &Schema,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.all_or_nothing(out, |types, out| {
            let id = types.announce(schema, out);
            write_message(schema, id, out, |out| {
                value.serialize(Slot::alone(out, schema.graph(), schema.root().node))
            })
        })
    }

    /// Appends a dynamic value to `out`, after the definitions of its types that are new to the
    /// stream, those of concrete types inside interfaces included.
    ///
    /// # Errors
    /// If the value does not fit the schema.
    pub fn encode_value(
        &mut self,
        schema: &Schema,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.all_or_nothing(out, |types, out| {
            let id = types.announce(schema, out);
            // Go would define these inside the value, and so split it over messages.
            value::write::announce(types, value, out, 0)?;
            write_message(schema, id, out, |out| {
                value::write::value(types, schema.graph(), schema.root().node, value, out)
            })
        })
    }

    fn all_or_nothing(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Numbering, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let written = write(&mut self.types, out);
        match written {
            Ok(()) => self.types.commit(),
            Err(_) => {
                out.truncate(start);
                self.types.roll_back();
            }
        }
        written
    }
}

fn write_message(
    schema: &Schema,
    id: i64,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<bool, EncodeError>,
) -> Result<(), EncodeError> {
    let start = wire::hold_uint(out);
    wire::put_int(out, id);
    if !matches!(schema.graph().shape(schema.root().node), Shape::Struct(_)) {
        wire::put_uint(out, 0);
    }
    write(out)?;
    let length = out.len().saturating_sub(start).saturating_sub(1);
    if wire::len_u64(length) > LONGEST_MESSAGE {
        return Err(EncodeError::MessageTooLarge { length });
    }
    wire::fill_uint(out, start, wire::len_u64(length));
    Ok(())
}
