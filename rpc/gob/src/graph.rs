//! Types as a graph: what schemas and received definitions are made of.
//!
//! A graph and not a tree, since types recurse, and since a peer can define types whose tree
//! would be exponentially larger than their definitions.

use std::sync::Arc;

use crate::kind::{Kind, Marshaler};

/// Types that refer to each other.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Unique number of a graph made by this program; none for one made from what a peer sent.
    pub(crate) serial: Option<u64>,
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    pub(crate) fn node(&self, node: NodeRef) -> Option<&Node> {
        self.nodes.get(node.index())
    }

    /// Shape of a node of this graph.
    #[inline]
    pub(crate) fn shape(&self, node: NodeRef) -> &Shape {
        // A node of another graph cannot come here: edges are private to their graph.
        self.node(node)
            .map_or(&Shape::Interface, |node| &node.shape)
    }
}

/// Place of a node in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeRef(u32);

impl NodeRef {
    pub(crate) const BOOL: Self = Self(0);
    pub(crate) const INT: Self = Self(1);
    pub(crate) const UINT: Self = Self(2);
    pub(crate) const FLOAT: Self = Self(3);
    pub(crate) const BYTES: Self = Self(4);
    pub(crate) const STRING: Self = Self(5);
    pub(crate) const COMPLEX: Self = Self(6);
    pub(crate) const INTERFACE: Self = Self(7);

    /// The node of a type that is built into the format, by its id.
    pub(crate) fn built_in(id: i64) -> Option<Self> {
        match id {
            1 => Some(Self::BOOL),
            2 => Some(Self::INT),
            3 => Some(Self::UINT),
            4 => Some(Self::FLOAT),
            5 => Some(Self::BYTES),
            6 => Some(Self::STRING),
            7 => Some(Self::COMPLEX),
            8 => Some(Self::INTERFACE),
            _ => None,
        }
    }

    /// The id of this node, if its type is built into the format.
    pub(crate) fn built_in_id(self) -> Option<i64> {
        (self.0 < 8).then(|| i64::from(self.0).saturating_add(1))
    }

    /// The node that the next push onto `nodes` gets.
    pub(crate) fn next<T>(nodes: &[T]) -> Option<Self> {
        u32::try_from(nodes.len()).ok().map(Self)
    }

    pub(crate) fn index(self) -> usize {
        // Lossless: usize has at least 32 bits wherever std's I/O exists.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A use of a type: in Go, directly or through pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) node: NodeRef,
    /// Whether Go has a pointer here. It shows on the wire only in how Go numbers types.
    pub(crate) pointer: bool,
}

impl Edge {
    pub(crate) fn to(node: NodeRef) -> Self {
        Self {
            node,
            pointer: false,
        }
    }
}

/// One field of a struct type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) ty: Edge,
}

/// What a type is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Bool,
    Int,
    Uint,
    Float,
    Bytes,
    String,
    Complex,
    Interface,
    Array {
        elem: Edge,
        len: usize,
    },
    Slice(Edge),
    Map {
        key: Edge,
        elem: Edge,
    },
    Struct(Arc<[Field]>),
    Opaque {
        how: Marshaler,
        /// Types of the fields that Go also defines, though they never travel.
        parts: Arc<[Edge]>,
    },
}

impl Shape {
    /// Shapes of the first nodes of every graph, in the order of [`NodeRef`]'s constants.
    pub(crate) const BUILT_IN: [Self; 8] = [
        Self::Bool,
        Self::Int,
        Self::Uint,
        Self::Float,
        Self::Bytes,
        Self::String,
        Self::Complex,
        Self::Interface,
    ];

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::Int => Kind::Int,
            Self::Uint => Kind::Uint,
            Self::Float => Kind::Float,
            Self::Bytes => Kind::Bytes,
            Self::String => Kind::String,
            Self::Complex => Kind::Complex,
            Self::Interface => Kind::Interface,
            Self::Array { .. } => Kind::Array,
            Self::Slice(_) => Kind::Slice,
            Self::Map { .. } => Kind::Map,
            Self::Struct(_) => Kind::Struct,
            Self::Opaque { how, .. } => Kind::Opaque(*how),
        }
    }

    /// The types that values of this one are made of, in order.
    pub(crate) fn components(&self) -> impl Iterator<Item = Edge> + '_ {
        let (first, second, fields): (_, _, &[Field]) = match self {
            Self::Array { elem, .. } | Self::Slice(elem) => (Some(*elem), None, &[]),
            Self::Map { key, elem } => (Some(*key), Some(*elem), &[]),
            Self::Struct(fields) => (None, None, fields),
            _ => (None, None, &[]),
        };
        first
            .into_iter()
            .chain(second)
            .chain(fields.iter().map(|field| field.ty))
    }
}

/// Names of a type, and what makes it the same type on another schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Label {
    /// Go's name of a named type without its package, else empty.
    pub(crate) name: Arc<str>,
    /// Go's syntax for the type, which names an unnamed type in a struct field.
    pub(crate) spelling: Arc<str>,
    /// Equal for equal types: an encoder defines a type once though several schemas have it.
    pub(crate) identity: Arc<str>,
}

/// One type of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) label: Label,
}

impl Node {
    /// The first nodes of every graph.
    pub(crate) fn built_in() -> Vec<Self> {
        Shape::BUILT_IN
            .into_iter()
            .map(|shape| Self {
                shape,
                label: Label::default(),
            })
            .collect()
    }
}
