//! Types as an encoder needs them: what serde alone does not tell.

mod gob_type;
mod wire_type;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

pub use gob_type::GobType;
pub use wire_type::WireType;

use crate::graph::{Edge, Field, Graph, Label, Node, NodeRef, Shape};
use crate::kind::{Kind, Marshaler};

/// Description of a Go type, from which a [`Schema`] is made.
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
    form: Form,
    name: String,
    spelling: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
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

/// Why a [`Type`] makes no [`Schema`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A reference to a name that no type around or before it has.
    #[error("reference to type {name:?}, which is not described before")]
    UnknownReference {
        /// The name.
        name: String,
    },
    /// More types than fit.
    #[error("too many types")]
    TooManyTypes,
}

/// A Go type, ready for use by encoders. Make it once, use it often: a clone is cheap, and
/// encoders know it again.
///
/// Types that are equal in name and structure are one type to an encoder, in whichever schemas
/// they are.
#[derive(Clone)]
pub struct Schema {
    graph: Arc<Graph>,
    root: Edge,
}

impl Schema {
    /// Schema of a described type.
    ///
    /// # Errors
    /// [`SchemaError::UnknownReference`] for a [`Type::reference`] to nothing.
    pub fn new(ty: &Type) -> Result<Self, SchemaError> {
        let mut builder = Builder {
            nodes: Node::built_in(),
            names: Vec::new(),
        };
        let root = builder.add(ty)?;
        let mut nodes = builder.nodes;
        for index in 0..nodes.len() {
            let identity = identity(&nodes, index, &mut Vec::new());
            if let Some(node) = nodes.get_mut(index) {
                node.label.identity = identity.into();
            }
        }
        Ok(Self {
            graph: Arc::new(Graph {
                serial: Some(serial()),
                nodes,
            }),
            root,
        })
    }

