//! Go types described by a program.

use std::fmt;

use crate::graph::NodeRef;
use crate::kind::Marshaler;

/// Description of a Go type, from which a [`Schema`](crate::Schema) is made.
///
/// ```
/// use pinfold_gob::{Schema, Type};
///
/// let node = Type::structure(
///     "Node",
///     [("Val", Type::int()), ("Next", Type::reference("Node").pointer())],
/// );
/// let schema = Schema::new(&node)?;
/// # Ok::<(), pinfold_gob::SchemaError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Type {
    pub(super) form: Form,
    pub(super) name: String,
    spelling: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    BuiltIn(NodeRef),
    Slice(Box<Type>),
    Array(usize, Box<Type>),
    Map(Box<Type>, Box<Type>),
    Struct(Vec<(String, Type)>),
    Opaque(Marshaler, Vec<Type>),
    Pointer(Box<Type>),
    Reference,
}

impl Type {
    /// `bool`.
    pub fn bool() -> Self {
        Self::built_in(NodeRef::BOOL)
    }

    /// Signed integer of any width.
    pub fn int() -> Self {
        Self::built_in(NodeRef::INT)
    }

    /// Unsigned integer of any width.
    pub fn uint() -> Self {
        Self::built_in(NodeRef::UINT)
    }

    /// `float32` or `float64`.
    pub fn float() -> Self {
        Self::built_in(NodeRef::FLOAT)
    }

    /// `complex64` or `complex128`.
    pub fn complex() -> Self {
        Self::built_in(NodeRef::COMPLEX)
    }

    /// `string`.
    pub fn string() -> Self {
        Self::built_in(NodeRef::STRING)
    }

    /// `[]byte`. Go's type 5, not a slice of integers.
    pub fn bytes() -> Self {
        Self::built_in(NodeRef::BYTES)
    }

    /// Any interface type.
    pub fn interface() -> Self {
        Self::built_in(NodeRef::INTERFACE)
    }

    /// Slice of anything but bytes.
    pub fn slice(elem: Self) -> Self {
        Self::unnamed(Form::Slice(Box::new(elem)))
    }

    /// Array of fixed length. `[N]byte` is one too: of [`Type::uint`].
    pub fn array(len: usize, elem: Self) -> Self {
        Self::unnamed(Form::Array(len, Box::new(elem)))
    }

    /// Map.
    pub fn map(key: Self, elem: Self) -> Self {
        Self::unnamed(Form::Map(Box::new(key), Box::new(elem)))
    }

    /// Struct, with Go's name without package (empty for an anonymous struct) and Go's field
    /// names in order, without the fields that do not travel.
    pub fn structure<N: Into<String>>(
        name: impl Into<String>,
        fields: impl IntoIterator<Item = (N, Self)>,
    ) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, ty)| (name.into(), ty))
            .collect();
        Self {
            form: Form::Struct(fields),
            name: name.into(),
            spelling: None,
        }
    }

    /// Type that marshals itself, such as `time.Time` (name `Time`, by [`Marshaler::Gob`]).
    pub fn opaque(name: impl Into<String>, how: Marshaler) -> Self {
        Self {
            form: Form::Opaque(how, Vec::new()),
            name: name.into(),
            spelling: None,
        }
    }

    /// A self-marshalling struct with exported fields, whose types Go defines too, though they
    /// never travel. Only needed to write what Go writes, byte for byte.
    pub fn opaque_with_fields(name: impl Into<String>, how: Marshaler, fields: Vec<Self>) -> Self {
        Self {
            form: Form::Opaque(how, fields),
            name: name.into(),
            spelling: None,
        }
    }

    /// The type of that name which is being described, or was before: for recursive types.
    pub fn reference(name: impl Into<String>) -> Self {
        Self {
            form: Form::Reference,
            name: name.into(),
            spelling: None,
        }
    }

    /// A pointer to this type. On the wire it is the type itself.
    #[must_use]
    pub fn pointer(self) -> Self {
        Self::unnamed(Form::Pointer(Box::new(self)))
    }

    /// This type as a named type, by Go's name without package.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// This type with its Go spelling, such as `[]main.Point`, which names it in definitions of
    /// structs that hold it. Without, it is made up from the parts. Readers ignore it.
    #[must_use]
    pub fn spelled(mut self, spelling: impl Into<String>) -> Self {
        self.spelling = Some(spelling.into());
        self
    }

    fn built_in(node: NodeRef) -> Self {
        Self::unnamed(Form::BuiltIn(node))
    }

    fn unnamed(form: Form) -> Self {
        Self {
            form,
            name: String::new(),
            spelling: None,
        }
    }
}

impl fmt::Display for Type {
    /// The type in Go's syntax.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spelling) = &self.spelling {
            return f.write_str(spelling);
        }
        if !self.name.is_empty() {
            return f.write_str(&self.name);
        }
        match &self.form {
            Form::BuiltIn(node) => f.write_str(match *node {
                NodeRef::BOOL => "bool",
                NodeRef::INT => "int",
                NodeRef::UINT => "uint",
                NodeRef::FLOAT => "float64",
                NodeRef::BYTES => "[]uint8",
                NodeRef::STRING => "string",
                NodeRef::COMPLEX => "complex128",
                _ => "interface {}",
            }),
            Form::Slice(elem) => write!(f, "[]{elem}"),
            Form::Array(len, elem) => write!(f, "[{len}]{elem}"),
            Form::Map(key, elem) => write!(f, "map[{key}]{elem}"),
            Form::Pointer(to) => write!(f, "*{to}"),
            Form::Struct(fields) if fields.is_empty() => f.write_str("struct {}"),
            Form::Struct(fields) => {
                f.write_str("struct {")?;
                for (n, (name, ty)) in fields.iter().enumerate() {
                    write!(f, "{} {name} {ty}", if n == 0 { "" } else { ";" })?;
                }
                f.write_str(" }")
            }
            Form::Opaque(..) | Form::Reference => Ok(()),
        }
    }
}
