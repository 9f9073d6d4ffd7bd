//! Rust types for Go values that marshal themselves.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::kind::Marshaler;

macro_rules! marshalled {
    ($name:ident $how:ident $doc:literal) => {
        #[doc = $doc]
        ///
        /// It decodes only from a value that was marshalled in this way, as in Go. Encoded, it is
        /// always sent, also as a struct field: use `Option` for what is not to be sent.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub Vec<u8>);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_newtype_struct(Marshaler::$how.token(), &Raw(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let token = Marshaler::$how.token();
                deserializer
                    .deserialize_newtype_struct(token, Bytes)
                    .map(Self)
            }
        }
    };
}

marshalled!(GobEncoded Gob "Bytes made by `GobEncode`: `time.Time`, `big.Int`.");
marshalled!(BinaryMarshalled Binary "Bytes made by `MarshalBinary`: `url.URL`, `netip.Addr`.");

impl Marshaler {
    /// Name of a newtype struct by which the types above make themselves known to this crate.
    fn token(self) -> &'static str {
        match self {
            Self::Gob => "pinfold_gob::GobEncoded",
            Self::Binary => "pinfold_gob::BinaryMarshalled",
            Self::Text => "pinfold_gob::TextMarshalled",
        }
    }

    /// The marshaler whose bytes the newtype struct of that name holds.
    pub(crate) fn of_newtype(name: &str) -> Option<Self> {
        [Self::Gob, Self::Binary]
            .into_iter()
            .find(|how| how.token() == name)
    }
}

struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes of a self-marshalling type")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}
