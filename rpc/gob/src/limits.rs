//! What one stream may make its reader hold.

/// Limits on what a peer may make a [`Decoder`](crate::Decoder) hold or do.
///
/// Every limit is checked before memory is set aside for what it bounds. Going over one is an
/// error, never a truncation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest value, in bytes, summed over its messages if it spans several. It also bounds each
    /// single message. A longer one is passed over as it arrives, so that the stream goes on.
    pub message_bytes: usize,
    /// Deepest nesting of structs, lists, maps and interfaces in one value. Decoding recurses, and
    /// takes the stack for it: some hundreds are safe on any thread.
    pub depth: usize,
    /// Most elements of one value: list elements and map entries, and for dynamic values struct
    /// fields too.
    pub elements: usize,
    /// Most type definitions of one stream. Sending received types on recurses over types that
    /// refer to each other.
    pub types: usize,
    /// Most fields of one struct type.
    pub fields: usize,
    /// Most bytes of type definitions of one stream, together.
    pub definition_bytes: usize,
}

impl Default for Limits {
    /// 16 MiB for a value, depth 100, a million elements, 256 types of at most 256 fields, in
    /// definitions of 1 MiB together.
    fn default() -> Self {
        Self {
            message_bytes: 16 << 20,
            depth: 100,
            elements: 1_000_000,
            types: 256,
            fields: 256,
            definition_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// These limits with another bound on the bytes of one value.
    #[must_use]
    pub fn with_message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes = bytes;
        self
    }

    /// These limits with another bound on nesting.
    #[must_use]
    pub fn with_depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// These limits with another bound on the elements of one value.
    #[must_use]
    pub fn with_elements(mut self, elements: usize) -> Self {
        self.elements = elements;
        self
    }

    /// These limits with another bound on type definitions.
    #[must_use]
    pub fn with_types(mut self, types: usize) -> Self {
        self.types = types;
        self
    }

    /// These limits with another bound on the fields of a struct type.
    #[must_use]
    pub fn with_fields(mut self, fields: usize) -> Self {
        self.fields = fields;
        self
    }

    /// These limits with another bound on the bytes of all type definitions.
    #[must_use]
    pub fn with_definition_bytes(mut self, bytes: usize) -> Self {
        self.definition_bytes = bytes;
        self
    }
}
