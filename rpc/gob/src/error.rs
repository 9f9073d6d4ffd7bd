//! Why bytes could not be read, or a value not be written.

use std::fmt;

use crate::kind::Kind;

/// Where in a value something went wrong: a dotted path of Go field names.
///
/// Shows as `the value` at the top level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(String);

/// A path longer than this is cut: names come from the peer.
const LONGEST_PLACE: usize = 256;

impl Place {
    /// The dotted path, empty at the top level.
    pub fn path(&self) -> &str {
        &self.0
    }

    fn within(&mut self, segment: &str) {
        if self.0.len().saturating_add(segment.len()) > LONGEST_PLACE {
            return;
        }
        if self.0.is_empty() {
            segment.clone_into(&mut self.0);
        } else {
            self.0 = format!("{segment}.{}", self.0);
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("the value")
        } else {
            write!(f, "field {:?}", self.0)
        }
    }
}

/// Why input could not be decoded.
///
/// Whether the stream can go on afterwards is told by
/// [`Decoder::is_broken`](crate::Decoder::is_broken).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// An earlier error left the stream without a known position.
    #[error("an earlier error broke the stream")]
    Broken,
    /// A message of length zero, which Go takes for the end of the stream.
    #[error("message of length zero")]
    EmptyMessage,
    /// A message, or the messages of one value together, above the limit.
    #[error("message of {length} bytes exceeds the limit of {limit}")]
    MessageTooLarge {
        /// Announced length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A message ended inside something.
    #[error("message ends inside {reading}")]
    UnexpectedEnd {
        /// What was being read.
        reading: &'static str,
    },
    /// An integer announced in more than eight bytes.
    #[error("integer of {bytes} bytes")]
    IntegerTooWide {
        /// Announced width in bytes.
        bytes: usize,
    },
    /// A type definition for an id that belongs to the format.
    #[error("definition of reserved type {id}")]
    ReservedType {
        /// The id.
        id: i64,
    },
    /// A second definition of one id.
    #[error("second definition of type {id}")]
    DuplicateType {
        /// The id.
        id: i64,
    },
    /// A value that needs a type that was not defined before it.
    #[error("type {id} is not defined")]
    UndefinedType {
        /// The id.
        id: i64,
    },
    /// A type definition that says nothing sensible.
    #[error("definition of type {id} is malformed: {reason}")]
    BadDefinition {
        /// The id.
        id: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More type definitions than the limit.
    #[error("more than {limit} type definitions")]
    TooManyTypes {
        /// The limit.
        limit: usize,
    },
    /// More bytes of type definitions than the limit.
    #[error("more than {limit} bytes of type definitions")]
    DefinitionsTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A struct type with more fields than the limit.
    #[error("struct type of {count} fields exceeds the limit of {limit}")]
    TooManyFields {
        /// Announced number of fields.
        count: u64,
        /// The limit.
        limit: usize,
    },
    /// A field number that the struct type does not have.
    #[error("field number out of bounds in a struct of {fields} fields")]
    FieldOutOfBounds {
        /// Number of fields of the type.
        fields: usize,
    },
    /// A value that is no struct lacks the zero byte in front.
    #[error("value of a type that is no struct begins with {delta} instead of zero")]
    NotASingleton {
        /// What was found.
        delta: u64,
    },
    /// More elements than there are bytes left.
    #[error("{count} elements announced in {available} bytes")]
    CountExceedsInput {
        /// Announced number of elements.
        count: u64,
        /// Bytes left in the message.
        available: usize,
    },
    /// More elements than the limit.
    #[error("value has more than {limit} elements")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// Nesting above the limit.
    #[error("value is nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// An array value of another length than its type.
    #[error("{count} elements in an array of {length}")]
    ArrayLength {
        /// Announced number of elements.
        count: u64,
        /// Length of the type.
        length: usize,
    },
    /// The name of an interface's concrete type is too long or not UTF-8.
    #[error("name of a concrete type, {length} bytes, is too long or not UTF-8")]
    BadInterfaceName {
        /// Length in bytes.
        length: u64,
    },
    /// The destination is of another kind than what was sent.
    #[error("{place}: {found} received, {wanted} wanted")]
    KindMismatch {
        /// Where.
        place: Place,
        /// What the destination takes.
        wanted: &'static str,
        /// What was sent.
        found: Kind,
    },
    /// A number that its destination cannot hold.
    #[error("{place}: number out of range of {wanted}")]
    OutOfRange {
        /// Where.
        place: Place,
        /// Type of the destination.
        wanted: &'static str,
    },
    /// A string that is not UTF-8, for a destination that must be.
    #[error("{place}: string is not UTF-8")]
    NotUtf8 {
        /// Where.
        place: Place,
    },
    /// An array of another length than the destination's.
    #[error("{place}: {found} elements received, {wanted} wanted")]
    LengthMismatch {
        /// Where.
        place: Place,
        /// Length of the destination.
        wanted: usize,
        /// Length received.
        found: usize,
    },
    /// Both struct types have fields, and none in common.
    #[error("{place}: struct has no field in common with {wanted}")]
    NoCommonField {
        /// Where.
        place: Place,
        /// Name of the destination type.
        wanted: &'static str,
    },
    /// A field that the destination requires was not sent.
    ///
    /// Go omits zero fields: put `#[serde(default)]` on the struct.
    #[error("{place}: field {field:?} was not sent")]
    MissingField {
        /// Where.
        place: Place,
        /// Name of the field.
        field: &'static str,
    },
    /// The destination took only part of the value.
    #[error("{place}: destination left elements unread")]
    Unread {
        /// Where.
        place: Place,
    },
    /// The destination's own check refused the value.
    #[error("{place}: refused: {reason}")]
    Refused {
        /// Where.
        place: Place,
        /// The destination's words.
        reason: String,
    },
}

impl DecodeError {
    /// This error, met inside the named field.
    pub(crate) fn within(mut self, segment: &str) -> Self {
        match &mut self {
            Self::KindMismatch { place, .. }
            | Self::OutOfRange { place, .. }
            | Self::NotUtf8 { place }
            | Self::LengthMismatch { place, .. }
            | Self::NoCommonField { place, .. }
            | Self::MissingField { place, .. }
            | Self::Unread { place }
            | Self::Refused { place, .. } => place.within(segment),
            _ => {}
        }
        self
    }

    pub(crate) fn mismatch(wanted: &'static str, found: Kind) -> Self {
        Self::KindMismatch {
            place: Place::default(),
            wanted,
            found,
        }
    }

    pub(crate) fn out_of_range(wanted: &'static str) -> Self {
        Self::OutOfRange {
            place: Place::default(),
            wanted,
        }
    }
}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Refused {
            place: Place::default(),
            reason: reason.to_string(),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::MissingField {
            place: Place::default(),
            field,
        }
    }
}

