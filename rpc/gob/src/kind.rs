//! The kinds of type that gob tells apart on the wire.

use std::fmt;

/// Kind of a type on the wire. Widths of numbers and names of types do not travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `bool`.
    Bool,
    /// Signed integer of any width.
    Int,
    /// Unsigned integer of any width.
    Uint,
    /// `float32` or `float64`.
    Float,
    /// `[]byte` and every type made from it.
    Bytes,
    /// `string`: bytes that need not be UTF-8.
    String,
    /// `complex64` or `complex128`.
    Complex,
    /// Any interface type.
    Interface,
    /// Array of fixed length.
    Array,
    /// Slice of anything but bytes.
    Slice,
    /// Map.
    Map,
    /// Struct.
    Struct,
    /// Type that marshals itself.
    Opaque(Marshaler),
}

/// Go interface by which a self-marshalling type makes its bytes. Both sides must agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Marshaler {
    /// `GobEncode`, for example `time.Time` and `big.Int`.
    Gob,
    /// `MarshalBinary`, for example `url.URL`.
    Binary,
    /// `MarshalText`: defined by the format, never produced by Go.
    Text,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Float => "float",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Complex => "complex",
            Self::Interface => "interface",
            Self::Array => "array",
            Self::Slice => "slice",
            Self::Map => "map",
            Self::Struct => "struct",
            Self::Opaque(Marshaler::Gob) => "value marshalled by GobEncode",
            Self::Opaque(Marshaler::Binary) => "value marshalled by MarshalBinary",
            Self::Opaque(Marshaler::Text) => "value marshalled by MarshalText",
        })
    }
}
