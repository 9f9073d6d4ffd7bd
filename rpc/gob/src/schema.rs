//! Types as an encoder needs them: what serde alone does not tell.

mod describe;
mod gob_type;
mod wire_type;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

pub use describe::Type;
pub use gob_type::GobType;
pub use wire_type::WireType;

use crate::graph::{Edge, Field, Graph, Label, Node, NodeRef, Shape};
use crate::kind::Kind;
use describe::Form;

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
