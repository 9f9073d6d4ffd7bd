//! The tests of what needs more than one crate, in one program.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "clippy knows only functions marked as tests, and these call helpers"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start programs themselves: compilers, and the programs under test"
)]

mod bench;
mod docs;
mod e2e;
mod fixtures;
mod interop;
mod packaging;
mod workspace;
