//! The launcher as the daemon's tasks see it: requests with answers, and the ends of instances.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nix::sys::socket::{Shutdown, shutdown};
use pinfold_policy::{Digest, InstanceId, PluginId};
use pinfold_sandbox::client::{Client, ClientError};
use pinfold_sandbox::protocol::{
    Adopted, ControlChange, EndedKept, Event, ExitCause, Failure, Incoming, KillHow, Loopback,
    Reply, Request, RequestId,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

/// Longest wait for any answer: staging a large package is the slowest thing that is asked for.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Changes of controls that wait to be taken in: all controls of two probes.
const CHANGES_LIMIT: usize = 64;

/// Most requests waiting for an answer at once.
const PENDING_LIMIT: usize = 1024;

/// Why a request to the launcher has no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LauncherError {
    /// It refused or failed, and said why.
    #[error("{0}")]
    Failed(Failure),
    /// It is gone.
    #[error("the launcher is gone")]
    Gone,
    /// It did not answer.
    #[error("the launcher did not answer within {} s", ANSWER_LIMIT.as_secs())]
    Deadline,
    /// Too many requests wait already.
    #[error("{PENDING_LIMIT} requests to the launcher wait already")]
    Busy,
    /// The socket.
    #[error("speak to the launcher")]
    Client(#[source] Box<ClientError>),
    /// It answered something that was not asked.
    #[error("the launcher's answer does not fit the request")]
    Confused,
}

impl LauncherError {
    /// The launcher's hint on what to do next, if it gave one.
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Failed(failure) => failure.hint.as_deref(),
            _ => None,
        }
    }
}

/// Boxed: it passes through queues, and is large.
type Answer = Box<Result<Reply, Failure>>;

/// The launcher's socket in the form that the runtime waits on.
struct Socket(Client);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A connection to the launcher, shared by all tasks.
pub(crate) struct Launcher {
    socket: AsyncFd<Socket>,
    next: AtomicU32,
    state: Mutex<State>,
    gone: watch::Sender<bool>,
    changes: mpsc::Sender<ControlChange>,
    /// Until it is taken.
    changed: Mutex<Option<mpsc::Receiver<ControlChange>>>,
}

#[derive(Default)]
struct State {
    pending: HashMap<RequestId, oneshot::Sender<Answer>>,
    exits: HashMap<InstanceId, watch::Sender<Option<ExitCause>>>,
}

