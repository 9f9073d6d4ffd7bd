//! What pinfoldd and the launcher say to each other on their `SOCK_SEQPACKET` socket.
//!
//! A message is one packet of at most [`PACKET_LIMIT_BYTES`]; what may be longer (a posture, a
//! policy's bytes) travels as a sealed memory file among the packet's descriptors. A request names
//! a plugin, a generation and a staged digest: everything about the jail itself comes from
//! root-owned files that the launcher reads.

pub(crate) mod codec;
pub(crate) mod packet;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pinfold_policy::{Control, Digest, Generation, InstanceId, Moment, PluginId};

use crate::seccomp::{Arch, syscall_name};

pub use codec::CodecError;

/// Largest packet: holds every value that a daemon may give at launch, twice over.
pub const PACKET_LIMIT_BYTES: usize = 32 * 1024;

/// Longest note that a daemon leaves with an instance for its successor, in bytes: a handshake line
/// with an address in it, several times over.
pub const NOTE_LIMIT_BYTES: usize = 1024;

/// Number of a request, chosen by the daemon, echoed in its reply.
pub type RequestId = u32;

/// What pinfoldd asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// What is in force on this machine, or for one plugin.
    Probe {
        /// A plugin whose policy decides what is wanted; none: the defaults.
        plugin: Option<PluginId>,
    },
    /// Copy and seal the plugin's directory.
    Stage {
        /// The plugin.
        plugin: PluginId,
    },
    /// Start a staged plugin in a jail.
    Launch {
        /// The plugin.
        plugin: PluginId,
        /// Counter of its instances.
        generation: Generation,
        /// Which stage.
        digest: Digest,
        /// Values for the template's `from-daemon` variables.
        values: BTreeMap<String, String>,
    },
    /// Connect to a socket that the instance made.
    Connect {
        /// The instance.
        instance: InstanceId,
        /// Where the socket is, inside the jail.
        directory: SocketDirectory,
        /// Its base name: 1 to 64 of `[A-Za-z0-9._-]`, no leading dot.
        name: String,
    },
    /// Connect to a TCP port of the instance's own loopback.
    ConnectPort {
        /// The instance.
        instance: InstanceId,
        /// Which loopback address.
        loopback: Loopback,
        /// The port.
        port: NonZeroU16,
    },
    /// End an instance.
    Kill {
        /// The instance.
        instance: InstanceId,
        /// How.
        how: KillHow,
    },
    /// What an instance uses.
    Stats {
        /// The instance.
        instance: InstanceId,
    },
    /// Whether a launch of this stage would now be refused for want of trust: a key may have been
    /// revoked or have expired. Starts and ends nothing.
    Trust {
        /// The plugin.
        plugin: PluginId,
        /// Which stage.
        digest: Digest,
    },
    /// This daemon is about to end, and another to come: what it names with `Keep` from now on
    /// outlives its connection.
    Handover,
    /// After `Handover`: this instance is for the next daemon.
    Keep {
        /// The instance.
        instance: InstanceId,
        /// What the next daemon is to know of it, at most [`NOTE_LIMIT_BYTES`]. It means nothing to
        /// the launcher.
        note: String,
    },
    /// What the daemon before has kept of a plugin is this one's from now on, where a launch of the
    /// same files would be what it was.
    Adopt {
        /// The plugin.
        plugin: PluginId,
        /// The stage of its files as they are now.
        digest: Digest,
    },
    /// One of those that the daemon before has kept, and nobody has adopted, is to end. What has become
    /// of all of them is known once the answer names none.
    Discard {
        /// Of this plugin; none: of any.
        plugin: Option<PluginId>,
    },
}

impl Request {
    /// Reads a packet that has no descriptors, as the launcher does: for tools and tests.
    ///
    /// # Errors
    /// [`CodecError`] where the bytes are no request.
    pub fn from_bytes(bytes: &[u8]) -> Result<(RequestId, Self), CodecError> {
        codec::decode_request(packet::Packet {
            bytes: bytes.to_vec(),
            descriptors: Vec::new(),
        })
    }

