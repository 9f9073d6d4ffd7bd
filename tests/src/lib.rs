//! What tests of more than one crate share: finding out what this machine can do, the programs under
//! test, Go programs that we did not write the protocol of, directories that a dropped user can
//! reach, and waiting with a limit.
//!
//! It tests nothing itself; the tests are in `tests/it`.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start programs themselves: compilers, and the programs under test"
)]

pub mod bench;

mod ability;
mod binary;
mod go;
mod scratch;
mod tell;
mod wait;

pub use ability::require;
pub use binary::{binary, repository, target_dir};
pub use go::go_fixture;
pub use scratch::scratch;
pub use tell::tell;
pub use wait::{LIMIT, deadline, slowness, stretched, wait_for};
