//! serde's data model onto gob values.

mod compound;

use serde::ser::{Serialize, Serializer};

use crate::error::{EncodeError, Place};
use crate::graph::{Graph, NodeRef, Shape};
use crate::kind::Marshaler;
use crate::wire;
use compound::{FieldsWriter, ListWriter, MapWriter};

/// Deepest nesting that is written: deep enough for any reader with a limit.
pub(crate) const DEEPEST: usize = 1_000;

/// Place for one value. Serialising into it tells whether the value was written: zero values
/// of struct fields are not.
pub(crate) struct Slot<'a> {
    out: &'a mut Vec<u8>,
    graph: &'a Graph,
    node: NodeRef,
    /// For a struct field, the distance from the last field sent; else zero.
    step: u64,
    depth: usize,
    /// A byte of a byte slice: written as it is.
    raw: bool,
}

impl<'a> Slot<'a> {
    /// Place at the top level.
    pub(crate) fn alone(out: &'a mut Vec<u8>, graph: &'a Graph, node: NodeRef) -> Self {
        Self {
            out,
            graph,
            node,
            step: 0,
            depth: 0,
            raw: false,
        }
    }

    #[inline]
    fn shape(&self) -> &'a Shape {
        self.graph.shape(self.node)
    }

    #[inline]
    fn is_field(&self) -> bool {
        self.step > 0
    }

    /// Writes the field's number, if this is a field.
    #[inline]
    fn begin(&mut self) {
        if self.step > 0 {
            wire::put_uint(self.out, self.step);
        }
    }

    fn mismatch(&self, found: &'static str) -> EncodeError {
        EncodeError::mismatch(self.shape().kind(), found)
    }

    fn int(mut self, value: i64) -> Result<bool, EncodeError> {
        if *self.shape() != Shape::Int {
            return Err(self.mismatch("signed integer"));
        }
        if self.is_field() && value == 0 {
            return Ok(false);
        }
        self.begin();
        wire::put_int(self.out, value);
        Ok(true)
    }

    fn uint(mut self, value: u64) -> Result<bool, EncodeError> {
        if *self.shape() != Shape::Uint || self.raw {
            return Err(self.mismatch("unsigned integer"));
        }
        if self.is_field() && value == 0 {
            return Ok(false);
        }
        self.begin();
        wire::put_uint(self.out, value);
        Ok(true)
    }

    /// A string or byte slice.
    fn counted(mut self, bytes: &[u8]) -> Result<bool, EncodeError> {
        if self.is_field() && bytes.is_empty() {
            return Ok(false);
        }
        self.begin();
        wire::put_counted(self.out, bytes);
        Ok(true)
    }

    fn nested(&self) -> Result<usize, EncodeError> {
        let depth = self.depth.saturating_add(1);
        if depth > DEEPEST {
            Err(EncodeError::TooDeep { limit: DEEPEST })
        } else {
            Ok(depth)
        }
    }
}

impl<'a> Serializer for Slot<'a> {
    /// Whether anything was written.
    type Ok = bool;
    type Error = EncodeError;
    type SerializeSeq = ListWriter<'a>;
    type SerializeTuple = ListWriter<'a>;
    type SerializeTupleStruct = ListWriter<'a>;
    type SerializeTupleVariant = serde::ser::Impossible<bool, EncodeError>;
    type SerializeMap = MapWriter<'a>;
    type SerializeStruct = FieldsWriter<'a>;
    type SerializeStructVariant = serde::ser::Impossible<bool, EncodeError>;

    fn serialize_bool(mut self, value: bool) -> Result<bool, EncodeError> {
        if *self.shape() != Shape::Bool {
            return Err(self.mismatch("bool"));
        }
        if self.is_field() && !value {
            return Ok(false);
        }
        self.begin();
        wire::put_uint(self.out, u64::from(value));
        Ok(true)
    }

    fn serialize_i8(self, value: i8) -> Result<bool, EncodeError> {
        self.int(i64::from(value))
    }

    fn serialize_i16(self, value: i16) -> Result<bool, EncodeError> {
        self.int(i64::from(value))
    }

    fn serialize_i32(self, value: i32) -> Result<bool, EncodeError> {
        self.int(i64::from(value))
    }