    /// The packet that asks for it, as a daemon sends it.
    ///
    /// # Errors
    /// [`CodecError::Limit`] and [`CodecError::TooLong`] where a value is too long for a packet.
    pub fn to_bytes(&self, id: RequestId) -> Result<Vec<u8>, CodecError> {
        codec::encode_request(id, self)
    }
}

/// The two directories of a jail in which a plugin's socket may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketDirectory {
    /// `/run/plugin`.
    Run,
    /// The launch template's temporary directory.
    Tmp,
}

/// The two addresses of a jail at which a plugin's TCP port may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// `127.0.0.1`.
    V4,
    /// `::1`.
    V6,
}

/// How an instance is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillHow {
    /// SIGTERM to the plugin's main process.
    Terminate,
    /// SIGKILL to the whole jail.
    Kill,
}

/// What the launcher answers.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply {
    /// To `Probe`: a [`crate::posture::Posture`] as TOML in a sealed memory file.
    Posture {
        /// The file.
        toml: OwnedFd,
    },
    /// To `Stage`.
    Staged {
        /// The stage's digest.
        digest: Digest,
        /// The stage's root directory: read files of it relative to this.
        root: OwnedFd,
    },
    /// To `Launch`, once the plugin's program has been executed and looked at from outside.
    Launched(Launched),
    /// To `Connect` and `ConnectPort`: a connected stream socket.
    Connected {
        /// The socket.
        socket: OwnedFd,
    },
    /// To `Kill`. The end itself is an [`Event::Exited`].
    Killed,
    /// To `Stats`.
    Stats(Stats),
    /// To `Trust`, where a launch would not be refused; where it would, the failure is the launch's.
    Trusted {
        /// The words of [`Launched::trust`].
        basis: String,
    },
    /// To `Handover`.
    HandingOver {
        /// How long what is kept waits for the next daemon, from the end of this connection on.
        limit: Duration,
    },
    /// To `Keep`.
    Kept,
    /// To `Adopt`.
    Adopted(Adopted),
    /// To `Adopt`, where there is nothing to adopt, and to `Discard`.
    NotKept {
        /// What was kept and has been ended, or has ended; none where there is no such.
        ended: Option<EndedKept>,
    },
}

/// An instance that one daemon has kept and no other has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedKept {
    /// Whose it was.
    pub plugin: PluginId,
    /// Which instance of its plugin it was, as the daemon counted that started it.
    pub generation: Generation,
    /// Why it has ended, as one clause.
    pub reason: String,
}

/// An instance that one daemon has kept and another has adopted.
#[derive(Debug)]
pub struct Adopted {
    /// What the daemon that started it was given, and the same pipes and sockets.
    pub launched: Launched,
    /// Which instance of its plugin it is, as that daemon counted.
    pub generation: Generation,
    /// What that daemon has left to be known.
    pub note: String,
}

/// A started instance.
#[derive(Debug)]
pub struct Launched {
    /// Its number.
    pub instance: InstanceId,
    /// Process id of the plugin's main process, in the launcher's PID namespace; for logs alone.
    pub pid: u32,
    /// Handle of the plugin's main process.
    pub pidfd: OwnedFd,
    /// Reading end of its standard output.
    pub stdout: OwnedFd,
    /// Reading end of its standard error.
    pub stderr: OwnedFd,
    /// The policy file's bytes as used, in a sealed memory file.
    pub policy: OwnedFd,
    /// Path inside the jail of the template's temporary directory.
    pub tmp_directory: String,
    /// Whether the policy was the daemon's own (development grants).
    pub development_policy: bool,
    /// Controls that are wanted as `preferred` and are not in force for this instance.
    pub missing: Vec<String>,
    /// What the trust in it rests on: `program signed by "release" (assets unsigned)`, `pinned digest`,
    /// `unsigned`.
    pub trust: String,
    /// Until when it is watched, where it is: each of its system calls is noted.
    pub watched_until: Option<Moment>,
    /// The sockets that listen in its network, at most [`LISTENERS_LIMIT`].
    pub listeners: Vec<Listener>,
}

/// Most listeners of one instance.
pub const LISTENERS_LIMIT: usize = pinfold_reaper::plan::LISTENERS_LIMIT;

