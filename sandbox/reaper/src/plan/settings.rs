//! The fixed part of a plan.

use crate::step::Step;

/// How much an optional control is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Not set up.
    Off,
    /// Reported where it fails.
    Preferred,
    /// Ends the launch where it fails.
    Required,
}

/// Under which ids reaper and plugin run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identities {
    /// The launcher is root: a user and group id of its own for each.
    Root {
        /// The plugin's.
        plugin: u32,
        /// The reaper's.
        reaper: u32,
    },
    /// The launcher is a user inside its own user namespace: nobody changes ids, and the plugin
    /// goes into a user namespace of its own.
    User {
        /// The id, not zero, that the plugin has in there.
        inside: u32,
    },
}

/// A step that fails on purpose, before it does anything: how tests see each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The step.
    pub step: Step,
    /// The errno that it reports.
    pub errno: i32,
}

/// The fixed part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Ids of reaper and plugin.
    pub identities: Identities,
    /// Number of `tasks` descriptors to write to.
    pub tasks: u32,
    /// Number of mount handles.
    pub mounts: u32,
    /// Whether a network namespace is given, the descriptor after the mount handles, to be entered;
    /// else the reaper was started in one of its own.
    pub network: bool,
    /// Whether the network's loopback is up: the reaper's to do where no namespace is given.
    pub loopback: bool,
    /// Whether the reaper makes the cgroup namespace, after entering the groups of `tasks`.
    pub cgroup_namespace: bool,
    /// Limit on processes and threads of the plugin's user id.
    pub processes: u32,
    /// Value for `oom_score_adj`.
    pub oom_score_adj: i32,
    /// `/proc` for the plugin.
    pub proc: Wish,
    /// Whether that is all of it, with what is not [`crate::whole_proc::SHOWN`] masked.
    pub whole_proc: bool,
    /// The ban on executing anonymous memory files.
    pub memfd_noexec: Wish,
    /// A user namespace of the plugin's own. Where the launcher is a user there always is one.
    pub user_namespace: Wish,
    /// File access confined by path; what exactly is in the plan's [`super::Landlock`].
    pub landlock: Wish,
    /// Memory that was writable never becomes executable.
    pub write_xor_execute: Wish,
    /// Clocks that begin when the plugin does.
    pub time_namespace: Wish,
    /// No other process on the processor core at the same time.
    pub core_scheduling: Wish,
    /// Whether the filter has calls that stop and are told: its listener goes to the launcher.
    pub filter_listener: bool,
    /// A step that is to fail.
    pub fault: Option<Fault>,
}

const WORDS: usize = 13;

impl Settings {
    /// Bytes of the payload.
    pub const BYTES: usize = WORDS * 4;

    /// The payload.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let (mode, plugin, reaper) = match self.identities {
            Identities::Root { plugin, reaper } => (1, plugin, reaper),
            Identities::User { inside } => (2, inside, 0),
        };
        let (step, errno) = self
            .fault
            .map_or((0, 0), |fault| (fault.step.number(), fault.errno));
        let words: [[u8; 4]; WORDS] = [
            u32::to_le_bytes(mode),
            plugin.to_le_bytes(),
            reaper.to_le_bytes(),
            self.tasks.to_le_bytes(),
            self.mounts.to_le_bytes(),
            u32::from(self.cgroup_namespace).to_le_bytes(),
            self.processes.to_le_bytes(),
            self.oom_score_adj.to_le_bytes(),
            [
                wish_number(self.proc),
                wish_number(self.memfd_noexec),
                u8::from(self.network),
                u8::from(self.filter_listener),
            ],
            [
                wish_number(self.user_namespace),
                wish_number(self.landlock),
                wish_number(self.write_xor_execute),
                u8::from(self.loopback),
            ],
            [
                wish_number(self.time_namespace),
                wish_number(self.core_scheduling),
                u8::from(self.whole_proc),
                0,
            ],
            u32::from(step).to_le_bytes(),
            errno.to_le_bytes(),
        ];
        let mut bytes = [0; Self::BYTES];
        for (to, from) in bytes.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
        bytes
    }

    /// Reads the payload; `None` where a value is outside its range.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else {
            return None;
        };
        let words: &[[u8; 4]; WORDS] = words.try_into().ok()?;
        let [
            mode,
            plugin,
            reaper,
            tasks,
            mounts,
            cgroup,
            processes,
            oom,
            wishes,
            late_wishes,
            options,
            step,
            errno,
        ] = *words;
        let identities = match u32::from_le_bytes(mode) {
            1 => Identities::Root {
                plugin: u32::from_le_bytes(plugin),
                reaper: u32::from_le_bytes(reaper),
            },
            2 => Identities::User {
                inside: u32::from_le_bytes(plugin),
            },
            _ => return None,
        };
        let [proc, memfd_noexec, network, filter_listener] = wishes;
        let [user_namespace, landlock, write_xor_execute, loopback] = late_wishes;
        let [time_namespace, core_scheduling, whole_proc, _] = options;
        let fault = match u32::from_le_bytes(step) {
            0 => None,
            number => Some(Fault {
                step: Step::from_number(u8::try_from(number).ok()?)?,
                errno: i32::from_le_bytes(errno),
            }),
        };
        Some(Self {
            identities,
            tasks: u32::from_le_bytes(tasks),
            mounts: u32::from_le_bytes(mounts),
            network: flag(network)?,
            loopback: flag(loopback)?,
            cgroup_namespace: u32::from_le_bytes(cgroup) != 0,
            processes: u32::from_le_bytes(processes),
            oom_score_adj: i32::from_le_bytes(oom),
            proc: wish(proc)?,
            whole_proc: flag(whole_proc)?,
            memfd_noexec: wish(memfd_noexec)?,
            user_namespace: wish(user_namespace)?,
            landlock: wish(landlock)?,
            write_xor_execute: wish(write_xor_execute)?,
            time_namespace: wish(time_namespace)?,
            core_scheduling: wish(core_scheduling)?,
            filter_listener: flag(filter_listener)?,
            fault,
        })
    }
}

const fn flag(number: u8) -> Option<bool> {
    match number {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

const fn wish_number(wish: Wish) -> u8 {
    match wish {
        Wish::Off => 0,
        Wish::Preferred => 1,
        Wish::Required => 2,
    }
}

const fn wish(number: u8) -> Option<Wish> {
    match number {
        0 => Some(Wish::Off),
        1 => Some(Wish::Preferred),
        2 => Some(Wish::Required),
        _ => None,
    }
}
