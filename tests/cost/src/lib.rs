//! What the hot paths cost: fixed work-loads, timed by criterion and counted in instructions.
//!
//! A [`WorkLoad`] is one small piece of what Pinfold does for every call, always the same: no
//! socket, no other thread, no random number of ours. `cargo bench -p pinfold-cost` times each.
//! Times are noisy where others use the machine too; instructions are not. The program `cost` runs
//! each work-load under valgrind's callgrind and compares the [`counts`](count) with a
//! [`Baseline`](baseline::Baseline) that is committed beside the code.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod count;
pub mod work_load;

mod gob;
mod messages;
mod netrpc;
mod routing;
mod runtime;
mod sql;
mod yamux;

pub use work_load::WorkLoad;
