//! gob values onto serde's data model.

mod compound;

use serde::de::{Deserializer, Visitor};

use crate::cursor::Cursor;
use crate::error::{DecodeError, Place};
use crate::graph::{NodeRef, Shape};
use crate::kind::Marshaler;
use compound::{BytesAccess, ComplexAccess, ListAccess, MapAccess, StructAccess};

/// One value, about to be read.
pub(crate) struct ValueReader<'a, 'de> {
    cursor: &'a mut Cursor<'de>,
    node: NodeRef,
}

impl<'a, 'de> ValueReader<'a, 'de> {
    pub(crate) fn new(cursor: &'a mut Cursor<'de>, node: NodeRef) -> Self {
        Self { cursor, node }
    }

    #[inline]
    fn shape(&self) -> Result<&'de Shape, DecodeError> {
        self.cursor.shape(self.node)
    }

    fn mismatch(&self, wanted: &'static str) -> DecodeError {
        match self.shape() {
            Ok(shape) => DecodeError::mismatch(wanted, shape.kind()),
            Err(error) => error,
        }
    }

    fn int<T: TryFrom<i64>>(self, wanted: &'static str) -> Result<T, DecodeError> {
        if *self.shape()? != Shape::Int {
            return Err(self.mismatch(wanted));
        }
        let value = self.cursor.reader().int("an integer")?;
        T::try_from(value).map_err(|_| DecodeError::out_of_range(wanted))
    }

    fn uint<T: TryFrom<u64>>(self, wanted: &'static str) -> Result<T, DecodeError> {
        if *self.shape()? != Shape::Uint {
            return Err(self.mismatch(wanted));
        }
        let value = self.cursor.reader().uint("an integer")?;
        T::try_from(value).map_err(|_| DecodeError::out_of_range(wanted))
    }

    fn list<V: Visitor<'de>>(
        self,
        visitor: V,
        array: Option<usize>,
    ) -> Result<V::Value, DecodeError> {
        let (elem, length) = match self.shape()? {
            Shape::Slice(elem) => (elem.node, None),
            Shape::Array { elem, len } => (elem.node, Some(*len)),
            _ => return Err(self.mismatch("list")),
        };
        if let (Some(wanted), Some(found)) = (array, length)
            && wanted != found
        {
            return Err(DecodeError::LengthMismatch {
                place: Place::default(),
                wanted,
                found,
            });
        }
        self.cursor.enter()?;
        let left = self.cursor.count(length)?;
        let mut access = ListAccess {
            cursor: self.cursor,
            elem,
            left,
        };
        let value = visitor.visit_seq(&mut access)?;
        if access.left > 0 {
            return Err(DecodeError::Unread {
                place: Place::default(),
            });
        }
        self.cursor.leave();
        Ok(value)
    }

    fn fields<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let Shape::Struct(fields) = self.shape()? else {
            return Err(self.mismatch("struct"));
        };
        self.cursor.enter()?;
        let outermost = self.cursor.depth() == 1;
        let mut access = StructAccess::new(self.cursor, fields, outermost);
        let value = visitor.visit_map(&mut access)?;
        if !access.is_at_end() {
            return Err(DecodeError::Unread {
                place: Place::default(),
            });
        }
        self.cursor.leave();
        Ok(value)
    }

    /// A struct that is read for none of its fields.
    fn skip_fields<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.cursor.skip(self.node)?;
        visitor.visit_unit()
    }

    fn complex<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let mut access = ComplexAccess {
            cursor: self.cursor,
            left: 2,
        };
        let value = visitor.visit_seq(&mut access)?;
        match access.left {
            0 => Ok(value),
            _ => Err(DecodeError::Unread {
                place: Place::default(),
            }),
        }
    }

    fn bytes(self) -> Result<&'de [u8], DecodeError> {
        if *self.shape()? != Shape::Bytes {
            return Err(self.mismatch("bytes"));
        }
        self.cursor.reader().counted("bytes")
    }

    /// The value inside an interface, or none for nil.
    fn interface<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.cursor.enter()?;
        match self.cursor.concrete()? {
            None => {
                self.cursor.leave();
                visitor.visit_none()
            }
            Some((_, node)) => {
                let inside = ValueReader {
                    cursor: &mut *self.cursor,
                    node,
                };
                let value = inside.deserialize_any(visitor)?;
                self.cursor.leave();
                Ok(value)
            }
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $read:ident $wanted:literal,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(self.$read($wanted)?)
        })*
    };
}

impl<'de> Deserializer<'de> for ValueReader<'_, 'de> {
    type Error = DecodeError;

    integers! {
        deserialize_i8 visit_i8 int "int8",
        deserialize_i16 visit_i16 int "int16",
        deserialize_i32 visit_i32 int "int32",
        deserialize_i64 visit_i64 int "int64",
        deserialize_i128 visit_i128 int "int",
        deserialize_u8 visit_u8 uint "uint8",
        deserialize_u16 visit_u16 uint "uint16",
        deserialize_u32 visit_u32 uint "uint32",
        deserialize_u64 visit_u64 uint "uint64",
        deserialize_u128 visit_u128 uint "uint",
    }

