//! Passing over values without recursion, stopping where a message is missing.
//!
//! A value that holds interfaces can span messages, and bring type definitions along. Scanning
//! finds its end and takes its definitions in, and goes on where it stopped when more has
//! arrived, so that a value that comes in small pieces is not read over and over.

use crate::cursor::{begin_concrete, deeper, read_count, read_field, read_name};
use crate::definition::{Definition, Fields};
use crate::error::DecodeError;
use crate::graph::{NodeRef, Shape};
use crate::registry::Registry;
use crate::wire::Reader;

/// Where types come from, and where definitions inside values go.
pub(crate) trait Types {
    fn registry(&self) -> &Registry;
    fn define(&mut self, reader: &mut Reader<'_>, id: i64) -> Result<(), DecodeError>;
    fn concrete(&mut self, id: i64) -> Result<NodeRef, DecodeError>;
}

/// Definitions are new.
impl Types for Registry {
    fn registry(&self) -> &Registry {
        self
    }

    fn define(&mut self, reader: &mut Reader<'_>, id: i64) -> Result<(), DecodeError> {
        Self::define(self, reader, id)
    }

    fn concrete(&mut self, id: i64) -> Result<NodeRef, DecodeError> {
        self.resolve(id).map(|resolved| resolved.node)
    }
}

/// Definitions have been taken in before.
pub(crate) struct Known<'a>(pub(crate) &'a Registry);

impl Types for Known<'_> {
    fn registry(&self) -> &Registry {
        self.0
    }

    fn define(&mut self, reader: &mut Reader<'_>, id: i64) -> Result<(), DecodeError> {
        Definition::read(reader, id, self.0.limits()).map(drop)
    }

    fn concrete(&mut self, id: i64) -> Result<NodeRef, DecodeError> {
        self.0.find(id)
    }
}

/// How far a scan got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The value has been passed.
    Done,
    /// The value goes on in a message that is not there yet.
    NeedMessage,
}

/// A scan of one value, under way.
#[derive(Debug)]
pub(crate) struct Scan {
    stack: Vec<Frame>,
    /// Depth at which the scan began; zero for a whole value.
    depth: usize,
    spans: bool,
    elements_left: usize,
    /// Bytes of the messages taken since the first.
    taken: usize,
}

/// Something the scan is inside of.
#[derive(Debug)]
enum Frame {
    Struct {
        node: NodeRef,
        at: Fields,
    },
    List {
        elem: NodeRef,
        left: usize,
    },
    Map {
        key: NodeRef,
        elem: NodeRef,
        left: usize,
        at_elem: bool,
    },
    /// Between the name and the type of what is in an interface.
    Interface {
        next_message: bool,
    },
    /// In the value of an interface.
    Concrete,
}

impl Scan {
    /// Scan of a whole value, whose first message has `first_message` bytes.
    pub(crate) fn whole(registry: &Registry, spans: bool, first_message: usize) -> Self {
        let elements_left = registry.limits().elements;
        Self {
            stack: Vec::new(),
            depth: 0,
            spans,
            elements_left,
            taken: first_message,
        }
    }

    /// Scan of a part of a value.
    pub(crate) fn within(depth: usize, elements_left: usize, spans: bool) -> Self {
        Self {
            stack: Vec::new(),
            depth,
            spans,
            elements_left,
            taken: 0,
        }
    }

    pub(crate) fn elements_left(&self) -> usize {
        self.elements_left
    }

