//! The launcher: the privileged, single-threaded process that stages plugins, starts each in a jail
//! and watches it; and the client with which a daemon speaks to it.
//!
//! It parses no foreign manifest, speaks no network protocol and has no async runtime. What a jail
//! is comes from root-owned files that the launcher reads itself; a request only names a plugin,
//! a generation and a staged digest.
//!
//! Main types: [`client::Client`] and [`protocol::Request`] for the daemon, [`posture::Posture`]
//! for what is in force here, [`seccomp::Profile`] and [`cgroup::Leaf`] for two of the walls.
#![deny(unsafe_code)]

pub mod activation;
pub mod cgroup;
pub mod client;
pub mod heap;
pub mod jail;
pub mod launcher;
mod plan;
pub mod posture;
pub mod protocol;
pub mod quota;
pub mod seccomp;
#[cfg(test)]
#[path = "../tests/abilities/skip.rs"]
mod skip;
pub mod stage;
#[allow(
    unsafe_code,
    reason = "the calls that have no safe form are all in there"
)]
mod sys;
pub mod trust;
pub mod uids;
