//! Go's encoding/gob for Rust, on serde, safe on hostile input.
#![forbid(unsafe_code)]
