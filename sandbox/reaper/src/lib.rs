//! Process 1 of a jail: what it is told, what it does, what it says.
//!
//! The launcher executes the program of this package as the first process of new namespaces. It
//! sets the jail up from a [`plan::Plan`], starts the plugin, gives up every right it has, and
//! reaps until the plugin ends. It takes no decision: all of them are in the plan. It has no
//! allocator, no standard library and no parser of text.
//!
//! With an argument the same program is what a [`trial`] launch runs in a jail.
//!
//! The launcher uses the library for what both sides must agree on: [`step::Step`], the plan's
//! format, and the [`message`]s on the status channel. Its tests compare the reaper's [`own_filter`].
#![cfg_attr(not(test), no_std)]

mod capabilities;
mod failure;
mod landlock;
pub mod message;
mod network;
pub mod own_filter;
pub mod plan;
mod procfs;
mod reap;
mod root;
mod setup;
mod stage;
pub mod step;
mod sys;
pub mod trial;
pub mod whole_proc;

pub use setup::run;
pub use sys::abort;