    /// What was sent decides. The value of an interface stands for the interface.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.shape()? {
            Shape::Bool => self.deserialize_bool(visitor),
            Shape::Int => self.deserialize_i64(visitor),
            Shape::Uint => self.deserialize_u64(visitor),
            Shape::Float => self.deserialize_f64(visitor),
            Shape::Complex => self.complex(visitor),
            Shape::Bytes => visitor.visit_borrowed_bytes(self.bytes()?),
            Shape::String => self.deserialize_str(visitor),
            Shape::Interface => self.interface(visitor),
            Shape::Array { len, .. } => self.list(visitor, Some(*len)),
            Shape::Slice(_) => self.list(visitor, None),
            Shape::Map { .. } => self.deserialize_map(visitor),
            Shape::Struct(_) => self.fields(visitor),
            Shape::Opaque { .. } => {
                visitor.visit_borrowed_bytes(self.cursor.reader().counted("bytes")?)
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if *self.shape()? != Shape::Bool {
            return Err(self.mismatch("bool"));
        }
        visitor.visit_bool(self.cursor.reader().uint("a bool")? != 0)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked, and rounding is what Go does"
    )]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if *self.shape()? != Shape::Float {
            return Err(self.mismatch("float32"));
        }
        let value = self.cursor.reader().float()?;
        if value.is_finite() && value.abs() > f64::from(f32::MAX) {
            return Err(DecodeError::out_of_range("float32"));
        }
        visitor.visit_f32(value as f32)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if *self.shape()? != Shape::Float {
            return Err(self.mismatch("float64"));
        }
        visitor.visit_f64(self.cursor.reader().float()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        Err(self.mismatch("char"))
    }

    /// A string that is not UTF-8 is offered as bytes, which a `String` refuses.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if *self.shape()? != Shape::String {
            return Err(self.mismatch("string"));
        }
        let bytes = self.cursor.reader().counted("a string")?;
        match std::str::from_utf8(bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => visitor
                .visit_borrowed_bytes::<DecodeError>(bytes)
                .map_err(|_| DecodeError::NotUtf8 {
                    place: Place::default(),
                }),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    /// None is the nil interface. Other absent values are fields that were not sent.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if *self.shape()? == Shape::Interface && self.cursor.reader().take_zero() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    /// The nil interface, or a struct without fields.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.shape()? {
            Shape::Interface if self.cursor.reader().take_zero() => visitor.visit_unit(),
            Shape::Struct(fields) if fields.is_empty() => self.skip_fields(visitor),
            _ => Err(self.mismatch("nothing")),
        }
    }

    /// Any struct, as in Go for a destination without fields; or the nil interface.
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.shape()? {
            Shape::Struct(_) => self.skip_fields(visitor),
            _ => self.deserialize_unit(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Some(wanted) = Marshaler::of_newtype(name) else {
            return visitor.visit_newtype_struct(self);
        };
        match self.shape()? {
            Shape::Opaque { how, .. } if *how == wanted => {
                visitor.visit_borrowed_bytes(self.cursor.reader().counted("bytes")?)
            }
            _ => Err(self.mismatch("value that marshals itself")),
        }
    }

    /// A slice, or a byte slice element by element. Not an array.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.shape()? {
            Shape::Slice(_) => self.list(visitor, None),
            Shape::Bytes => {
                let bytes = self.cursor.reader().counted("bytes")?;
                let mut access = BytesAccess { left: bytes };
                let value = visitor.visit_seq(&mut access)?;
                if access.left.is_empty() {
                    Ok(value)
                } else {
                    Err(DecodeError::Unread {
                        place: Place::default(),
                    })
                }
            }
            _ => Err(self.mismatch("slice")),
        }
    }

    /// An array of that length, or a complex number as two.
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.shape()? {
            Shape::Array { .. } => self.list(visitor, Some(len)),
            Shape::Complex if len == 2 => self.complex(visitor),
            _ => Err(self.mismatch("array")),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let Shape::Map { key, elem } = self.shape()? else {
            return Err(self.mismatch("map"));
        };
        self.cursor.enter()?;
        let left = self.cursor.count(None)?;
        let (key, elem) = (key.node, elem.node);
        let mut access = MapAccess {
            cursor: self.cursor,
            key,
            elem,
            left,
        };
        let value = visitor.visit_map(&mut access)?;
        if access.left > 0 {
            return Err(DecodeError::Unread {
                place: Place::default(),
            });
        }
        self.cursor.leave();
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        wanted: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Shape::Struct(fields) = self.shape()? else {
            return Err(self.mismatch("struct"));
        };
        let common = || fields.iter().any(|field| names.contains(&&*field.name));
        if !fields.is_empty() && !names.is_empty() && !common() {
            return Err(DecodeError::NoCommonField {
                place: Place::default(),
                wanted,
            });
        }
        self.fields(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, DecodeError> {
        Err(self.mismatch("enum"))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.cursor.skip(self.node)?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