    /// Schema of a Rust type that says what it is in Go.
    ///
    /// # Panics
    /// If [`GobType::gob_type`] gives a type with a [`Type::reference`] to nothing.
    #[expect(
        clippy::expect_used,
        reason = "the type is this program's own, wrong at first use"
    )]
    pub fn of<T: GobType + ?Sized>() -> Self {
        Self::new(&T::gob_type()).expect("a GobType refers only to types it describes")
    }

    /// Schema of `bool`.
    pub fn bool() -> Self {
        Self::built_in(NodeRef::BOOL)
    }

    /// Schema of signed integers.
    pub fn int() -> Self {
        Self::built_in(NodeRef::INT)
    }

    /// Schema of unsigned integers.
    pub fn uint() -> Self {
        Self::built_in(NodeRef::UINT)
    }

    /// Schema of floats.
    pub fn float() -> Self {
        Self::built_in(NodeRef::FLOAT)
    }

    /// Schema of strings.
    pub fn string() -> Self {
        Self::built_in(NodeRef::STRING)
    }

    /// Schema of byte slices.
    pub fn bytes() -> Self {
        Self::built_in(NodeRef::BYTES)
    }

    /// Schema of interfaces. Of static values, only `()` and `None` go with it: nil.
    pub fn interface() -> Self {
        Self::built_in(NodeRef::INTERFACE)
    }

    /// Schema of `struct{}`, which Go's net/rpc sends where there is nothing to say.
    pub fn empty_struct() -> Self {
        static EMPTY: LazyLock<Schema> = LazyLock::new(Schema::of::<crate::Empty>);
        EMPTY.clone()
    }

    /// Kind of the type.
    pub fn kind(&self) -> Kind {
        self.graph.shape(self.root.node).kind()
    }

    /// Go's name of the type without package; empty for most types that are no structs.
    pub fn name(&self) -> &str {
        self.graph
            .node(self.root.node)
            .map_or("", |node| &node.label.name)
    }

    /// Names of a struct's fields in order; nothing for other kinds.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.struct_fields().iter().map(|field| &*field.name)
    }

    /// Type of a struct's field.
    pub fn field(&self, name: &str) -> Option<Self> {
        let field = self
            .struct_fields()
            .iter()
            .find(|field| &*field.name == name)?;
        Some(Self::part_of(Arc::clone(&self.graph), field.ty))
    }

    /// Type of the elements of a slice, array or map.
    pub fn element(&self) -> Option<Self> {
        let elem = match self.graph.shape(self.root.node) {
            Shape::Slice(elem) | Shape::Array { elem, .. } | Shape::Map { elem, .. } => *elem,
            _ => return None,
        };
        Some(Self::part_of(Arc::clone(&self.graph), elem))
    }

    /// Type of the keys of a map.
    pub fn key(&self) -> Option<Self> {
        let Shape::Map { key, .. } = self.graph.shape(self.root.node) else {
            return None;
        };
        Some(Self::part_of(Arc::clone(&self.graph), *key))
    }

    pub(crate) fn part_of(graph: Arc<Graph>, root: Edge) -> Self {
        Self { graph, root }
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn root(&self) -> Edge {
        self.root
    }

    fn struct_fields(&self) -> &[Field] {
        match self.graph.shape(self.root.node) {
            Shape::Struct(fields) => fields,
            _ => &[],
        }
    }

    fn built_in(node: NodeRef) -> Self {
        static GRAPH: LazyLock<Arc<Graph>> = LazyLock::new(|| {
            Arc::new(Graph {
                serial: Some(serial()),
                nodes: Node::built_in(),
            })
        });
        Self {
            graph: Arc::clone(&GRAPH),
            root: Edge::to(node),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("kind", &self.kind())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

struct Builder {
    nodes: Vec<Node>,
    names: Vec<(String, NodeRef)>,
}

impl Builder {
    fn add(&mut self, ty: &Type) -> Result<Edge, SchemaError> {
        match &ty.form {
            Form::BuiltIn(node) => return Ok(Edge::to(*node)),
            Form::Pointer(to) => {
                return Ok(Edge {
                    pointer: true,
                    ..self.add(to)?
                });
            }
            Form::Reference => {
                let found = self.names.iter().rev().find(|(name, _)| *name == ty.name);
                let node = found.ok_or_else(|| SchemaError::UnknownReference {
                    name: ty.name.clone(),
                })?;
                return Ok(Edge::to(node.1));
            }
            _ => {}
        }
        let place = NodeRef::next(&self.nodes).ok_or(SchemaError::TooManyTypes)?;
        let label = Label {
            name: ty.name.as_str().into(),
            spelling: ty.to_string().into(),
            identity: Arc::default(),
        };
        // The place is taken before the parts are added, which may refer to it.
        self.nodes.push(Node {
            shape: Shape::Struct(Arc::from([])),
            label,
        });
        if !ty.name.is_empty() {
            self.names.push((ty.name.clone(), place));
        }
        let shape = match &ty.form {
            Form::Slice(elem) => Shape::Slice(self.add(elem)?),
            Form::Array(len, elem) => Shape::Array {
                elem: self.add(elem)?,
                len: *len,
            },
            Form::Map(key, elem) => Shape::Map {
                key: self.add(key)?,
                elem: self.add(elem)?,
            },
            Form::Opaque(how, parts) => {
                let parts = parts
                    .iter()
                    .map(|part| self.add(part))
                    .collect::<Result<_, _>>()?;
                Shape::Opaque { how: *how, parts }
            }
            Form::Struct(fields) => Shape::Struct(
                fields
                    .iter()
                    .map(|(name, ty)| {
                        Ok(Field {
                            name: name.as_str().into(),
                            ty: self.add(ty)?,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Form::BuiltIn(_) | Form::Pointer(_) | Form::Reference => return Ok(Edge::to(place)),
        };
        if let Some(node) = self.nodes.get_mut(place.index()) {
            node.shape = shape;
        }
        Ok(Edge::to(place))
    }
}

/// Name and structure of a type, with types that it is inside of as steps up.
fn identity(nodes: &[Node], index: usize, path: &mut Vec<usize>) -> String {
    if let Some(up) = path.iter().rev().position(|&at| at == index) {
        return format!("^{up}");
    }
    let Some(node) = nodes.get(index) else {
        return String::new();
    };
    path.push(index);
    let mut text = format!(
        "{}|{}|{:?}(",
        node.label.name,
        node.label.spelling,
        node.shape.kind()
    );
    if let Shape::Array { len, .. } = node.shape {
        text.push_str(&len.to_string());
    }
    if let Shape::Struct(fields) = &node.shape {
        for field in fields.iter() {
            text.push_str(&field.name);
            text.push(' ');
        }
    }
    for part in node.shape.components() {
        text.push_str(&identity(nodes, part.node.index(), path));
        text.push(',');
    }
    text.push(')');
    path.pop();
    text
}

fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
