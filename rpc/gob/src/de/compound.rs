//! Lists, maps and structs, read part by part.

use serde::de::value::{BorrowedStrDeserializer, U8Deserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer};

use super::ValueReader;
use crate::cursor::Cursor;
use crate::definition::Fields;
use crate::error::{DecodeError, Place};
use crate::graph::{Field, NodeRef};

/// Elements of a slice or array.
pub(super) struct ListAccess<'a, 'de> {
    pub(super) cursor: &'a mut Cursor<'de>,
    pub(super) elem: NodeRef,
    pub(super) left: usize,
}

impl<'de> de::SeqAccess<'de> for &mut ListAccess<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(rest) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = rest;
        seed.deserialize(ValueReader::new(self.cursor, self.elem))
            .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.cursor.reservation(self.left))
    }
}

/// Bytes of a byte slice, one by one.
pub(super) struct BytesAccess<'de> {
    pub(super) left: &'de [u8],
}

impl<'de> de::SeqAccess<'de> for &mut BytesAccess<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some((&first, rest)) = self.left.split_first() else {
            return Ok(None);
        };
        self.left = rest;
        let byte: U8Deserializer<DecodeError> = first.into_deserializer();
        seed.deserialize(byte).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// The two parts of a complex number.
pub(super) struct ComplexAccess<'a, 'de> {
    pub(super) cursor: &'a mut Cursor<'de>,
    pub(super) left: usize,
}

impl<'de> de::SeqAccess<'de> for &mut ComplexAccess<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(rest) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = rest;
        seed.deserialize(ValueReader::new(self.cursor, NodeRef::FLOAT))
            .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Entries of a map.
pub(super) struct MapAccess<'a, 'de> {
    pub(super) cursor: &'a mut Cursor<'de>,
    pub(super) key: NodeRef,
    pub(super) elem: NodeRef,
    pub(super) left: usize,
}

impl<'de> de::MapAccess<'de> for &mut MapAccess<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(rest) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = rest;
        seed.deserialize(ValueReader::new(self.cursor, self.key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        seed.deserialize(ValueReader::new(self.cursor, self.elem))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.cursor.reservation(self.left))
    }
}

/// Fields of a struct that were sent.
pub(super) struct StructAccess<'a, 'de> {
    cursor: &'a mut Cursor<'de>,
    fields: &'de [Field],
    at: Fields,
    outermost: bool,
    current: Option<&'de Field>,
    at_end: bool,
}

impl<'a, 'de> StructAccess<'a, 'de> {
    pub(super) fn new(cursor: &'a mut Cursor<'de>, fields: &'de [Field], outermost: bool) -> Self {
        Self {
            cursor,
            fields,
            at: Fields::default(),
            outermost,
            current: None,
            at_end: false,
        }
    }

    /// Whether all fields have been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }
}

impl<'de> de::MapAccess<'de> for &mut StructAccess<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let number = self
            .cursor
            .next_field(&mut self.at, self.fields, self.outermost)?;
        self.current = number.and_then(|number| self.fields.get(number));
        let Some(field) = self.current else {
            self.at_end = true;
            return Ok(None);
        };
        seed.deserialize(BorrowedStrDeserializer::new(&field.name))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let Some(field) = self.current.take() else {
            return Err(DecodeError::Unread {
                place: Place::default(),
            });
        };
        seed.deserialize(ValueReader::new(self.cursor, field.ty.node))
            .map_err(|error| error.within(&field.name))
    }
}
