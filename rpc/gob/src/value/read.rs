//! Dynamic values from the wire.

use std::sync::Arc;

use super::{GoString, Interface, Opaque, Value};
use crate::cursor::Cursor;
use crate::definition::Fields;
use crate::error::DecodeError;
use crate::graph::{Field, NodeRef, Shape};

/// Reads a value of the given type. Recursion is bounded by the limit on depth.
pub(crate) fn value(cursor: &mut Cursor<'_>, node: NodeRef) -> Result<Value, DecodeError> {
    Ok(match cursor.registry().shape(node)? {
        Shape::Bool => Value::Bool(cursor.reader().uint("a bool")? != 0),
        Shape::Int => Value::Int(cursor.reader().int("an integer")?),
        Shape::Uint => Value::Uint(cursor.reader().uint("an integer")?),
        Shape::Float => Value::Float(cursor.reader().float()?),
        Shape::Complex => {
            let re = cursor.reader().float()?;
            Value::Complex {
                re,
                im: cursor.reader().float()?,
            }
        }
        Shape::Bytes => Value::Bytes(cursor.reader().counted("bytes")?.to_vec()),
        Shape::String => Value::String(GoString::from(
            cursor.reader().counted("a string")?.to_vec(),
        )),
        Shape::Opaque { how, .. } => {
            let bytes = cursor.reader().counted("bytes")?.to_vec();
            Value::Opaque(Opaque { how: *how, bytes })
        }
        Shape::Interface => interface(cursor)?,
        Shape::Array { elem, len } => Value::Array(list(cursor, elem.node, Some(*len))?),
        Shape::Slice(elem) => Value::Slice(list(cursor, elem.node, None)?),
        Shape::Map { key, elem } => map(cursor, key.node, elem.node)?,
        Shape::Struct(fields) => structure(cursor, fields)?,
    })
}

fn list(
    cursor: &mut Cursor<'_>,
    elem: NodeRef,
    array: Option<usize>,
) -> Result<Vec<Value>, DecodeError> {
    cursor.enter()?;
    let count = cursor.count(array)?;
    let mut elems = Vec::with_capacity(cursor.reservation(count));
    for _ in 0..count {
        elems.push(value(cursor, elem)?);
    }
    cursor.leave();
    Ok(elems)
}

fn map(cursor: &mut Cursor<'_>, key: NodeRef, elem: NodeRef) -> Result<Value, DecodeError> {
    cursor.enter()?;
    let count = cursor.count(None)?;
    let mut entries = Vec::with_capacity(cursor.reservation(count) / 2);
    for _ in 0..count {
        let key = value(cursor, key)?;
        entries.push((key, value(cursor, elem)?));
    }
    cursor.leave();
    Ok(Value::Map(entries))
}

fn structure(cursor: &mut Cursor<'_>, fields: &[Field]) -> Result<Value, DecodeError> {
    cursor.enter()?;
    let outermost = cursor.depth() == 1;
    let mut at = Fields::default();
    let mut sent = Vec::new();
    while let Some(number) = cursor.next_field(&mut at, fields, outermost)? {
        let Some(field) = fields.get(number) else {
            break;
        };
        // A field takes two bytes on the wire and many more here.
        cursor.charge_element()?;
        sent.push((Arc::clone(&field.name), value(cursor, field.ty.node)?));
    }
    cursor.leave();
    Ok(Value::Struct(sent))
}

fn interface(cursor: &mut Cursor<'_>) -> Result<Value, DecodeError> {
    let Some((name, node)) = cursor.concrete()? else {
        return Ok(Value::Interface(None));
    };
    cursor.enter()?;
    let schema = cursor.registry().schema(node);
    let value = value(cursor, node)?;
    cursor.leave();
    Ok(Value::Interface(Some(Box::new(Interface {
        name: name.to_owned(),
        schema,
        value,
    }))))
}
