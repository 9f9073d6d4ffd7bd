//! The plan of one jail: every decision already taken, as one flat structure.
//!
//! Shape, all integers little endian: magic, [`VERSION`] and total length (`u32` each), then
//! records of tag (`u16`), zero (`u16`), length of the payload (`u32`) and payload. Texts end with
//! a zero byte. The launcher writes it into a sealed memory file; the reaper maps that.
//!
//! Reading allocates nothing, and a plan that was accepted holds no malformed record.

mod landlock;
mod read;
mod settings;

pub use landlock::{Landlock, Rule};
pub use read::{Limit, Listener, Operation, Plan, PlanError};
pub use settings::{Fault, Identities, Settings, Wish};

/// First bytes of a plan: `PFPL`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"PFPL");

/// Version of this format. Launcher and reaper are built together: no other is accepted.
pub const VERSION: u32 = 7;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 12;

/// Largest plan: a filter of 4,096 instructions, the generated files, arguments and variables.
pub const LIMIT_BYTES: usize = 512 * 1024;

/// Most arguments, the program's name included.
pub const ARGUMENTS_LIMIT: usize = 256;

/// Most environment variables.
pub const VARIABLES_LIMIT: usize = 512;

/// Most mount handles of one plan: the reaper's own limit on descriptors leaves room for them.
pub const MOUNTS_LIMIT: u32 = 64;

/// Most control groups that are entered by hand: one for each v1 hierarchy.
pub const TASKS_LIMIT: u32 = 16;

/// Most listeners that are made in a jail's network.
pub const LISTENERS_LIMIT: usize = 4;

/// Processors that a plan can name: as many as there are places in the set of sched_setaffinity(2).
pub const PROCESSORS_LIMIT: u16 = 1024;

/// Descriptors of the reaper at its start; 0 to 2 are `/dev/null`.
pub mod descriptor {
    /// The plan.
    pub const PLAN: i32 = 3;
    /// The status channel.
    pub const STATUS: i32 = 4;
    /// Reading end of the pipe whose end means that the launcher is gone.
    pub const LIFE: i32 = 5;
    /// Writing end of the plugin's standard output.
    pub const STDOUT: i32 = 6;
    /// Writing end of the plugin's standard error.
    pub const STDERR: i32 = 7;
    /// The first of the `tasks` files of control groups; the mount handles follow them, and the
    /// network namespace where one is given.
    pub const FIRST_TASKS: i32 = 8;
}

/// Numbers of resources, as in getrlimit(2); the same on all architectures that are built for.
pub mod resource {
    /// Largest file written.
    pub const FILE_SIZE: u32 = 1;
    /// Stack of the first thread.
    pub const STACK: u32 = 3;
    /// Core dump.
    pub const CORE: u32 = 4;
    /// Processes and threads of the user id.
    pub const PROCESSES: u32 = 6;
    /// Open files.
    pub const FILES: u32 = 7;
    /// Locked memory.
    pub const LOCKED_MEMORY: u32 = 8;
    /// File locks.
    pub const LOCKS: u32 = 10;
    /// Pending signals, POSIX timers included.
    pub const PENDING_SIGNALS: u32 = 11;
    /// Bytes in POSIX message queues.
    pub const MESSAGE_QUEUES: u32 = 12;
    /// Ceiling of the nice value.
    pub const NICE: u32 = 13;
    /// Ceiling of the real-time priority.
    pub const REAL_TIME_PRIORITY: u32 = 14;
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Tag {
    /// [`Settings`]; the first record.
    Settings = 1,
    /// Number of a resource (`u32`), zero (`u32`), limit (`u64`).
    Limit = 2,
    /// Mode (`u32`), path.
    Directory = 3,
    /// Mode (`u32`), length of the path with its zero byte (`u32`), path, content.
    File = 4,
    /// Path, target.
    Link = 5,
    /// Size in bytes (`u64`), inodes (`u32`), mode (`u32`), path.
    Tmpfs = 6,
    /// Number of the mount handle (`u32`), path.
    Mount = 7,
    /// One argument of the program, its name first.
    Argument = 8,
    /// One variable, `NAME=value`.
    Variable = 9,
    /// Host name.
    HostName = 10,
    /// Absolute path of the working directory.
    WorkingDirectory = 11,
    /// Absolute path of the program.
    Entry = 12,
    /// Instructions of the system call filter, eight bytes each.
    Filter = 13,
    /// [`Landlock`]: what file access the plugin and its reaper keep.
    Landlock = 14,
    /// Rights (`u64`), absolute path: one [`Rule`] of the plugin's.
    LandlockRule = 15,
    /// Number (`u8`), zero (`u8`), TCP port on 127.0.0.1 (`u16`).
    Listener = 16,
    /// Number of a processor (`u16`), zero (`u16`): one of those that the jail may run on.
    Processor = 17,
}

impl Tag {
    /// The tag with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Settings,
            2 => Self::Limit,
            3 => Self::Directory,
            4 => Self::File,
            5 => Self::Link,
            6 => Self::Tmpfs,
            7 => Self::Mount,
            8 => Self::Argument,
            9 => Self::Variable,
            10 => Self::HostName,
            11 => Self::WorkingDirectory,
            12 => Self::Entry,
            13 => Self::Filter,
            14 => Self::Landlock,
            15 => Self::LandlockRule,
            16 => Self::Listener,
            17 => Self::Processor,
            _ => return None,
        })
    }
}
