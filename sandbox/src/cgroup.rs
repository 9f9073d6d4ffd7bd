//! Control groups: one parent group for each launcher, one leaf for each jail, on whatever mix of
//! versions 1 and 2 the machine has.
//!
//! [`Hierarchy::discover`] finds, per controller, where limits can be set: on v2 where the
//! launcher's own group offers the controller, else on v1 where it is mounted, else nowhere. On a
//! hybrid machine v1 carries the limits and the unified tree, without controllers, still carries
//! *life*: birth into the group, killing it whole, and the event that it is empty.
//!
//! [`Parent::create`] makes this launcher's group under a lock; [`sweep`] clears what launchers
//! left behind whose lock nobody holds. [`Parent::leaf`] makes a jail's group and sets its limits
//! before anybody enters. Nothing here ever moves another task: on v1 that waits for a grace
//! period of the kernel. Tasks enter by themselves through [`EnterFiles`], or are born inside.
//!
//! What could not be had is not an error here but an [`Applied`] with its reason; whether the
//! launch goes on without it is the policy's to say. See cgroups(7), and the kernel's cgroup-v1
//! and cgroup-v2 documents.
//!
//! ```text
//! <the launcher's group>/pinfold-<16 hex digits>/<leaf>                 v1, each controller
//! <the launcher's group>/pinfold-<16 hex digits>/{launcher,jails/<leaf>}  unified tree
//! ```

mod applied;
mod clear;
mod delegation;
mod devices;
mod dir;
mod error;
mod freeze;
mod hierarchy;
mod io;
mod leaf;
mod lock;
mod parent;
mod stats;
mod swap;
mod sweep;
mod v1;
mod v2;
mod watch;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod real;

pub use applied::{Applied, How, Limits, Reason, State};
pub use devices::JAIL_DEVICES;
pub use error::CgroupError;
pub use hierarchy::{Controller, Hierarchy, Place, ProcPaths};
pub use io::{Disk, IoLimits};
pub use leaf::{EnterFiles, Killed, Leaf, Removal};
pub use parent::Parent;
pub use stats::Stats;
pub use sweep::{Sweep, Swept, sweep};
pub use watch::{Interest, Watch, WatchKind};
