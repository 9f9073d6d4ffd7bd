//! What needs more than one crate, in one program.
mod interop;
