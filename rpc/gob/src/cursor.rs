//! Position in a value that is wholly buffered.

use crate::definition::{Definition, Fields};
use crate::error::DecodeError;
use crate::graph::{Field, NodeRef, Shape};
use crate::registry::{Registry, Resolved};
use crate::scan::{Known, Progress, Scan};
use crate::wire::Reader;

/// Longest name of a concrete type, in bytes. Go's limit.
pub(crate) const LONGEST_NAME: u64 = 1024;

/// Reads the parts of one value, within the limits of its stream.
#[derive(Debug)]
pub(crate) struct Cursor<'de> {
    reader: Reader<'de>,
    registry: &'de Registry,
    /// Whether the value may go on in following messages.
    spans: bool,
    depth: usize,
    elements_left: usize,
}

impl<'de> Cursor<'de> {
    pub(crate) fn new(reader: Reader<'de>, registry: &'de Registry, ty: Resolved) -> Self {
        let elements_left = registry.limits().elements;
        Self {
            reader,
            registry,
            spans: ty.interfaces,
            depth: 0,
            elements_left,
        }
    }

    pub(crate) fn reader(&mut self) -> &mut Reader<'de> {
        &mut self.reader
    }

    pub(crate) fn registry(&self) -> &'de Registry {
        self.registry
    }

    #[inline]
    pub(crate) fn shape(&self, node: NodeRef) -> Result<&'de Shape, DecodeError> {
        self.registry.shape(node)
    }

    /// How many structs, lists, maps and interfaces this is inside of.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Goes into a struct, list, map or interface.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), DecodeError> {
        self.depth = deeper(self.depth, self.registry.limits().depth)?;
        Ok(())
    }

    /// Comes out of what [`Cursor::enter`] went into.
    #[inline]
    pub(crate) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Reads the number of elements of a list or map.
    pub(crate) fn count(&mut self, array: Option<usize>) -> Result<usize, DecodeError> {
        let limit = self.registry.limits().elements;
        read_count(
            &mut self.reader,
            array,
            self.spans,
            limit,
            &mut self.elements_left,
        )
    }

    /// How many elements to set memory aside for: each takes a byte at least.
    pub(crate) fn reservation(&self, count: usize) -> usize {
        count.min(self.reader.remaining())
    }

    /// Counts something against the limit on elements.
    pub(crate) fn charge_element(&mut self) -> Result<(), DecodeError> {
        let limit = self.registry.limits().elements;
        let left = self.elements_left.checked_sub(1);
        self.elements_left = left.ok_or(DecodeError::TooManyElements { limit })?;
        Ok(())
    }

    /// Index of the next field that was sent, or `None` at the end of the struct.
    #[inline]
    pub(crate) fn next_field(
        &mut self,
        at: &mut Fields,
        fields: &[Field],
        outermost: bool,
    ) -> Result<Option<usize>, DecodeError> {
        read_field(&mut self.reader, at, fields.len(), outermost)
    }

    /// Passes over a value.
    pub(crate) fn skip(&mut self, node: NodeRef) -> Result<(), DecodeError> {
        let mut scan = Scan::within(self.depth, self.elements_left, self.spans);
        let mut types = Known(self.registry);
        scan.start(node, &mut self.reader, &types)?;
        match scan.run(&mut self.reader, &mut types)? {
            Progress::Done => {
                self.elements_left = scan.elements_left();
                Ok(())
            }
            // The whole value is buffered, so that its messages cannot run out.
            Progress::NeedMessage => Err(DecodeError::UnexpectedEnd {
                reading: "an interface",
            }),
        }
    }

    /// Reads an interface up to its value: name and type of what is in it, `None` for nil.
    pub(crate) fn concrete(&mut self) -> Result<Option<(&'de str, NodeRef)>, DecodeError> {
        let Some(name) = read_name(&mut self.reader)? else {
            return Ok(None);
        };
        let id = loop {
            let id = self.reader.int("an interface")?;
            if id >= 0 {
                break id;
            }
            // Taken in when the value was scanned.
            Definition::read(
                &mut self.reader,
                id.saturating_neg(),
                self.registry.limits(),
            )?;
            if self.reader.remaining() > 0 {
                self.reader.uint("an interface")?;
            } else if self.reader.next_message(usize::MAX)?.is_none() {
                return Err(DecodeError::UnexpectedEnd {
                    reading: "an interface",
                });
            }
        };
        let node = self.registry.find(id)?;
        let shape = self.shape(node)?;
        begin_concrete(&mut self.reader, shape)?;
        Ok(Some((name, node)))
    }
}

/// The depth inside of something at `depth`.
pub(crate) fn deeper(depth: usize, limit: usize) -> Result<usize, DecodeError> {
    if depth < limit {
        Ok(depth.saturating_add(1))
    } else {
        Err(DecodeError::TooDeep { limit })
    }
}

/// Reads and checks a count of elements. Each takes a byte at least, but those that hold
/// interfaces may come in a message that is not there yet.
pub(crate) fn read_count(
    reader: &mut Reader<'_>,
    array: Option<usize>,
    spans: bool,
    limit: usize,
    left: &mut usize,
) -> Result<usize, DecodeError> {
    let announced = reader.uint("a count of elements")?;
    if let Some(length) = array
        && usize::try_from(announced) != Ok(length)
    {
        return Err(DecodeError::ArrayLength {
            count: announced,
            length,
        });
    }
    let over = DecodeError::TooManyElements { limit };
    let available = reader.remaining();
    match usize::try_from(announced) {
        Ok(count) if spans || count <= available => {
            *left = left.checked_sub(count).ok_or(over)?;
            Ok(count)
        }
        _ if spans => Err(over),
        _ => Err(DecodeError::CountExceedsInput {
            count: announced,
            available,
        }),
    }
}

/// Index of the next field that was sent, or `None` at the end of the struct.
///
/// The outermost struct may lack its terminator at the end of the message, as in Go. Further in
/// it may not, or elements could take no bytes at all.
#[inline]
pub(crate) fn read_field(
    reader: &mut Reader<'_>,
    at: &mut Fields,
    count: usize,
    outermost: bool,
) -> Result<Option<usize>, DecodeError> {
    if outermost && reader.remaining() == 0 {
        return Ok(None);
    }
    at.next_terminated(reader, count)
}

/// Reads the name of a concrete type; `None` for the nil interface.
pub(crate) fn read_name<'de>(reader: &mut Reader<'de>) -> Result<Option<&'de str>, DecodeError> {
    let length = reader.uint("an interface")?;
    if length == 0 {
        return Ok(None);
    }
    if length > LONGEST_NAME {
        return Err(DecodeError::BadInterfaceName { length });
    }
    let name = reader.take(length, "the name of a concrete type")?;
    let name = std::str::from_utf8(name).map_err(|_| DecodeError::BadInterfaceName { length })?;
    Ok(Some(name))
}

/// Reads what stands between the id of a concrete type and its value: a byte count that Go does
/// not check either, and a zero in front of what is no struct.
pub(crate) fn begin_concrete(reader: &mut Reader<'_>, shape: &Shape) -> Result<(), DecodeError> {
    reader.uint("an interface")?;
    begin_value(reader, shape)
}

/// Reads the zero in front of a value that stands alone and is no struct.
pub(crate) fn begin_value(reader: &mut Reader<'_>, shape: &Shape) -> Result<(), DecodeError> {
    if matches!(shape, Shape::Struct(_)) {
        return Ok(());
    }
    match reader.uint("a value")? {
        0 => Ok(()),
        delta => Err(DecodeError::NotASingleton { delta }),
    }
}
