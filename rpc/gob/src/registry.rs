//! The types that a peer has defined on one stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::definition::{Body, Definition, FIRST_ID};
use crate::error::DecodeError;
use crate::graph::{Edge, Field, Graph, Label, Node, NodeRef, Shape};
use crate::limits::Limits;
use crate::schema::Schema;
use crate::wire::Reader;

/// Types of one direction of one stream, by the ids that its sender chose.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: Limits,
    by_id: BTreeMap<i64, NodeRef>,
    slots: Vec<Slot>,
    defined: usize,
    definition_bytes: usize,
    /// Tells types of this stream from those of others.
    stream: u64,
    /// All types as a graph that values can share, until the next definition.
    snapshot: OnceLock<Arc<Graph>>,
}

/// A type that has been mentioned; defined or not.
#[derive(Debug)]
struct Slot {
    id: i64,
    node: Option<Node>,
    /// What the last look at all that values of this type need found: that all of it is defined, or a type that
    /// is not.
    surveyed: Option<Result<Complete, NodeRef>>,
}

/// Fact about a type of which everything is defined.
#[derive(Debug, Clone, Copy)]
struct Complete {
    interfaces: bool,
}

/// A type whose values can be read, for all that they need is defined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved {
    pub(crate) node: NodeRef,
    /// Whether its values may hold interfaces, and so span messages.
    pub(crate) interfaces: bool,
}

