//! Dynamic values onto the wire.

use super::{Interface, Value};
use crate::cursor::LONGEST_NAME;
use crate::error::{EncodeError, Place};
use crate::graph::{Edge, Field, Graph, NodeRef, Shape};
use crate::numbering::Numbering;
use crate::ser::DEEPEST;
use crate::wire;

/// Defines the concrete types of all interfaces in a value that the reader has not seen.
pub(crate) fn announce(
    types: &mut Numbering,
    value: &Value,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), EncodeError> {
    if depth > DEEPEST {
        return Err(EncodeError::TooDeep { limit: DEEPEST });
    }
    let depth = depth.saturating_add(1);
    match value {
        Value::Array(elems) | Value::Slice(elems) => elems
            .iter()
            .try_for_each(|elem| announce(types, elem, out, depth)),
        Value::Map(entries) => entries.iter().try_for_each(|(key, elem)| {
            announce(types, key, out, depth)?;
            announce(types, elem, out, depth)
        }),
        Value::Struct(fields) => fields
            .iter()
            .try_for_each(|(_, value)| announce(types, value, out, depth)),
        Value::Interface(Some(interface)) => {
            types.announce(&interface.schema, out);
            announce(types, &interface.value, out, depth)
        }
        _ => Ok(()),
    }
}

/// Writes a value that is no struct field. All its types have been announced, which has bounded
/// its depth.
pub(crate) fn value(
    types: &mut Numbering,
    graph: &Graph,
    node: NodeRef,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<bool, EncodeError> {
    Writer { types, graph, out }.value(node, value, 0)
}

struct Writer<'a> {
    types: &'a mut Numbering,
    graph: &'a Graph,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Writes a value, as a struct field if `step` is not zero. False if it was omitted.
    fn value(&mut self, node: NodeRef, value: &Value, step: u64) -> Result<bool, EncodeError> {
        let shape = self.graph.shape(node);
        if step > 0 {
            if is_omitted(value) {
                // Also an omitted value must fit.
                return if fits(shape, value) {
                    Ok(false)
                } else {
                    Err(mismatch(shape, value))
                };
            }
            wire::put_uint(self.out, step);
        }
        match (shape, value) {
            (Shape::Bool, Value::Bool(value)) => wire::put_uint(self.out, u64::from(*value)),
            (Shape::Int, Value::Int(value)) => wire::put_int(self.out, *value),
            (Shape::Uint, Value::Uint(value)) => wire::put_uint(self.out, *value),
            (Shape::Float, Value::Float(value)) => wire::put_float(self.out, *value),
            (Shape::Complex, Value::Complex { re, im }) => {
                wire::put_float(self.out, *re);
                wire::put_float(self.out, *im);
            }
            (Shape::Bytes, Value::Bytes(bytes)) => wire::put_counted(self.out, bytes),
            (Shape::String, Value::String(text)) => wire::put_counted(self.out, text.as_bytes()),
            (Shape::Opaque { how, .. }, Value::Opaque(opaque)) if *how == opaque.how => {
                wire::put_counted(self.out, &opaque.bytes);
            }
            (Shape::Interface, Value::Interface(None)) => wire::put_uint(self.out, 0),
            (Shape::Interface, Value::Interface(Some(interface))) => self.interface(interface)?,
            (Shape::Array { elem, len }, Value::Array(elems)) => {
                if elems.len() != *len {
                    return Err(EncodeError::length(*len, elems.len()));
                }
                self.list(*elem, elems)?;
            }
            (Shape::Slice(elem), Value::Slice(elems)) => self.list(*elem, elems)?,
            (Shape::Map { key, elem }, Value::Map(entries)) => {
                wire::put_len(self.out, entries.len());
                for (entry_key, entry) in entries {
                    self.value(key.node, entry_key, 0)?;
                    self.value(elem.node, entry, 0)?;
                }
            }
            (Shape::Struct(fields), Value::Struct(sent)) => self.structure(fields, sent)?,
            _ => return Err(mismatch(shape, value)),
        }
        Ok(true)
    }

    fn list(&mut self, elem: Edge, elems: &[Value]) -> Result<(), EncodeError> {
        wire::put_len(self.out, elems.len());
        elems
            .iter()
            .try_for_each(|value| self.value(elem.node, value, 0).map(drop))
    }

    fn structure<N: AsRef<str>>(
        &mut self,
        fields: &[Field],
        given: &[(N, Value)],
    ) -> Result<(), EncodeError> {
        let mut rest = fields.iter().zip(1_usize..);
        let mut sent = 0_usize;
        for (name, value) in given {
            let name = name.as_ref();
            let Some((field, number)) = rest.find(|(field, _)| *field.name == *name) else {
                let place = Place::default();
                return Err(EncodeError::UnknownField {
                    place,
                    field: name.to_owned(),
                });
            };
            let step = wire::len_u64(number.saturating_sub(sent));
            if self
                .value(field.ty.node, value, step)
                .map_err(|error| error.within(name))?
            {
                sent = number;
            }
        }
        wire::put_uint(self.out, 0);
        Ok(())
    }

    fn interface(&mut self, interface: &Interface) -> Result<(), EncodeError> {
        let Interface {
            name,
            schema,
            value,
        } = interface;
        if name.is_empty() || wire::len_u64(name.len()) > LONGEST_NAME {
            let place = Place::default();
            return Err(EncodeError::BadInterfaceName {
                place,
                length: name.len(),
            });
        }
        wire::put_counted(self.out, name.as_bytes());
        // Announced before, so that nothing is written here.
        let id = self.types.announce(schema, self.out);
        wire::put_int(self.out, id);
        let start = wire::hold_uint(self.out);
        let (graph, node) = (schema.graph(), schema.root().node);
        if !matches!(graph.shape(node), Shape::Struct(_)) {
            wire::put_uint(self.out, 0);
        }
        Writer {
            types: self.types,
            graph,
            out: self.out,
        }
        .value(node, value, 0)?;
        let length = self.out.len().saturating_sub(start).saturating_sub(1);
        wire::fill_uint(self.out, start, wire::len_u64(length));
        Ok(())
    }
}