    fn serialize_i64(self, value: i64) -> Result<bool, EncodeError> {
        self.int(value)
    }

    fn serialize_u8(self, value: u8) -> Result<bool, EncodeError> {
        if self.raw {
            self.out.push(value);
            return Ok(true);
        }
        self.uint(u64::from(value))
    }

    fn serialize_u16(self, value: u16) -> Result<bool, EncodeError> {
        self.uint(u64::from(value))
    }

    fn serialize_u32(self, value: u32) -> Result<bool, EncodeError> {
        self.uint(u64::from(value))
    }

    fn serialize_u64(self, value: u64) -> Result<bool, EncodeError> {
        self.uint(value)
    }

    fn serialize_f32(self, value: f32) -> Result<bool, EncodeError> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(mut self, value: f64) -> Result<bool, EncodeError> {
        if *self.shape() != Shape::Float {
            return Err(self.mismatch("float"));
        }
        // Also true of negative zero, as in Go.
        if self.is_field() && value == 0.0 {
            return Ok(false);
        }
        self.begin();
        wire::put_float(self.out, value);
        Ok(true)
    }

    fn serialize_char(self, _: char) -> Result<bool, EncodeError> {
        Err(EncodeError::unsupported("char"))
    }

    fn serialize_str(self, value: &str) -> Result<bool, EncodeError> {
        if *self.shape() != Shape::String {
            return Err(self.mismatch("string"));
        }
        self.counted(value.as_bytes())
    }

    /// For byte slices, strings that are not UTF-8, and what marshals itself.
    fn serialize_bytes(mut self, value: &[u8]) -> Result<bool, EncodeError> {
        match self.shape() {
            Shape::Bytes | Shape::String => self.counted(value),
            Shape::Opaque { .. } => {
                self.begin();
                wire::put_counted(self.out, value);
                Ok(true)
            }
            _ => Err(self.mismatch("bytes")),
        }
    }

    fn serialize_none(self) -> Result<bool, EncodeError> {
        if self.is_field() {
            return Ok(false);
        }
        if *self.shape() == Shape::Interface {
            wire::put_uint(self.out, 0);
            return Ok(true);
        }
        Err(EncodeError::NilElement {
            place: Place::default(),
        })
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, EncodeError> {
        value.serialize(self)
    }

    /// The nil interface, or the empty struct.
    fn serialize_unit(self) -> Result<bool, EncodeError> {
        match self.shape() {
            Shape::Interface => self.serialize_none(),
            Shape::Struct(_) => self.serialize_unit_struct(""),
            _ => Err(self.mismatch("unit")),
        }
    }

    fn serialize_unit_struct(mut self, _: &'static str) -> Result<bool, EncodeError> {
        match self.shape() {
            Shape::Struct(_) => {
                self.begin();
                wire::put_uint(self.out, 0);
                Ok(true)
            }
            _ => Err(self.mismatch("unit struct")),
        }
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<bool, EncodeError> {
        Err(EncodeError::unsupported("enum"))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<bool, EncodeError> {
        match (Marshaler::of_newtype(name), self.shape()) {
            (None, _) => value.serialize(self),
            (Some(given), Shape::Opaque { how, .. }) if *how == given => value.serialize(self),
            _ => Err(self.mismatch("value that marshals itself")),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<bool, EncodeError> {
        Err(EncodeError::unsupported("enum"))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ListWriter<'a>, EncodeError> {
        ListWriter::new(self, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<ListWriter<'a>, EncodeError> {
        ListWriter::new(self, Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        len: usize,
    ) -> Result<ListWriter<'a>, EncodeError> {
        ListWriter::new(self, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, EncodeError> {
        Err(EncodeError::unsupported("enum"))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<MapWriter<'a>, EncodeError> {
        MapWriter::new(self, len)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<FieldsWriter<'a>, EncodeError> {
        FieldsWriter::new(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, EncodeError> {
        Err(EncodeError::unsupported("enum"))
    }

    fn serialize_i128(self, _: i128) -> Result<bool, EncodeError> {
        Err(EncodeError::unsupported("integer of 128 bits"))
    }

    fn serialize_u128(self, _: u128) -> Result<bool, EncodeError> {
        Err(EncodeError::unsupported("integer of 128 bits"))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<bool, EncodeError> {
        self.serialize_str(&value.to_string())
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
