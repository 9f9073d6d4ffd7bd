//! Values whose types are known only at run time.

pub(crate) mod read;
mod text;
pub(crate) mod write;

use std::sync::Arc;

pub use text::GoString;

use crate::kind::Marshaler;
use crate::schema::Schema;

/// A gob value of any type.
///
/// Go's nil is not always told from empty, just as on the wire: a nil slice is an empty one, and
/// a field that was not sent, be it zero or nil, is absent from its struct.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A bool.
    Bool(bool),
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    Uint(u64),
    /// A float of either width.
    Float(f64),
    /// A complex number of either width.
    Complex {
        /// Real part.
        re: f64,
        /// Imaginary part.
        im: f64,
    },
    /// A byte slice.
    Bytes(Vec<u8>),
    /// A string, not necessarily UTF-8.
    String(GoString),
    /// An array; its length is its type's.
    Array(Vec<Value>),
    /// A slice of anything but bytes.
    Slice(Vec<Value>),
    /// A map, in the order of the wire, with what came twice.
    Map(Vec<(Value, Value)>),
    /// A struct: the fields that were sent, in order, by name.
    Struct(Vec<(Arc<str>, Value)>),
    /// An interface; `None` is nil.
    Interface(Option<Box<Interface>>),
    /// A value that marshalled itself.
    Opaque(Opaque),
}

/// What a non-nil interface holds.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Name under which the concrete type is registered: 1 to 1024 bytes.
    pub name: String,
    /// The concrete type.
    pub schema: Schema,
    /// The value.
    pub value: Value,
}

impl PartialEq for Interface {
    /// Equal names and values. The registered name stands for the type.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

/// Bytes that a Go type made of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// How it made them.
    pub how: Marshaler,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Value {
    /// A field of a struct, if it is one and the field was sent.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Self::Struct(fields) = self else {
            return None;
        };
        fields
            .iter()
            .find(|(field, _)| &**field == name)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

    /// A peer's byte becomes one of these: the limit on elements reckons with it.
    #[test]
    fn a_value_takes_no_more_than_32_bytes() {
        assert!(size_of::<Value>() <= 32, "{}", size_of::<Value>());
    }
}