/// Why a value could not be encoded. Nothing of it was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value is of another kind than its schema.
    #[error("{place}: {found} given, schema has {wanted}")]
    KindMismatch {
        /// Where.
        place: Place,
        /// Kind in the schema.
        wanted: Kind,
        /// What was given.
        found: &'static str,
    },
    /// The value has a field that the schema lacks, or its fields come in another order.
    #[error("{place}: field {field:?} is not in the schema, or out of order")]
    UnknownField {
        /// Where.
        place: Place,
        /// Name of the field.
        field: String,
    },
    /// An array, or a list that announced its length, has another one.
    #[error("{place}: {found} elements given, {wanted} wanted")]
    LengthMismatch {
        /// Where.
        place: Place,
        /// Length of the schema, or the one announced.
        wanted: usize,
        /// Length given.
        found: usize,
    },
    /// No value in a place where Go has no nil: a list element, a map entry, the top level.
    #[error("{place}: nothing given where a value is needed")]
    NilElement {
        /// Where.
        place: Place,
    },
    /// A Rust shape that gob does not know.
    #[error("{place}: gob has no {found}")]
    Unsupported {
        /// Where.
        place: Place,
        /// The shape.
        found: &'static str,
    },
    /// The name of an interface's concrete type is empty or above 1024 bytes.
    #[error("{place}: name of a concrete type has {length} bytes")]
    BadInterfaceName {
        /// Where.
        place: Place,
        /// Length in bytes.
        length: usize,
    },
    /// Nesting above what Go's readers and ours take.
    #[error("value is nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A message longer than Go reads.
    #[error("message of {length} bytes is longer than the format allows")]
    MessageTooLarge {
        /// Length in bytes.
        length: usize,
    },
    /// The value's own `Serialize` failed.
    #[error("{place}: refused: {reason}")]
    Refused {
        /// Where.
        place: Place,
        /// The value's words.
        reason: String,
    },
}

impl EncodeError {
    /// This error, met inside the named field.
    pub(crate) fn within(mut self, segment: &str) -> Self {
        match &mut self {
            Self::KindMismatch { place, .. }
            | Self::UnknownField { place, .. }
            | Self::LengthMismatch { place, .. }
            | Self::NilElement { place }
            | Self::Unsupported { place, .. }
            | Self::BadInterfaceName { place, .. }
            | Self::Refused { place, .. } => place.within(segment),
            Self::TooDeep { .. } | Self::MessageTooLarge { .. } => {}
        }
        self
    }

    pub(crate) fn mismatch(wanted: Kind, found: &'static str) -> Self {
        Self::KindMismatch {
            place: Place::default(),
            wanted,
            found,
        }
    }

    pub(crate) fn length(wanted: usize, found: usize) -> Self {
        Self::LengthMismatch {
            place: Place::default(),
            wanted,
            found,
        }
    }

    pub(crate) fn unsupported(found: &'static str) -> Self {
        Self::Unsupported {
            place: Place::default(),
            found,
        }
    }
}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Refused {
            place: Place::default(),
            reason: reason.to_string(),
        }
    }
}
