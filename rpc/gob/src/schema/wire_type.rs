//! The type of a received value.

use super::Schema;
use crate::kind::Kind;

/// Type of a received value, as its sender defined it.
#[derive(Debug, Clone)]
pub struct WireType {
    schema: Schema,
}

impl WireType {
    /// Kind of the type.
    pub fn kind(&self) -> Kind {
        self.schema.kind()
    }

    /// Go's name of the type without package, as sent; often empty, and never binding.
    pub fn name(&self) -> &str {
        self.schema.name()
    }

    /// Names of a struct's fields in order; nothing for other kinds.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.schema.field_names()
    }

    /// Whether it is a struct with a field of that name.
    pub fn has_field(&self, name: &str) -> bool {
        self.field_names().any(|field| field == name)
    }

    /// The type in full. A decoded value can be encoded again with it.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

impl From<Schema> for WireType {
    fn from(schema: Schema) -> Self {
        Self { schema }
    }
}
