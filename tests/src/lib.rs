//! What needs more than one crate: interop, jail, end to end, benches.
#![forbid(unsafe_code)]
