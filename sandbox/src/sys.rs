//! The kernel calls for which neither rustix nor nix has a safe form. All `unsafe` of the crate is
//! here.

pub(crate) mod child;
pub(crate) mod clone;
pub(crate) mod core;
pub(crate) mod filter;
pub(crate) mod heap;
pub(crate) mod landlock;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod notify;
pub(crate) mod own;
pub(crate) mod quota;
pub(crate) mod slice;
pub(crate) mod socket;