/// A socket that listens on 127.0.0.1 of an instance's network since before its program ran.
/// Nobody else is in that network: whoever connects to it is in the jail.
#[derive(Debug)]
pub struct Listener {
    /// What for.
    pub purpose: ListenerPurpose,
    /// Its TCP port.
    pub port: u16,
    /// The listening socket.
    pub socket: OwnedFd,
}

/// What a listener in a jail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerPurpose {
    /// The way out for programs that speak HTTP by themselves; `HTTP_PROXY` points at it.
    HttpProxy,
}

/// Resources used by an instance. What no controller here tells is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory in use, bytes, without what the kernel keeps of files and can take back.
    pub memory_current_bytes: Option<u64>,
    /// Most memory ever in use, bytes, with that.
    pub memory_peak_bytes: Option<u64>,
    /// Memory limit, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processor time used, microseconds.
    pub cpu_usage_us: Option<u64>,
    /// Time for which it was held back by its quota, microseconds.
    pub cpu_throttled_us: Option<u64>,
    /// Processes and threads.
    pub tasks_current: Option<u64>,
    /// Times a process or thread was refused by the limit.
    pub tasks_refused: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
}

/// What the launcher says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An instance is gone, with everything in its jail.
    Exited {
        /// The instance.
        instance: InstanceId,
        /// Why.
        cause: ExitCause,
    },
    /// A control is in force no more, or again: found by a probe.
    ControlChanged(ControlChange),
}

/// What a probe found of a control otherwise than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlChange {
    /// Which.
    pub control: Control,
    /// Whether it is in force now.
    pub is_in_force: bool,
    /// Why it is not.
    pub reason: String,
}

/// Why an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitCause {
    /// It exited by itself with this status.
    Code(i32),
    /// A signal that nobody of ours sent.
    Signal(i32),
    /// The kernel killed it for want of memory: its own limit was met, or that of a group above its
    /// own, or the machine had none left. Which of them is not told.
    OutOfMemory,
    /// It made a system call that its profile kills for: which, where that was told.
    SyscallRefused(Option<RefusedCall>),
    /// It met a limit that ends a process (`RLIMIT_FSIZE`, `RLIMIT_CPU`), named.
    Limit(String),
    /// The daemon asked for it.
    Killed,
    /// The launcher ended it: the reason.
    Launcher(String),
}

/// A call that was stopped before it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedCall {
    /// Its number on this machine's architecture.
    pub number: u32,
    /// Its arguments, as registers.
    pub arguments: [u64; 6],
}

impl RefusedCall {
    /// The kernel's name of the call, where it is known.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        Arch::native().and_then(|arch| syscall_name(arch, self.number))
    }
}

impl std::fmt::Display for RefusedCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "number {}", self.number),
        }
    }
}

impl std::fmt::Display for ExitCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::SyscallRefused(None) => {
                f.write_str("made a system call that is refused (SIGSYS)")
            }
            Self::SyscallRefused(Some(call)) => {
                write!(f, "made a system call that is refused: {call}")
            }
            Self::Limit(limit) => write!(f, "met its limit {limit}"),
            Self::Killed => f.write_str("stopped on request"),
            Self::Launcher(reason) => write!(f, "ended by the launcher: {reason}"),
        }
    }
}

/// Why a request failed, as it crosses the socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure: decides who is to act.
    pub kind: FailureKind,
    /// The whole chain as one line: what, where, why.
    pub message: String,
    /// What to do next, where there is something.
    pub hint: Option<String>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The request itself: unknown plugin, instance or digest, a name out of shape.
    Request,
    /// No policy, or one that is refused, or not trusted.
    Policy,
    /// The plugin's bytes are not what the policy trusts: another digest, no signature, a bad one, a
    /// key that does not count. A signature that is still to come mends it.
    Trust,
    /// The plugin's files.
    Stage,
    /// A required control that this machine cannot give.
    Control,
    /// The plugin's doing: its socket, its entry, its end during start.
    Plugin,
    /// The launcher or the machine.
    Host,
}

/// What the daemon receives.
#[derive(Debug)]
pub enum Incoming {
    /// The answer to a request.
    Reply {
        /// Which request.
        id: RequestId,
        /// Its outcome.
        result: Result<Reply, Failure>,
    },
    /// Something that happened.
    Event(Event),
}