impl Registry {
    pub(crate) fn new(limits: Limits) -> Self {
        static STREAMS: AtomicU64 = AtomicU64::new(0);
        let slots = Node::built_in()
            .into_iter()
            .map(|node| {
                let complete = Complete {
                    interfaces: node.shape == Shape::Interface,
                };
                Slot {
                    id: 0,
                    node: Some(node),
                    surveyed: Some(Ok(complete)),
                }
            })
            .collect();
        Self {
            limits,
            by_id: BTreeMap::new(),
            slots,
            defined: 0,
            definition_bytes: 0,
            stream: STREAMS.fetch_add(1, Ordering::Relaxed),
            snapshot: OnceLock::new(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Shape of a node of this registry.
    #[inline]
    pub(crate) fn shape(&self, node: NodeRef) -> Result<&Shape, DecodeError> {
        let slot = self.slots.get(node.index());
        slot.and_then(|slot| slot.node.as_ref())
            .map(|node| &node.shape)
            .ok_or_else(|| self.undefined(node))
    }

    fn undefined(&self, node: NodeRef) -> DecodeError {
        let slot = self.slots.get(node.index());
        DecodeError::UndefinedType {
            id: slot.map_or(0, |slot| slot.id),
        }
    }

    /// Reads the definition of `id` and takes it in.
    pub(crate) fn define(&mut self, reader: &mut Reader<'_>, id: i64) -> Result<(), DecodeError> {
        if id < FIRST_ID {
            return Err(DecodeError::ReservedType { id });
        }
        if self.defined >= self.limits.types {
            return Err(DecodeError::TooManyTypes {
                limit: self.limits.types,
            });
        }
        let before = reader.remaining();
        let definition = Definition::read(reader, id, &self.limits)?;
        let read = before.saturating_sub(reader.remaining());
        self.definition_bytes = self.definition_bytes.saturating_add(read);
        if self.definition_bytes > self.limits.definition_bytes {
            return Err(DecodeError::DefinitionsTooLarge {
                limit: self.limits.definition_bytes,
            });
        }
        let place = self.mention(id);
        if self
            .slots
            .get(place.index())
            .is_none_or(|slot| slot.node.is_some())
        {
            return Err(DecodeError::DuplicateType { id });
        }
        let node = self.node(id, definition);
        if let Some(slot) = self.slots.get_mut(place.index()) {
            slot.node = Some(node);
        }
        self.defined = self.defined.saturating_add(1);
        self.snapshot = OnceLock::new();
        Ok(())
    }

    /// The type `id`, if everything that its values need is defined.
    pub(crate) fn resolve(&mut self, id: i64) -> Result<Resolved, DecodeError> {
        let node = self.find(id)?;
        let known = self.slots.get(node.index()).and_then(|slot| slot.surveyed);
        let surveyed = match known {
            Some(Ok(complete)) => Ok(complete),
            // A value of a type that stays incomplete is a few bytes, and the walk over what it needs is long.
            Some(Err(lacking)) if self.shape(lacking).is_err() => Err(lacking),
            _ => {
                let surveyed = self.survey(node);
                if let Some(slot) = self.slots.get_mut(node.index()) {
                    slot.surveyed = Some(surveyed);
                }
                surveyed
            }
        };
        match surveyed {
            Ok(Complete { interfaces }) => Ok(Resolved { node, interfaces }),
            Err(lacking) => Err(self.undefined(lacking)),
        }
    }

    /// The node of `id`, defined or only mentioned.
    pub(crate) fn find(&self, id: i64) -> Result<NodeRef, DecodeError> {
        NodeRef::built_in(id)
            .or_else(|| self.by_id.get(&id).copied())
            .ok_or(DecodeError::UndefinedType { id })
    }

    /// A schema of the type, sharing one graph with all others made before the next definition.
    pub(crate) fn schema(&self, node: NodeRef) -> Schema {
        let nodes = self.snapshot.get_or_init(|| {
            // What is mentioned but not defined cannot be reached from a resolved type.
            let absent = || Node {
                shape: Shape::Bool,
                label: Label::default(),
            };
            let slots = self.slots.iter();
            let nodes = slots
                .map(|slot| slot.node.clone().unwrap_or_else(absent))
                .collect();
            Arc::new(Graph {
                serial: None,
                nodes,
            })
        });
        Schema::part_of(Arc::clone(nodes), Edge::to(node))
    }

    /// Walks all that values of `root` need, up to a type that is not defined.
    fn survey(&self, root: NodeRef) -> Result<Complete, NodeRef> {
        let mut interfaces = false;
        let mut seen = vec![false; self.slots.len()];
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            match seen.get_mut(node.index()) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            let Ok(shape) = self.shape(node) else {
                return Err(node);
            };
            interfaces |= *shape == Shape::Interface;
            open.extend(shape.components().map(|edge| edge.node));
        }
        Ok(Complete { interfaces })
    }

    /// The node for `id`, making a place for its definition if it is new.
    fn mention(&mut self, id: i64) -> NodeRef {
        if let Ok(node) = self.find(id) {
            return node;
        }
        // Places are bounded by the bytes of all definitions, far below 2^32.
        let node = NodeRef::next(&self.slots).unwrap_or(NodeRef::INTERFACE);
        self.slots.push(Slot {
            id,
            node: None,
            surveyed: None,
        });
        self.by_id.insert(id, node);
        node
    }

    fn node(&mut self, id: i64, definition: Definition) -> Node {
        let mut edge = |id| Edge::to(self.mention(id));
        let shape = match definition.body {
            Body::Array { elem, len } => Shape::Array {
                elem: edge(elem),
                len,
            },
            Body::Slice { elem } => Shape::Slice(edge(elem)),
            Body::Map { key, elem } => Shape::Map {
                key: edge(key),
                elem: edge(elem),
            },
            Body::Struct(fields) => Shape::Struct(
                fields
                    .into_iter()
                    .map(|(name, ty)| Field {
                        name: name.into(),
                        ty: edge(ty),
                    })
                    .collect(),
            ),
            Body::Opaque(how) => Shape::Opaque {
                how,
                parts: Arc::from([]),
            },
        };
        let label = Label {
            name: definition.name.into(),
            spelling: Arc::default(),
            identity: format!("received {} {id}", self.stream).into(),
        };
        Node { shape, label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition;

    /// Defines a struct of fields of these types.
    fn define(registry: &mut Registry, id: i64, fields: &[i64]) {
        let fields = fields.iter().map(|ty| (format!("F{ty}"), *ty)).collect();
        let definition = Definition {
            name: String::new(),
            body: Body::Struct(fields),
        };
        let mut bytes = Vec::new();
        definition::write(&mut bytes, id, id, &definition);
        let mut reader = Reader::new(&bytes, &[]);
        reader.uint("its length").unwrap();
        assert_eq!(reader.int("its id").unwrap(), id.saturating_neg());
        registry.define(&mut reader, id).unwrap();
    }

    #[test]
    fn what_a_type_lacks_is_looked_for_once_and_again_when_it_is_defined() {
        let mut registry = Registry::new(Limits::default());
        define(&mut registry, 64, &[65, 66]);
        define(&mut registry, 65, &[64, 8]);
        let lacking = DecodeError::UndefinedType { id: 66 };
        assert_eq!(registry.resolve(64).unwrap_err(), lacking);
        assert_eq!(registry.resolve(65).unwrap_err(), lacking);
        // Another walk would find that it lacks nothing.
        let root = registry.find(64).unwrap();
        let whole = registry.slots[root.index()].node.replace(Node {
            shape: Shape::Bool,
            label: Label::default(),
        });
        assert_eq!(registry.resolve(64).unwrap_err(), lacking);
        registry.slots[root.index()].node = whole;

        define(&mut registry, 66, &[67]);
        let lacking = DecodeError::UndefinedType { id: 67 };
        assert_eq!(registry.resolve(64).unwrap_err(), lacking);
        define(&mut registry, 67, &[1]);
        assert!(registry.resolve(64).unwrap().interfaces);
        assert!(!registry.resolve(66).unwrap().interfaces);
    }
}
