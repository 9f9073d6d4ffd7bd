//! Type ids of what an encoder writes, given out as Go gives them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::definition::{self, Body, Definition};
use crate::graph::{Edge, Graph, Label, NodeRef, Shape};
use crate::schema::Schema;

/// Which ids a stream has, and which of its types the reader has been told.
#[derive(Debug)]
pub(crate) struct Numbering {
    next: i64,
    types: HashMap<Arc<str>, Numbered>,
    /// Schemas that have been announced, by graph and node.
    announced: BTreeMap<(u64, NodeRef), i64>,
    /// What has been done since the last commit, and the next id of then.
    undo: Vec<Undo>,
    committed: i64,
}

#[derive(Debug)]
struct Numbered {
    /// Zero while the types that it is made of are numbered.
    id: i64,
    name: Arc<str>,
    sent: bool,
}

#[derive(Debug)]
enum Undo {
    Numbered(Arc<str>),
    Sent(Arc<str>),
    Announced(u64, NodeRef),
}

impl Numbering {
    pub(crate) fn from(first: i64) -> Self {
        Self {
            next: first,
            types: HashMap::new(),
            announced: BTreeMap::new(),
            undo: Vec::new(),
            committed: first,
        }
    }

    /// Writes the definitions of the schema that the reader has not seen, and returns its id.
    pub(crate) fn announce(&mut self, schema: &Schema, out: &mut Vec<u8>) -> i64 {
        let (graph, root) = (schema.graph(), schema.root());
        if let Some(id) = root.node.built_in_id() {
            return id;
        }
        let known = graph.serial.map(|serial| (serial, root.node));
        if let Some(&id) = known.as_ref().and_then(|known| self.announced.get(known)) {
            return id;
        }
        self.send(graph, root, out);
        let id = self.id(graph, root.node);
        if let Some(known) = known {
            self.announced.insert(known, id);
            self.undo.push(Undo::Announced(known.0, known.1));
        }
        id
    }

    /// Everything announced so far has been written.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
        self.committed = self.next;
    }

    /// Nothing announced since the last commit has been written.
    pub(crate) fn roll_back(&mut self) {
        for step in self.undo.drain(..).rev() {
            match step {
                Undo::Numbered(identity) => drop(self.types.remove(&identity)),
                Undo::Sent(identity) => {
                    if let Some(numbered) = self.types.get_mut(&identity) {
                        numbered.sent = false;
                    }
                }
                Undo::Announced(serial, node) => drop(self.announced.remove(&(serial, node))),
            }
        }
        self.next = self.committed;
    }

    /// Defines a type, then those that it is made of, in the order of Go.
    fn send(&mut self, graph: &Graph, edge: Edge, out: &mut Vec<u8>) {
        let Some(node) = graph.node(edge.node) else {
            return;
        };
        if edge.node.built_in_id().is_some() {
            return;
        }
        let opaque = matches!(node.shape, Shape::Opaque { .. });
        let by_pointer = edge.pointer && opaque;
        let identity = &node.label.identity;
        if self
            .types
            .get(identity)
            .is_some_and(|numbered| numbered.sent)
        {
            return;
        }
        let name = if by_pointer {
            Arc::default()
        } else {
            Arc::clone(&node.label.name)
        };
        let id = self.number(graph, edge.node, &name);
        // Go numbers a pointer to a self-marshalling type apart, and puts that number, with no
        // name, inside the definition of the type. Readers ignore it.
        let (name, inner_id) = if by_pointer {
            (Arc::default(), self.take())
        } else {
            let recorded = self
                .types
                .get(identity)
                .map(|numbered| Arc::clone(&numbered.name));
            (recorded.unwrap_or_default(), id)
        };
        let body = self.body(graph, &node.shape);
        definition::write(
            out,
            id,
            inner_id,
            &Definition {
                name: (*name).to_owned(),
                body,
            },
        );
        if let Some(numbered) = self.types.get_mut(identity) {
            numbered.sent = true;
            self.undo.push(Undo::Sent(Arc::clone(identity)));
        }
        for component in node.shape.components() {
            self.send(graph, component, out);
        }
        if let Shape::Opaque { parts, .. } = &node.shape {
            for &part in parts.iter() {
                self.send(graph, part, out);
            }
        }
    }

    fn body(&self, graph: &Graph, shape: &Shape) -> Body {
        let id = |edge: &Edge| self.id(graph, edge.node);
        match shape {
            Shape::Array { elem, len } => Body::Array {
                elem: id(elem),
                len: *len,
            },
            Shape::Slice(elem) => Body::Slice { elem: id(elem) },
            Shape::Map { key, elem } => Body::Map {
                key: id(key),
                elem: id(elem),
            },
            Shape::Opaque { how, .. } => Body::Opaque(*how),
            Shape::Struct(fields) => Body::Struct(
                fields
                    .iter()
                    .map(|field| (field.name.to_string(), id(&field.ty)))
                    .collect(),
            ),
            // Types built into the format are never defined.
            _ => Body::Struct(Vec::new()),
        }
    }

    /// Numbers a type and those that it is made of: structs and self-marshalling types before
    /// their parts, lists and maps after theirs. `name` counts if the type is new.
    fn number(&mut self, graph: &Graph, at: NodeRef, name: &Arc<str>) -> i64 {
        if let Some(id) = at.built_in_id() {
            return id;
        }
        let Some(node) = graph.node(at) else { return 0 };
        let identity = &node.label.identity;
        if let Some(numbered) = self.types.get(identity) {
            return numbered.id;
        }
        let numbered = Numbered {
            id: 0,
            name: Arc::clone(name),
            sent: false,
        };
        self.types.insert(Arc::clone(identity), numbered);
        self.undo.push(Undo::Numbered(Arc::clone(identity)));
        let nameless = Arc::default();
        match &node.shape {
            Shape::Struct(fields) => {
                self.give_id(&node.label);
                for field in fields.iter() {
                    let Some(part) = graph.node(field.ty.node) else {
                        continue;
                    };
                    let own = &part.label.name;
                    let name = if own.is_empty() {
                        &part.label.spelling
                    } else {
                        own
                    };
                    if self.number(graph, field.ty.node, name) == 0 {
                        // A list or map that this struct is part of.
                        self.give_id(&part.label);
                    }
                }
            }
            Shape::Slice(elem) => {
                let name = match graph.node(elem.node) {
                    Some(part) if !elem.pointer => &part.label.name,
                    _ => &nameless,
                };
                self.number(graph, elem.node, name);
            }
            shape => {
                for component in shape.components() {
                    self.number(graph, component.node, &nameless);
                }
            }
        }
        self.give_id(&node.label)
    }

    fn id(&self, graph: &Graph, node: NodeRef) -> i64 {
        node.built_in_id().unwrap_or_else(|| {
            let identity = graph.node(node).map(|node| &node.label.identity);
            let numbered = identity.and_then(|identity| self.types.get(identity));
            numbered.map_or(0, |numbered| numbered.id)
        })
    }

    /// Gives a type an id, if it has none, and returns it.
    fn give_id(&mut self, label: &Label) -> i64 {
        let next = self.next;
        let Some(numbered) = self.types.get_mut(&label.identity) else {
            return 0;
        };
        if numbered.id != 0 {
            return numbered.id;
        }
        numbered.id = next;
        self.take()
    }

    fn take(&mut self) -> i64 {
        let id = self.next;
        self.next = id.saturating_add(1);
        id
    }
}
