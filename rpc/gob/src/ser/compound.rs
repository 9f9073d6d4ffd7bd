//! Lists, maps and structs, written part by part.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct,
};

use super::Slot;
use crate::error::{EncodeError, Place};
use crate::graph::{Field, Graph, NodeRef, Shape};
use crate::wire::{self, Reader};

/// A count in front of elements, known at once or held open.
struct Count {
    announced: Option<usize>,
    /// Where the count stands.
    at: usize,
    seen: usize,
}

impl Count {
    fn begin(out: &mut Vec<u8>, announced: Option<usize>) -> Self {
        let at = out.len();
        match announced {
            Some(length) => wire::put_len(out, length),
            None => drop(wire::hold_uint(out)),
        }
        Self {
            announced,
            at,
            seen: 0,
        }
    }

    fn finish(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.announced {
            Some(length) if length == self.seen => Ok(()),
            Some(length) => Err(EncodeError::length(length, self.seen)),
            None => {
                wire::fill_uint(out, self.at, wire::len_u64(self.seen));
                Ok(())
            }
        }
    }
}

/// Writes slices, arrays, byte slices and complex numbers.
pub(crate) struct ListWriter<'a> {
    out: &'a mut Vec<u8>,
    graph: &'a Graph,
    elem: NodeRef,
    depth: usize,
    raw: bool,
    /// None for a complex number.
    count: Option<Count>,
    /// For a field that is not sent when zero: where it begins, with its number.
    start: Option<usize>,
    /// Where the elements begin.
    body: usize,
    seen: usize,
}

impl<'a> ListWriter<'a> {
    pub(super) fn new(mut slot: Slot<'a>, announced: Option<usize>) -> Result<Self, EncodeError> {
        let depth = slot.nested()?;
        let (elem, raw, fixed) = match slot.shape() {
            Shape::Slice(elem) => (elem.node, false, None),
            Shape::Array { elem, len } => (elem.node, false, Some(*len)),
            Shape::Bytes => (NodeRef::UINT, true, None),
            Shape::Complex => (NodeRef::FLOAT, false, Some(2)),
            _ => return Err(slot.mismatch("list")),
        };
        if let (Some(wanted), Some(found)) = (fixed, announced)
            && wanted != found
        {
            return Err(EncodeError::length(wanted, found));
        }
        let complex = *slot.shape() == Shape::Complex;
        let omissible = slot.is_field() && (complex || fixed.is_none());
        let start = omissible.then_some(slot.out.len());
        slot.begin();
        let count = (!complex).then(|| Count::begin(slot.out, fixed.or(announced)));
        let body = slot.out.len();
        Ok(Self {
            out: slot.out,
            graph: slot.graph,
            elem,
            depth,
            raw,
            count,
            start,
            body,
            seen: 0,
        })
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.seen = self.seen.saturating_add(1);
        value.serialize(Slot {
            out: self.out,
            graph: self.graph,
            node: self.elem,
            step: 0,
            depth: self.depth,
            raw: self.raw,
        })?;
        Ok(())
    }

    fn finish(self) -> Result<bool, EncodeError> {
        let zero = match self.count {
            Some(mut count) => {
                count.seen = self.seen;
                count.finish(self.out)?;
                self.seen == 0
            }
            None if self.seen != 2 => return Err(EncodeError::length(2, self.seen)),
            None => is_zero_complex(self.out.get(self.body..).unwrap_or_default()),
        };
        match self.start {
            Some(start) if zero => {
                self.out.truncate(start);
                Ok(false)
            }
            _ => Ok(true),
        }
    }
}

/// Whether these bytes are two floats that Go takes for zero.
fn is_zero_complex(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes, &[]);
    matches!((reader.float(), reader.float()), (Ok(re), Ok(im)) if re == 0.0 && im == 0.0)
}

impl SerializeSeq for ListWriter<'_> {
    type Ok = bool;
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.push(value)
    }

    fn end(self) -> Result<bool, EncodeError> {
        self.finish()
    }
}

impl SerializeTuple for ListWriter<'_> {
    type Ok = bool;
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.push(value)
    }

    fn end(self) -> Result<bool, EncodeError> {
        self.finish()
    }
}

impl SerializeTupleStruct for ListWriter<'_> {
    type Ok = bool;
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.push(value)
    }

    fn end(self) -> Result<bool, EncodeError> {
        self.finish()
    }
}

/// Writes maps.
pub(crate) struct MapWriter<'a> {
    out: &'a mut Vec<u8>,
    graph: &'a Graph,
    key: NodeRef,
    elem: NodeRef,
    depth: usize,
    count: Count,
}

impl<'a> MapWriter<'a> {
    pub(super) fn new(mut slot: Slot<'a>, announced: Option<usize>) -> Result<Self, EncodeError> {
        let depth = slot.nested()?;
        let Shape::Map { key, elem } = slot.shape() else {
            return Err(slot.mismatch("map"));
        };
        slot.begin();
        let count = Count::begin(slot.out, announced);
        let (key, elem) = (key.node, elem.node);
        Ok(Self {
            out: slot.out,
            graph: slot.graph,
            key,
            elem,
            depth,
            count,
        })
    }

    fn push<T: Serialize + ?Sized>(&mut self, node: NodeRef, value: &T) -> Result<(), EncodeError> {
        let (graph, depth) = (self.graph, self.depth);
        value.serialize(Slot {
            out: self.out,
            graph,
            node,
            step: 0,
            depth,
            raw: false,
        })?;
        Ok(())
    }
}

impl SerializeMap for MapWriter<'_> {
    type Ok = bool;
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.count.seen = self.count.seen.saturating_add(1);
        self.push(self.key, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.push(self.elem, value)
    }

    fn end(self) -> Result<bool, EncodeError> {
        self.count.finish(self.out)?;
        Ok(true)
    }
}

/// Writes structs: fields in the order of the schema, some of which may be left out.
pub(crate) struct FieldsWriter<'a> {
    out: &'a mut Vec<u8>,
    graph: &'a Graph,
    fields: &'a [Field],
    depth: usize,
    /// First field that may come next.
    next: usize,
    /// One past the last field that was sent.
    sent: usize,
}

impl<'a> FieldsWriter<'a> {
    pub(super) fn new(mut slot: Slot<'a>) -> Result<Self, EncodeError> {
        let depth = slot.nested()?;
        let Shape::Struct(fields) = slot.shape() else {
            return Err(slot.mismatch("struct"));
        };
        slot.begin();
        Ok(Self {
            out: slot.out,
            graph: slot.graph,
            fields,
            depth,
            next: 0,
            sent: 0,
        })
    }
}

impl SerializeStruct for FieldsWriter<'_> {
    type Ok = bool;
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let rest = self.fields.get(self.next..).unwrap_or_default();
        let found = rest
            .iter()
            .zip(self.next..)
            .find(|(field, _)| *field.name == *name);
        let Some((field, index)) = found else {
            let place = Place::default();
            return Err(EncodeError::UnknownField {
                place,
                field: name.to_owned(),
            });
        };
        self.next = index.saturating_add(1);
        let step = wire::len_u64(self.next.saturating_sub(self.sent));
        let slot = Slot {
            out: self.out,
            graph: self.graph,
            node: field.ty.node,
            step,
            depth: self.depth,
            raw: false,
        };
        if value.serialize(slot).map_err(|error| error.within(name))? {
            self.sent = self.next;
        }
        Ok(())
    }

    fn end(self) -> Result<bool, EncodeError> {
        wire::put_uint(self.out, 0);
        Ok(true)
    }
}
