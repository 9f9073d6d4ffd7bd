//! Jails started for real, looked at from outside and from inside. They need root; what a launcher
//! of a user can do is tested from an unprivileged user id.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what helps a test may do what a test may"
)]

#[path = "abilities/patience.rs"]
mod patience;
#[path = "abilities/skip.rs"]
mod skip;

mod jail {
    pub(crate) mod ability;
    mod death;
    mod faults;
    mod forbidden;
    mod groups;
    pub(crate) mod harness;
    mod layers;
    mod lesser_kernels;
    mod mounts;
    mod options;
    mod seen_inside;
    mod seen_outside;
    mod user_mode;
    mod whole_proc;
}
