//! Stand-ins for values that do not matter.

use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::schema::{GobType, Type};

/// Decodes from anything, by passing over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_ignored_any(IgnoredAny)
            .map(|_| Self)
    }
}

/// Go's `struct{}`: what net/rpc sends for the body beside an error. Decodes from any struct.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Empty;

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_struct("", 0)?.end()
    }
}

impl GobType for Empty {
    fn gob_type() -> Type {
        Type::structure("", [] as [(&str, Type); 0])
    }
}