/// Whether Go leaves a field of this value out. A nil map or pointer has no value here at all.
fn is_omitted(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        // Also true of negative zero, as in Go.
        Value::Float(value) => *value == 0.0,
        Value::Complex { re, im } => *re == 0.0 && *im == 0.0,
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Slice(elems) => elems.is_empty(),
        Value::Interface(interface) => interface.is_none(),
        Value::Array(_) | Value::Map(_) | Value::Struct(_) | Value::Opaque(_) => false,
    }
}

fn fits(shape: &Shape, value: &Value) -> bool {
    matches!(
        (shape, value),
        (Shape::Bool, Value::Bool(_))
            | (Shape::Int, Value::Int(_))
            | (Shape::Uint, Value::Uint(_))
            | (Shape::Float, Value::Float(_))
            | (Shape::Complex, Value::Complex { .. })
            | (Shape::Bytes, Value::Bytes(_))
            | (Shape::String, Value::String(_))
            | (Shape::Slice(_), Value::Slice(_))
            | (Shape::Interface, Value::Interface(_))
    )
}

fn mismatch(shape: &Shape, value: &Value) -> EncodeError {
    let found = match value {
        Value::Bool(_) => "bool",
        Value::Int(_) => "signed integer",
        Value::Uint(_) => "unsigned integer",
        Value::Float(_) => "float",
        Value::Complex { .. } => "complex number",
        Value::Bytes(_) => "bytes",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Slice(_) => "slice",
        Value::Map(_) => "map",
        Value::Struct(_) => "struct",
        Value::Interface(_) => "interface",
        Value::Opaque(_) => "value that marshalled itself",
    };
    EncodeError::mismatch(shape.kind(), found)
}
