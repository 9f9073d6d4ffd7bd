//! One jail: from a [`JailSpec`], in which every decision is taken, to a running plugin and the
//! handles that hold it.
//!
//! [`start`] makes the mounts and channels, writes the plan, and starts the reaper in new
//! namespaces; it never waits for the jail. [`Starting::on_readable`] takes in what the reaper says
//! until the plugin's program has been executed and a [`Jail`] is there, which [`Jail::look`] then
//! checks from outside. The end of the launcher, of the [`Reaper`] handle, or of the plugin's main
//! process is the end of everything in the jail.
//!
//! ```text
//! launcher: P5 run directory, P6 mount handles, P7 channels and plan, P8 clone3 + execveat
//!   reaper: R1 to R14 set-up, R15 fork, R16 give up every right, R17 reap
//!     plugin stage: C1 to C11, C12 execve
//! launcher: P9 status, P10 look
//! ```

mod at_rest;
mod channels;
pub(crate) mod core_dumps;
mod error;
mod host_files;
mod host_mount;
mod interpreters;
mod landlock;
mod layout;
mod look;
mod mounts;
mod reaper;
mod running;
mod runtime;
mod start;
mod starting;
mod whole_proc;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pinfold_policy::{InstanceId, Limits, PluginId, Wanted};
use pinfold_reaper::plan::descriptor;

pub use at_rest::{Seen, seen_at_rest};
pub use error::JailError;
pub(crate) use host_files::{descriptor as host_files_descriptor, read as read_host_files};
pub use host_mount::HostMount;
pub use interpreters::of as interpreters_of;
pub use landlock::{FileAccess, FilePlaces, MountPlace, landlock_abi, place_of_access};
pub(crate) use landlock::{
    NEWEST as NEWEST_LANDLOCK, handled as landlock_handled, lacks as landlock_lacks,
};
pub use layout::SHARED_MEMORY_BYTES;
pub use pinfold_reaper::plan::Fault;
pub use pinfold_reaper::step::Step;
pub(crate) use reaper::reaper_program;
pub use reaper::{Reaper, sealed_reaper};
pub use running::Jail;
pub(crate) use runtime::loader_link;
pub use runtime::{Runtime, RuntimeMount};
pub use start::{start, start_with_fault};
pub use starting::{Progress, Starting};
pub use whole_proc::{MASKED_PROC, masked_proc};

pub use crate::sys::notify::{Heard, Stopped};

/// Where the stage is, inside.
pub const STAGE_DIRECTORY: &str = "/plugin";
/// The directory for the plugin's sockets, inside.
pub const RUN_DIRECTORY: &str = "/run/plugin";
/// The directory that lasts, inside.
pub const STATE_DIRECTORY: &str = "/state";

/// Arguments of the one call, sendmsg(2), that a plugin's process makes between installing its filter
/// and executing: status channel, some address, `MSG_NOSIGNAL`.
pub(crate) fn hand_over() -> [u64; 6] {
    let status = u64::from(descriptor::STATUS.unsigned_abs());
    [status, 0x1000, 0x4000, 0, 0, 0]
}

/// User and group id that a plugin of a launcher without root has in its own user namespace.
pub const USER_MODE_ID: u32 = 1000;

/// Everything about a jail.
#[derive(Debug)]
pub struct JailSpec {
    /// The plugin; also the jail's host name.
    pub plugin: PluginId,
    /// The instance, for logs.
    pub instance: InstanceId,
    /// The root of the read-only stage: a mount that is attached nowhere (Linux 6.15 and later) or
    /// a directory. Each launch makes a mount of its own of it.
    pub stage: OwnedFd,
    /// The program, relative to the stage.
    pub entry: String,
    /// Whether it may execute the other files of its stage too.
    pub executes_stage: bool,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// What of the host it runs on.
    pub runtime: Option<Runtime>,
    /// What of the host it is shown beside that.
    pub mounts: Vec<HostMount>,
    /// Its environment, all of it.
    pub env: BTreeMap<String, String>,
    /// Absolute path of its working directory, made read-only in the root.
    pub working_directory: String,
    /// Absolute path of a directory of its own in memory, mode 0700. `/tmp` itself is allowed.
    pub tmp_directory: String,
    /// Symbolic links in the root: absolute path, target.
    pub links: Vec<(String, String)>,
    /// The directory that becomes [`STATE_DIRECTORY`].
    pub state: Option<OwnedFd>,
    /// Ids.
    pub ids: Ids,
    /// Limits; memory and CPU are the group's and not looked at here.
    pub limits: Limits,
    /// The system call filter: an array of `struct sock_filter` in the machine's byte order.
    pub filter: Vec<u8>,
    /// Whether the filter is one of [`crate::seccomp::Program::notifying`]: the calls that it stops
    /// are then told by [`Jail::heard`].
    pub filter_listener: bool,
    /// The control groups, with their limits already set.
    pub groups: GroupFds,
    /// A network namespace of which nobody else knows, with loopback up and nothing else; the jail
    /// makes its own where there is none.
    pub network: Option<OwnedFd>,
    /// Whether that network's loopback is up. Without it there must be no `network` and no listeners,
    /// and the filter should refuse sockets for IP
    /// ([`crate::seccomp::Profile::refuse_internet`]).
    pub loopback: bool,
    /// TCP ports at 127.0.0.1 of the jail's network, none zero, on which sockets listen before the
    /// plugin runs: at most [`pinfold_reaper::plan::LISTENERS_LIMIT`].
    pub listeners: Vec<u16>,
    /// The user namespace of the plugin; for [`Ids::User`] always made.
    pub user_namespace: Wanted,
    /// File access confined by path, as far as the kernel can.
    pub landlock: Wanted,
    /// Memory that is never writable and executable.
    pub write_xor_execute: Wanted,
    /// Clocks that begin when the plugin does; needs the user namespace.
    pub time_namespace: Wanted,
    /// No other process on the same processor core at the same time.
    pub core_scheduling: Wanted,
    /// `/proc`.
    pub proc: Wanted,
    /// Whether that is the whole of it, with [`MASKED_PROC`] masked; else the plugin's own processes.
    pub whole_proc: bool,
    /// The ban on executing anonymous memory files.
    pub memfd_noexec: Wanted,
    /// Time for the set-up.
    pub deadline: Duration,
}

/// Under which ids a jail runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The launcher is root: a user and group id for each of the two.
    Root {
        /// The plugin's.
        plugin: u32,
        /// The reaper's.
        reaper: u32,
    },
    /// The launcher is a user who is root inside a user namespace with one id.
    User,
}

/// How a jail gets into its control groups.
#[derive(Debug, Default)]
pub struct GroupFds {
    /// The `tasks` files of v1 groups, open for writing; the reaper enters by itself.
    pub v1_tasks: Vec<OwnedFd>,
    /// Directory of the v2 group in which the reaper is born.
    pub v2_dir: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}
