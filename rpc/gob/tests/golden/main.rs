//! Every recorded vector of Go's encoding/gob, both ways, with both bases of type ids.
//!
//! The vectors in `tests/vectors` describe what was given to Go's encoder and the bytes it wrote,
//! and bytes with what Go's decoder made of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test asserts by panicking"
)]

mod decode;
mod destination;
mod encode;
mod source;
mod vectors;
