//! Go's encoding/gob for Rust, on serde, safe on hostile input.
#![forbid(unsafe_code)]
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

mod cursor;
mod de;
mod decode;
mod definition;
mod encode;
mod error;
mod graph;
mod kind;
mod limits;
mod nothing;
mod numbering;
mod opaque;
mod registry;
mod scan;
mod schema;
mod ser;
mod value;
mod wire;

pub use decode::Decoder;
pub use encode::{Encoder, FirstId};
pub use error::{DecodeError, EncodeError, Place};
pub use kind::{Kind, Marshaler};
pub use limits::Limits;
pub use nothing::{Empty, Nothing};
pub use opaque::{BinaryMarshalled, GobEncoded};
pub use schema::{GobType, Schema, SchemaError, Type, WireType};
pub use value::{GoString, Interface, Opaque, Value};
