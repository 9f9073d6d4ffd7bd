//! Type definitions as they travel: Go's `wireType` and its parts.

use crate::error::DecodeError;
use crate::kind::Marshaler;
use crate::limits::Limits;
use crate::wire::{self, Reader};

/// First id that a definition may have.
pub(crate) const FIRST_ID: i64 = 64;

/// A received type definition. Ids in it need not be defined yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Go's name for the type; informational, often empty.
    pub(crate) name: String,
    pub(crate) body: Body,
}

/// What the defined type is made of, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Array { elem: i64, len: usize },
    Slice { elem: i64 },
    Map { key: i64, elem: i64 },
    Struct(Vec<(String, i64)>),
    Opaque(Marshaler),
}

impl Definition {
    /// Reads the definition of `id` up to the end of its struct.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        id: i64,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let mut found = None;
        let mut fields = Fields::default();
        while let Some(number) = fields.next(reader, 7)? {
            if found.is_some() {
                return Err(DecodeError::BadDefinition {
                    id,
                    reason: "two kinds at once",
                });
            }
            found = Some(read_kind(reader, number, id, limits)?);
        }
        found.ok_or(DecodeError::BadDefinition {
            id,
            reason: "no kind",
        })
    }
}

/// Position in a struct being read.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Number of the next field that may come.
    next: usize,
}

impl Fields {
    /// Number of the next field of a struct of `count`, or `None` at its end.
    ///
    /// Like Go's reader, takes the end of the message for the end of the struct.
    fn next(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
    ) -> Result<Option<usize>, DecodeError> {
        if reader.remaining() == 0 {
            return Ok(None);
        }
        self.next_terminated(reader, count)
    }

    /// Number of the next field of a struct of `count`, or `None` at its terminator.
    #[inline]
    pub(crate) fn next_terminated(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let delta = reader.uint("a struct")?;
        let Some(step) = delta.checked_sub(1) else {
            return Ok(None);
        };
        let number = usize::try_from(step)
            .ok()
            .and_then(|step| self.next.checked_add(step))
            .filter(|&number| number < count)
            .ok_or(DecodeError::FieldOutOfBounds { fields: count })?;
        self.next = number.saturating_add(1);
        Ok(Some(number))
    }
}

fn read_kind(
    reader: &mut Reader<'_>,
    kind: usize,
    id: i64,
    limits: &Limits,
) -> Result<Definition, DecodeError> {
    let mut name = String::new();
    let (mut first, mut second) = (0, 0);
    let mut struct_fields = Vec::new();
    // Fields after the CommonType: one for slices and structs, two for arrays and maps.
    let count = match kind {
        0 | 3 => 3,
        1 | 2 => 2,
        _ => 1,
    };
    let mut fields = Fields::default();
    while let Some(number) = fields.next(reader, count)? {
        match (kind, number) {
            (_, 0) => name = read_common(reader)?,
            (2, _) => struct_fields = read_fields(reader, id, limits)?,
            (_, 1) => first = reader.int("a type definition")?,
            _ => second = reader.int("a type definition")?,
        }
    }
    let body = match kind {
        0 => Body::Array {
            elem: first,
            len: usize::try_from(second).map_err(|_| DecodeError::BadDefinition {
                id,
                reason: "negative length",
            })?,
        },
        1 => Body::Slice { elem: first },
        2 => Body::Struct(struct_fields),
        3 => Body::Map {
            key: first,
            elem: second,
        },
        4 => Body::Opaque(Marshaler::Gob),
        5 => Body::Opaque(Marshaler::Binary),
        _ => Body::Opaque(Marshaler::Text),
    };
    Ok(Definition { name, body })
}

/// Reads a CommonType and returns its name. Its id is sometimes wrong in what Go sends, so that
/// only the id in front of the definition counts.
fn read_common(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let mut name = String::new();
    let mut fields = Fields::default();
    while let Some(number) = fields.next(reader, 2)? {
        if number == 0 {
            let bytes = reader.counted("a type's name")?;
            name = String::from_utf8_lossy(bytes).into_owned();
        } else {
            reader.int("a type definition")?;
        }
    }
    Ok(name)
}

fn read_fields(
    reader: &mut Reader<'_>,
    id: i64,
    limits: &Limits,
) -> Result<Vec<(String, i64)>, DecodeError> {
    let count = reader.uint("a type definition")?;
    let within = usize::try_from(count)
        .ok()
        .filter(|&count| count <= limits.fields);
    let Some(capacity) = within else {
        return Err(DecodeError::TooManyFields {
            count,
            limit: limits.fields,
        });
    };
    if capacity > reader.remaining() {
        return Err(DecodeError::CountExceedsInput {
            count,
            available: reader.remaining(),
        });
    }
    let mut list = Vec::with_capacity(capacity);
    for _ in 0..capacity {
        let (mut name, mut ty) = (String::new(), 0);
        let mut fields = Fields::default();
        while let Some(number) = fields.next(reader, 2)? {
            if number == 0 {
                let bytes = reader.counted("a field's name")?;
                let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::BadDefinition {
                    id,
                    reason: "name of a field is not UTF-8",
                })?;
                text.clone_into(&mut name);
            } else {
                ty = reader.int("a type definition")?;
            }
        }
        list.push((name, ty));
    }
    Ok(list)
}

/// Writes the message that defines `id`. `inner_id` is what the CommonType says.
pub(crate) fn write(out: &mut Vec<u8>, id: i64, inner_id: i64, definition: &Definition) {
    let start = wire::hold_uint(out);
    wire::put_int(out, id.saturating_neg());
    // One field of wireType is present: its number is the kind's, counted from one here.
    wire::put_uint(
        out,
        match definition.body {
            Body::Array { .. } => 1,
            Body::Slice { .. } => 2,
            Body::Struct(_) => 3,
            Body::Map { .. } => 4,
            Body::Opaque(Marshaler::Gob) => 5,
            Body::Opaque(Marshaler::Binary) => 6,
            Body::Opaque(Marshaler::Text) => 7,
        },
    );
    wire::put_uint(out, 1);
    put_named_id(out, &definition.name, inner_id);
    match &definition.body {
        Body::Array { elem, len } => {
            put_step_int(out, 1, *elem);
            if *len > 0 {
                put_step_int(out, 1, i64::try_from(*len).unwrap_or(i64::MAX));
            }
        }
        Body::Slice { elem } => put_step_int(out, 1, *elem),
        Body::Map { key, elem } => {
            put_step_int(out, 1, *key);
            put_step_int(out, 1, *elem);
        }
        Body::Struct(fields) if fields.is_empty() => {}
        Body::Struct(fields) => {
            wire::put_uint(out, 1);
            wire::put_len(out, fields.len());
            for (name, ty) in fields {
                put_named_id(out, name, *ty);
            }
        }
        Body::Opaque(_) => {}
    }
    wire::put_uint(out, 0);
    wire::put_uint(out, 0);
    let length = out.len().saturating_sub(start).saturating_sub(1);
    wire::fill_uint(out, start, wire::len_u64(length));
}

/// A struct of a name, omitted when empty, and an id.
fn put_named_id(out: &mut Vec<u8>, name: &str, id: i64) {
    if name.is_empty() {
        put_step_int(out, 2, id);
    } else {
        wire::put_uint(out, 1);
        wire::put_counted(out, name.as_bytes());
        put_step_int(out, 1, id);
    }
    wire::put_uint(out, 0);
}

fn put_step_int(out: &mut Vec<u8>, step: u64, value: i64) {
    wire::put_uint(out, step);
    wire::put_int(out, value);
}
