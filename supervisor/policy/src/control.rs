//! The controls of the jail that a policy file speaks of, and how much it wants each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a control is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Where it cannot be had, the launch is refused with the control's name.
    Required,
    /// Where it cannot be had, the posture says so.
    Preferred,
    /// Not asked for.
    Off,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Off => "off",
        })
    }
}

macro_rules! controls {
    ($($variant:ident $id:literal $default:ident $about:literal;)*) => {
        /// One control of the jail. The text forms are stable: policy files, the posture, errors
        /// and the API use them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Control {
            $(#[doc = $about] #[serde(rename = $id)] $variant,)*
        }

        impl Control {
            /// Every control, in the order in which a posture lists them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable text form.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// One sentence about it.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }

            /// How much it is wanted where a policy file says nothing.
            #[must_use]
            pub const fn default_wanted(self) -> Wanted {
                match self { $(Self::$variant => Wanted::$default,)* }
            }
        }
    };
}

controls! {
    PidNamespace "pid-namespace" Required "Sees and signals its own processes alone.";
    MountNamespace "mount-namespace" Required "Has a mount table of its own.";
    NetworkNamespace "network-namespace" Required "Has loopback and no other network.";
    IpcNamespace "ipc-namespace" Required "Has System V and message queues of its own.";
    UtsNamespace "uts-namespace" Required "Has a host name of its own.";
    CgroupNamespace "cgroup-namespace" Required "Sees its own control group as the root.";
    Root "root" Required "Runs on a minimal read-only root; the host's is detached.";
    Proc "proc" Preferred "Sees in /proc its own processes and nothing of the kernel's.";
    Stage "stage" Required "Executes the sealed copy that was verified, and nothing else.";
    Uid "uid" Preferred "Runs under a user id that no other plugin has.";
    UserNamespace "user-namespace" Preferred "Sits in a user namespace in which it can hold no capability.";
    TimeNamespace "time-namespace" Off "Has clocks that begin when it does: how long the machine is up is hidden.";
    Capabilities "capabilities" Required "Holds no capability in any of the five sets.";
    NoNewPrivileges "no-new-privileges" Required "Cannot gain privileges by executing.";
    Seccomp "seccomp" Required "Makes only the system calls that its profile lists.";
    Memory "memory" Required "Memory limit of the control group, without swap.";
    MemoryGroupKill "memory-group-kill" Preferred "Out of memory ends the whole jail, not one process of it.";
    Cpu "cpu" Preferred "Processor quota of the control group.";
    CoreScheduling "core-scheduling" Off "Shares a processor core with no other process at the same time.";
    Processes "processes" Required "Limit on processes and threads.";
    Io "io" Preferred "Reads and writes at the disk of its own directory are limited.";
    Devices "devices" Preferred "No device but the five of its /dev can be opened.";
    GroupKill "group-kill" Preferred "The control group can be killed as a whole.";
    GroupFreeze "group-freeze" Preferred "The control group can be stopped as a whole before it is killed.";
    MemfdNoexec "memfd-noexec" Preferred "Anonymous memory files cannot be executed.";
    PassRights "pass-rights" Preferred "Descriptors cannot be passed over its socket.";
    Landlock "landlock" Preferred "File access is confined a second time, by path.";
    WriteXorExecute "write-xor-execute" Preferred "Memory is never writable and executable.";
    SyscallNames "syscall-names" Preferred "A refused system call is reported by name.";
    LauncherFilter "launcher-filter" Preferred "The launcher filters its own system calls.";
    NetworkPool "network-pool" Preferred "Network namespaces are prepared ahead of the launch.";
    Trial "trial" Preferred "A whole launch of a built-in program was seen to hold, act by act.";
    StateQuota "state-quota" Preferred "The plugin's own directory has a size limit.";
}

impl Control {
    /// The control with this text form.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|control| control.id() == id)
    }

    /// Whether a policy file may want less of this control than the default: what is preferred, by the
    /// word alone; of what is required only limits, with a reason, and never a wall.
    #[must_use]
    pub fn may_be_lowered(self) -> bool {
        self.default_wanted() != Wanted::Required || matches!(self, Self::Memory | Self::Processes)
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
