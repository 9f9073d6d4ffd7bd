//! Go's encoding/gob for Rust, on serde, safe on hostile input.
//!
//! gob is the stream format of Go's standard library, and so of net/rpc and of HashiCorp
//! go-plugin. A stream carries values and, before the first value of each type, the definition
//! of that type. This crate reads and writes such streams, as bytes in and bytes out: it does no
//! I/O and knows nothing of net/rpc.
//!
//! * [`Decoder`] takes bytes as they arrive and gives values: into any serde type, or as a
//!   [`Value`] whose type only the stream tells. What a peer can make it hold is bounded by
//!   [`Limits`].
//! * [`Encoder`] appends values to a buffer. serde does not tell it Go's types (the elements of an
//!   empty list, the name of a struct), so that it takes a [`Schema`], made once from a [`Type`]
//!   or a Rust type that is a [`GobType`].
//!
//! ```
//! use pinfold_gob::{Decoder, Encoder, Limits, Schema, gob_struct};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
//! #[serde(rename_all = "PascalCase", default)]
//! struct Request {
//!     service_method: String,
//!     seq: u64,
//! }
//!
//! gob_struct!(Request as "Request" { "ServiceMethod": String, "Seq": u64 });
//!
//! let schema = Schema::of::<Request>();
//! let request = Request { service_method: "Plugin.Call".into(), seq: 1 };
//! let mut stream = Vec::new();
//! Encoder::new().encode(&schema, &request, &mut stream)?;
//!
//! let mut decoder = Decoder::new(Limits::default());
//! decoder.push(&stream[..20]);
//! assert_eq!(decoder.decode::<Request>()?, None); // needs more
//! decoder.push(&stream[20..]);
//! assert_eq!(decoder.decode()?, Some(request));
//! assert!(decoder.is_clean_end());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What goes with what
//!
//! | Go | Rust |
//! |---|---|
//! | `bool`; `int` and `uint` of any width; `float32`, `float64` | `bool`; `i8` to `i64`; `u8` to `u64`; `f32`, `f64`: widths are free, what does not fit is an error |
//! | `string` | `String`, or [`GoString`] where it may not be UTF-8 |
//! | `[]byte` | with `serde_bytes`; also `Vec<u8>`, slower |
//! | `[]T`, `[N]T`, `map[K]V` | `Vec<T>`, `[T; N]` or a tuple, any map |
//! | struct | struct with Go's field names: `#[serde(rename_all = "PascalCase")]` or `rename` |
//! | pointer | `Option<T>`, or `T` |
//! | complex numbers | `(f64, f64)` |
//! | `time.Time`, `url.URL` and others that marshal themselves | [`GobEncoded`], [`BinaryMarshalled`] |
//! | interface | `()` and `None` for nil; else [`Value`], or a type that takes anything, such as `serde_json::Value` |
//! | `struct{}` | [`Empty`], `()` or any unit struct |
//! | anything | [`Nothing`], which passes over it |
//!
//! Kinds must agree, as in Go: an int does not decode into `u64`, a string not into bytes, an
//! array not into a `Vec`, a struct not into a map. Enums have no counterpart,
//! and `#[serde(flatten)]` does not work.
//!
//! Go does not send struct fields that are zero. **Put `#[serde(default)]` on structs**, so that
//! they come out as zero again. Fields that the sender has and the destination lacks are passed
//! over; if both have fields and none in common, that is an error.
//!
//! # Where this differs from Go
//!
//! * A field's type is checked when the field is sent, not when its type is defined.
//! * There is no registry of names of concrete types: an [`Interface`] has its name, whatever it
//!   is, with the type as it came, and can be sent on.
//! * Types of values in interfaces are defined before the value, not in its midst, which keeps a
//!   value in one message. Go reads that. Both forms are decoded.
//! * Any interface can be passed over. Go's decoder fails on some that Go's encoder writes.
//! * A message of length zero is an error, not the end of the stream.
//! * Only the outermost struct of a message may lack its terminator.
//! * A nil map and an empty one are told apart as in Go: `None`, or an absent field of a
//!   [`Value::Struct`], is nil; an empty Rust map is sent, and arrives as one that can be written.
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