impl Launcher {
    /// Takes the connection; [`Self::receive`] must be run beside it.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for descriptors that do not outlive it: a Socket owns its one"
    )]
    pub(crate) fn new(client: Client) -> std::io::Result<Arc<Self>> {
        client.set_nonblocking(true)?;
        let (changes, changed) = mpsc::channel(CHANGES_LIMIT);
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Arc::new(Self {
            socket: AsyncFd::with_interest(Socket(client), interest)?,
            next: AtomicU32::new(1),
            state: Mutex::default(),
            gone: watch::Sender::new(false),
            changes,
            changed: Mutex::new(Some(changed)),
        }))
    }

    /// What the launcher's probes find otherwise than before; for the first who asks.
    pub(crate) fn changes(&self) -> Option<mpsc::Receiver<ControlChange>> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.take()
    }

    /// Ends the connection, whoever still holds it: the launcher then ends every jail and itself.
    pub(crate) fn hang_up(&self) {
        let ended = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        // One that is gone already is what was wanted.
        ended.unwrap_or_default();
    }

    /// Receives until the launcher is gone, and says why it is.
    pub(crate) async fn receive(&self) -> ClientError {
        let mut abandoned = FuturesUnordered::new();
        let error = loop {
            let received = self
                .socket
                .async_io(Interest::READABLE, |socket| would_block(socket.0.receive()));
            let received = tokio::select! {
                received = received => received,
                Some(()) = abandoned.next() => continue,
            };
            match received {
                Ok(Ok(incoming)) => {
                    abandoned.extend(self.take(incoming).map(|instance| self.abandon(instance)))
                }
                Ok(Err(error @ (ClientError::Packet(_) | ClientError::Truncated))) => {
                    tracing::warn!(error = %crate::chain::Chain(&error), "launcher packet dropped");
                }
                Ok(Err(error)) => break error,
                Err(source) => {
                    break ClientError::System {
                        operation: "wait",
                        source,
                    };
                }
            }
        };
        let mut state = self.state();
        state.pending.clear();
        for exit in state.exits.values() {
            let cause = ExitCause::Launcher("the launcher is gone".into());
            exit.send_if_modified(|known| known.is_none() && known.replace(cause).is_none());
        }
        drop(state);
        self.gone.send_replace(true);
        error
    }

    /// Hands on what came. Gives an instance that nobody waits for.
    fn take(&self, incoming: Incoming) -> Option<InstanceId> {
        match incoming {
            Incoming::Reply { id, result } => {
                let mut state = self.state();
                // Known before whoever asked is: its end cannot be missed.
                if let Some(instance) = begun(&result) {
                    state.exits.insert(instance, watch::Sender::new(None));
                }
                let waiting = state.pending.remove(&id);
                drop(state);
                let answer = Box::new(result);
                let unclaimed = match waiting {
                    Some(waiting) => waiting.send(answer).err(),
                    None => Some(answer),
                };
                return unclaimed.as_deref().and_then(begun);
            }
            Incoming::Event(Event::Exited { instance, cause }) => {
                if let Some(exit) = self.state().exits.get(&instance) {
                    exit.send_replace(Some(cause));
                }
            }
            Incoming::Event(Event::ControlChanged(change)) => {
                let control = change.control;
                if self.changes.try_send(change).is_err() {
                    tracing::warn!(%control, "change of a control not taken in");
                }
            }
            Incoming::Event(_) => {}
        }
        None
    }

    /// Ends an instance that nobody waits for any more.
    async fn abandon(&self, instance: InstanceId) {
        tracing::warn!(plugin.instance = %instance, "started instance was not waited for, ending it");
        self.forget(instance);
        let kill = Request::Kill {
            instance,
            how: KillHow::Kill,
        };
        if let Err(error) = self.ask(kill).await {
            tracing::error!(plugin.instance = %instance, error = %crate::chain::Chain(&error), "instance not ended");
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, LauncherError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            if *self.gone.borrow() {
                return Err(LauncherError::Gone);
            }
            if state.pending.len() >= PENDING_LIMIT {
                return Err(LauncherError::Busy);
            }
            state.pending.insert(id, sender);
        }
        let answered = tokio::time::timeout(ANSWER_LIMIT, async {
            self.socket
                .async_io(Interest::WRITABLE, |socket| {
                    would_block(socket.0.send(id, &request))
                })
                .await
                .map_err(|source| ClientError::System {
                    operation: "wait",
                    source,
                })
                .and_then(|sent| sent)
                .map_err(|error| LauncherError::Client(Box::new(error)))?;
            (*receiver.await.map_err(|_| LauncherError::Gone)?).map_err(LauncherError::Failed)
        });
        let outcome = answered.await.unwrap_or(Err(LauncherError::Deadline));
        self.state().pending.remove(&id);
        outcome
    }

    /// Connects to a socket that an instance made.
    pub(crate) async fn connect(
        &self,
        instance: InstanceId,
        directory: pinfold_sandbox::protocol::SocketDirectory,
        name: String,
    ) -> Result<OwnedFd, LauncherError> {
        match self
            .ask(Request::Connect {
                instance,
                directory,
                name,
            })
            .await?
        {
            Reply::Connected { socket } => Ok(socket),
            _ => Err(LauncherError::Confused),
        }
    }

    /// Connects to a TCP port of an instance's own loopback.
    pub(crate) async fn connect_port(
        &self,
        instance: InstanceId,
        loopback: Loopback,
        port: NonZeroU16,
    ) -> Result<OwnedFd, LauncherError> {
        let request = Request::ConnectPort {
            instance,
            loopback,
            port,
        };
        match self.ask(request).await? {
            Reply::Connected { socket } => Ok(socket),
            _ => Err(LauncherError::Confused),
        }
    }

    /// Says that another daemon is to come: what [`Self::keep`] names from now on goes on until it does,
    /// and no longer than what is given back.
    pub(crate) async fn hand_over(&self) -> Result<Duration, LauncherError> {
        match self.ask(Request::Handover).await? {
            Reply::HandingOver { limit } => Ok(limit),
            _ => Err(LauncherError::Confused),
        }
    }

    /// Has an instance kept for the next daemon, with what that one is to know of it.
    pub(crate) async fn keep(
        &self,
        instance: InstanceId,
        note: String,
    ) -> Result<(), LauncherError> {
        match self.ask(Request::Keep { instance, note }).await? {
            Reply::Kept => Ok(()),
            _ => Err(LauncherError::Confused),
        }
    }

    /// Takes over what the daemon before has kept of a plugin, if these are its files.
    pub(crate) async fn adopt(
        &self,
        plugin: PluginId,
        digest: Digest,
    ) -> Result<Kept, LauncherError> {
        match self.ask(Request::Adopt { plugin, digest }).await? {
            Reply::Adopted(adopted) => Ok(Kept::Adopted(Box::new(adopted))),
            Reply::NotKept { ended: Some(ended) } => Ok(Kept::Ended(ended)),
            Reply::NotKept { ended: None } => Ok(Kept::Nothing),
            _ => Err(LauncherError::Confused),
        }
    }

    /// Has one end of what the daemon before has kept and this one has not asked for, of a plugin or of
    /// any; `None` where there is no more.
    pub(crate) async fn discard(
        &self,
        plugin: Option<PluginId>,
    ) -> Result<Option<EndedKept>, LauncherError> {
        match self.ask(Request::Discard { plugin }).await? {
            Reply::NotKept { ended } => Ok(ended),
            _ => Err(LauncherError::Confused),
        }
    }

    /// Waits for the end of an instance that this connection started or took over.
    pub(crate) async fn exited(&self, instance: InstanceId) -> ExitCause {
        let exit = self
            .state()
            .exits
            .get(&instance)
            .map(watch::Sender::subscribe);
        let Some(mut exit) = exit else {
            return ExitCause::Launcher("it was never started here".into());
        };
        match exit.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().unwrap_or(ExitCause::Killed),
            Err(_) => ExitCause::Launcher("the launcher is gone".into()),
        }
    }

    /// Forgets an instance whose end was seen.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.state().exits.remove(&instance);
    }
}

/// What the daemon before has kept of a plugin.
pub(crate) enum Kept {
    /// An instance, which is this daemon's from now on.
    Adopted(Box<Adopted>),
    /// One that has ended, or that the launcher has.
    Ended(EndedKept),
    /// None.
    Nothing,
}

/// The instance that is this daemon's by this answer.
fn begun(answer: &Result<Reply, Failure>) -> Option<InstanceId> {
    match answer {
        Ok(Reply::Launched(launched)) => Some(launched.instance),
        Ok(Reply::Adopted(adopted)) => Some(adopted.launched.instance),
        _ => None,
    }
}

/// Readiness that was not there after all is tokio's to wait for again; every other outcome is
/// handed through.
fn would_block<T>(result: Result<T, ClientError>) -> std::io::Result<Result<T, ClientError>> {
    match result {
        Err(ClientError::WouldBlock) => Err(std::io::ErrorKind::WouldBlock.into()),
        result => Ok(result),
    }
}
