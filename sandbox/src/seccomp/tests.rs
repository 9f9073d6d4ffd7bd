//! Tests of profiles and filters: the shipped profiles against an independent compiler, random
//! profiles against their plain reading, refusals, and the kernel.

mod default;
mod kernel;
mod linear;
mod oracle;
mod own;
mod page;
mod refusals;
mod shipped;
