//! Dialects: foreign plugin contracts, each turned into the common model in a folder of its own.
//!
//! No other part of the daemon knows that a dialect exists. It is given a stage to read a manifest
//! from, says what values a launch needs, and is then given a started process to speak with.

pub(crate) mod goatflow;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pinfold_gateway::Instance;
use pinfold_hostapi::{Caller, HostApi};
use pinfold_policy::{ByteSize, Offer, Permissions, PluginId, PolicyFile, Rates, Span, Timeouts};
use pinfold_sandbox::protocol::{Loopback, SocketDirectory};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::lifecycle::output::Drains;
use crate::stage::StageFiles;

/// One foreign contract.
pub(crate) trait Dialect: Send + Sync {
    /// Its name, as policy files and launch templates write it.
    fn name(&self) -> &'static str;

    /// Name of the manifest's file: a stage that has it is of this dialect.
    fn manifest_file(&self) -> &'static str;

    /// The name that a manifest gives its plugin, before it has a directory of that name.
    fn plugin_name(&self, stage: &StageFiles) -> Result<PluginId, DialectError>;

    /// Reads the manifest of `plugin` from its stage.
    fn manifest(&self, plugin: &PluginId, stage: &StageFiles) -> Result<Manifest, DialectError>;

    /// Values for the launch template's `from-daemon` variables.
    fn launch_values(&self) -> BTreeMap<String, String>;

    /// Speaks with a started process until it serves: handshake, registration, initialisation.
    /// `stdout` is its standard output from the first byte; standard error is read elsewhere.
    fn start(
        &self,
        process: Process,
        stdout: pipe::Receiver,
    ) -> BoxFuture<'_, Result<Started, DialectError>>;
}

/// What a foreign manifest comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) author: String,
    pub(crate) license: String,
    /// Executable, below the plugin's directory.
    pub(crate) entry: String,
    pub(crate) asked: Permissions,
    pub(crate) wished_memory: Option<ByteSize>,
    pub(crate) wished_call: Option<Span>,
    pub(crate) wished_init: Option<Span>,
    pub(crate) wished_shutdown: Option<Span>,
}

/// A started process and what it may do.
pub(crate) struct Process {
    pub(crate) plugin: PluginId,
    /// Every plugin with a directory, this one among them.
    pub(crate) known: BTreeSet<PluginId>,
    pub(crate) manifest: Manifest,
    pub(crate) policy: PolicyFile,
    pub(crate) generation: pinfold_policy::Generation,
    /// Where outputs go that the dialect finds.
    pub(crate) output: Arc<Drains>,
    /// What [`Started::resume`] was with the daemon that started it, where that was another: it has said
    /// its first words to that one.
    pub(crate) resumed: Option<String>,
    /// Directory inside the jail in which its socket may lie, beside `/run/plugin`.
    pub(crate) tmp_directory: String,
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) host: Arc<HostApi>,
    /// Who its programs are that speak HTTP by themselves, where they may.
    pub(crate) proxied: Option<watch::Sender<Arc<Caller>>>,
}

impl Process {
    /// Deadlines of its policy.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.policy.timeouts
    }

    /// Rates of its policy.
    pub(crate) fn rates(&self) -> &Rates {
        &self.policy.rates
    }

    /// The caller that its host calls are made as, with what it asked for on registering, if it
    /// did. From now on that is also who its programs are that speak HTTP by themselves.
    pub(crate) fn caller(&self, registered: Option<Permissions>) -> Arc<Caller> {
        let mut asked = vec![self.manifest.asked.clone()];
        asked.extend(registered);
        let effective = pinfold_policy::Effective::new(self.policy.permissions.clone(), asked);
        let caller = Arc::new(self.host.caller(
            self.plugin.clone(),
            self.generation,
            Arc::new(effective),
            self.rates(),
        ));
        if let Some(proxied) = &self.proxied {
            proxied.send_replace(Arc::clone(&caller));
        }
        caller
    }
}

/// Connects to a socket that the instance made in its jail.
pub(crate) trait Connect: Send + Sync {
    /// A connected stream socket.
    fn connect(
        &self,
        directory: SocketDirectory,
        name: String,
    ) -> BoxFuture<'_, Result<OwnedFd, DialectError>>;

    /// A connected stream socket to a port that it listens on, at its own loopback.
    fn connect_port(
        &self,
        loopback: Loopback,
        port: NonZeroU16,
    ) -> BoxFuture<'_, Result<OwnedFd, DialectError>>;
}

/// A plugin that serves.
pub(crate) struct Started {
    pub(crate) instance: Arc<dyn Running>,
    pub(crate) offer: Offer,
    /// What it asked for when it registered: `None` where it said nothing of it.
    pub(crate) asked: Option<Permissions>,
    /// Version it registered with.
    pub(crate) version: String,
    /// What another daemon needs to speak with it in this one's place, one line; none where only this
    /// one can.
    pub(crate) resume: Option<String>,
}

/// An instance that can be ended in its contract's own way.
pub(crate) trait Running: Instance {
    /// Asks it to end within `limit`; the process is then ended by the launcher in any case.
    fn shutdown(&self, limit: Duration) -> BoxFuture<'_, ()>;

    /// Resolves when the connection to it is gone, with why.
    fn closed(&self) -> BoxFuture<'_, String>;

    /// The instance as the gateway sees it.
    fn as_instance(self: Arc<Self>) -> Arc<dyn Instance>;

    /// Says why the process ended, for calls that come after.
    fn set_cause(&self, cause: String);
}

/// Why a plugin does not come to serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DialectError {
    #[error("{file}: {reason}")]
    Manifest { file: &'static str, reason: String },
    #[error("it printed no handshake line within {}", .limit)]
    HandshakeDeadline { limit: Span },
    #[error("it ended before its handshake line")]
    EndedEarly,
    #[error("its handshake line is refused")]
    Handshake(#[source] pinfold_rpc::handshake::HandshakeError),
    #[error("its handshake line names {address:?}: a socket in {allowed} is expected")]
    Address { address: String, allowed: String },
    #[error("connect to its socket")]
    Connect(#[source] crate::launcher::LauncherError),
    #[error("{step} failed: {reason}")]
    Step { step: &'static str, reason: String },
    #[error("{step} failed: its connection ended")]
    Lost { step: &'static str },
    #[error("{step} did not end within {limit}")]
    StepDeadline { step: &'static str, limit: Span },
    #[error("it registers as {registered:?}")]
    OtherName { registered: String },
    #[error("its registration is refused: {reason}")]
    Registration { reason: String },
}

impl DialectError {
    /// For how long the report of the process's end is worth waiting for, because it would explain
    /// this. The launcher may be busy with others: a report can be late.
    pub(crate) fn wait_for_its_end(&self) -> Option<Duration> {
        match self {
            Self::EndedEarly | Self::Lost { .. } => Some(Duration::from_secs(5)),
            Self::Connect(_) => Some(Duration::from_millis(500)),
            _ => None,
        }
    }

    /// Whether the plugin may not run as it is, rather than having failed to.
    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Self::Manifest { .. } | Self::OtherName { .. })
    }
}

/// Every dialect spoken.
pub(crate) fn all() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(goatflow::Goatflow)]
}