    /// Passes over what is in front, or goes into it.
    pub(crate) fn start(
        &mut self,
        node: NodeRef,
        reader: &mut Reader<'_>,
        types: &impl Types,
    ) -> Result<(), DecodeError> {
        let limits = types.registry().limits();
        let frame = match types.registry().shape(node)? {
            Shape::Bool | Shape::Int | Shape::Uint | Shape::Float => {
                return reader.uint("a number").map(drop);
            }
            Shape::Complex => {
                reader.uint("a complex number")?;
                return reader.uint("a complex number").map(drop);
            }
            Shape::Bytes | Shape::String | Shape::Opaque { .. } => {
                return reader.counted("bytes").map(drop);
            }
            Shape::Interface => match read_name(reader)? {
                None => return Ok(()),
                Some(_) => Frame::Interface {
                    next_message: false,
                },
            },
            Shape::Struct(_) => Frame::Struct {
                node,
                at: Fields::default(),
            },
            Shape::Slice(elem) => Frame::List {
                elem: elem.node,
                left: self.count(reader, None, limits.elements)?,
            },
            Shape::Array { elem, len } => Frame::List {
                elem: elem.node,
                left: self.count(reader, Some(*len), limits.elements)?,
            },
            Shape::Map { key, elem } => Frame::Map {
                key: key.node,
                elem: elem.node,
                left: self.count(reader, None, limits.elements)?,
                at_elem: false,
            },
        };
        let depth = self.depth.saturating_add(self.stack.len());
        deeper(depth, limits.depth)?;
        self.stack.push(frame);
        Ok(())
    }

    /// Goes on as far as the messages reach.
    pub(crate) fn run(
        &mut self,
        reader: &mut Reader<'_>,
        types: &mut impl Types,
    ) -> Result<Progress, DecodeError> {
        loop {
            let outermost = self.depth == 0 && self.stack.len() == 1;
            let Some(frame) = self.stack.last_mut() else {
                return Ok(Progress::Done);
            };
            let part = match frame {
                Frame::Struct { node, at } => {
                    let Shape::Struct(fields) = types.registry().shape(*node)? else {
                        return Ok(Progress::Done);
                    };
                    read_field(reader, at, fields.len(), outermost)?
                        .and_then(|index| fields.get(index))
                        .map(|field| field.ty.node)
                }
                Frame::List { elem, left } => match left.checked_sub(1) {
                    Some(rest) => {
                        *left = rest;
                        Some(*elem)
                    }
                    None => None,
                },
                Frame::Map {
                    elem,
                    at_elem: at_elem @ true,
                    ..
                } => {
                    *at_elem = false;
                    Some(*elem)
                }
                Frame::Map {
                    key, left, at_elem, ..
                } => match left.checked_sub(1) {
                    Some(rest) => {
                        *left = rest;
                        *at_elem = true;
                        Some(*key)
                    }
                    None => None,
                },
                Frame::Concrete => None,
                Frame::Interface { next_message } => {
                    if *next_message {
                        let limit = types.registry().limits().message_bytes;
                        match next_message_within(reader, self.taken, limit)? {
                            None => return Ok(Progress::NeedMessage),
                            Some(length) => self.taken = self.taken.saturating_add(length),
                        }
                        *next_message = false;
                    }
                    let id = reader.int("an interface")?;
                    if id < 0 {
                        types.define(reader, id.saturating_neg())?;
                        if reader.remaining() > 0 {
                            reader.uint("an interface")?;
                        } else {
                            *next_message = true;
                        }
                        continue;
                    }
                    *frame = Frame::Concrete;
                    let node = types.concrete(id)?;
                    begin_concrete(reader, types.registry().shape(node)?)?;
                    Some(node)
                }
            };
            match part {
                Some(node) => self.start(node, reader, types)?,
                None => drop(self.stack.pop()),
            }
        }
    }

    fn count(
        &mut self,
        reader: &mut Reader<'_>,
        array: Option<usize>,
        limit: usize,
    ) -> Result<usize, DecodeError> {
        read_count(reader, array, self.spans, limit, &mut self.elements_left)
    }
}

/// Steps to the next message; the messages of a value share one limit.
fn next_message_within(
    reader: &mut Reader<'_>,
    taken: usize,
    limit: usize,
) -> Result<Option<usize>, DecodeError> {
    reader
        .next_message(limit.saturating_sub(taken))
        .map_err(|error| match error {
            DecodeError::MessageTooLarge { length, .. } => {
                let length = length.saturating_add(crate::wire::len_u64(taken));
                DecodeError::MessageTooLarge { length, limit }
            }
            other => other,
        })
}
