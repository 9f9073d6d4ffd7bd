//! The life of one plugin, owned by one task. Others send it commands and read its snapshots.
//!
//! ```text
//! Discovered → Staged → Starting → Ready → Draining → Stopped
//!      └─────────┴─────────┴────────┴──→ Failed, Blocked
//! ```

pub(crate) mod output;
mod start;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use pinfold_gateway::admin::dto::LogLevel;
use pinfold_policy::{InstanceId, PluginId};
use pinfold_sandbox::protocol::{ExitCause, KillHow, Request};
use tokio::sync::{mpsc, oneshot, watch};

use crate::catalogue::Catalogue;
use crate::chain::Chain;
use crate::dialect::Started;
use crate::events::{EventKind, Happening};
use crate::logs::PluginLog;
use crate::state::{Registered, Snapshot, State};

/// How long a process may take to end on SIGTERM before the whole jail is killed.
const TERMINATE_LIMIT: Duration = Duration::from_secs(2);
/// How long the launcher may take to report the end of a jail that was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Commands waiting for one plugin's task: each caller waits for its own, so a few are plenty.
const COMMAND_QUEUE: usize = 16;

/// What a plugin's task can be told. Each is answered when it is done.
pub(crate) enum Command {
    /// Look at the plugin's directory and policy again, ending what runs first.
    Restart(oneshot::Sender<()>),
    /// Look again, and leave it alone if it serves from the same files.
    Refresh(oneshot::Sender<()>),
    /// Let it run, and start it.
    Enable(oneshot::Sender<()>),
    /// End it, and start it no more until it is enabled.
    Disable(oneshot::Sender<()>),
    /// End it and the task.
    Stop(oneshot::Sender<()>),
}

/// How others reach a plugin's task.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    log: Arc<PluginLog>,
}

impl Handle {
    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// What the plugin prints and logs.
    pub(crate) fn log(&self) -> &Arc<PluginLog> {
        &self.log
    }

    /// Sends a command and waits until it is done.
    pub(crate) async fn command(&self, make: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, finished) = oneshot::channel();
        if self.commands.send(make(done)).await.is_ok() {
            // A task that ends without an answer has ended its plugin: done as well.
            finished.await.unwrap_or_default();
        }
    }

    /// Waits until the plugin serves or has failed to.
    pub(crate) async fn settled(&self) -> Arc<Snapshot> {
        let mut snapshot = self.snapshot.clone();
        match snapshot
            .wait_for(|snapshot| snapshot.state.is_settled())
            .await
        {
            Ok(settled) => Arc::clone(&settled),
            Err(_) => self.snapshot(),
        }
    }
}

/// A plugin's task and what it owns.
pub(crate) struct Lifecycle {
    plugin: PluginId,
    /// Its place in the order in which plugins were first seen.
    number: i64,
    catalogue: Arc<Catalogue>,
    commands: mpsc::Receiver<Command>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    log: Arc<PluginLog>,
}

/// A plugin that serves, and its process.
struct Serving {
    instance: InstanceId,
    started: Started,
    output: Arc<output::Drains>,
    shutdown: Duration,
    quit: Duration,
}

/// Why an attempt to start came to nothing.
struct NotStarted {
    state: State,
    reason: String,
    /// What the operator can do, where there is something.
    hint: Option<String>,
}

impl Lifecycle {
    /// A task for `plugin`, not yet running, and the handle to it.
    pub(crate) fn new(
        plugin: PluginId,
        number: i64,
        enabled: bool,
        catalogue: Arc<Catalogue>,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let first = Snapshot {
            enabled,
            ..Snapshot::discovered(plugin.clone())
        };
        let (snapshot, observed) = watch::channel(Arc::new(first));
        let log = catalogue.logs().of(&plugin);
        let handle = Handle {
            commands: sender,
            snapshot: observed,
            log: Arc::clone(&log),
        };
        (
            Self {
                plugin,
                number,
                catalogue,
                commands,
                snapshot,
                log,
            },
            handle,
        )
    }

    /// Lives the plugin's life until it is told to stop or nobody holds its handle.
    pub(crate) async fn run(mut self) {
        let mut waiting: Option<oneshot::Sender<()>> = None;
        loop {
            let enabled = self.snapshot.borrow().enabled;
            let serving = if enabled {
                match self.start().await {
                    Ok(serving) => {
                        self.publish(&serving);
                        Some(serving)
                    }
                    Err(not_started) => {
                        self.not_started(not_started);
                        None
                    }
                }
            } else {
                self.enter(State::Disabled, None, |_| {});
                None
            };
            if let Some(done) = waiting.take() {
                done.send(()).unwrap_or_default();
            }
            match self.serve(serving).await {
                Some(done) => waiting = Some(done),
                None => return,
            }
        }
    }

    /// Waits for what ends this instance. `Some`: start again and then answer; `None`: the task's
    /// end.
    async fn serve(&mut self, mut serving: Option<Serving>) -> Option<oneshot::Sender<()>> {
        loop {
            let launcher = Arc::clone(self.catalogue.launcher());
            let ended = async {
                match &serving {
                    Some(serving) => tokio::select! {
                        cause = launcher.exited(serving.instance) => Ended::Process(cause),
                        why = serving.started.instance.closed() => Ended::Connection(why),
                    },
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = ended => {
                    if let Some(serving) = serving.take() {
                        self.fail(serving, ended).await;
                    }
                }
                command = self.commands.recv() => match command {
                    Some(Command::Refresh(done)) if self.unchanged(serving.as_ref()).await => {
                        done.send(()).unwrap_or_default();
                    }
                    Some(Command::Enable(done)) if serving.is_some() => {
                        done.send(()).unwrap_or_default();
                    }
                    Some(Command::Enable(done)) => {
                        self.change(|snapshot| snapshot.enabled = true);
                        return Some(done);
                    }
                    Some(Command::Disable(done)) => {
                        self.change(|snapshot| snapshot.enabled = false);
                        if let Some(serving) = serving.take() {
                            self.stop(serving).await;
                        }
                        self.enter(State::Disabled, None, |snapshot| snapshot.reason = None);
                        done.send(()).unwrap_or_default();
                    }
                    Some(Command::Refresh(done) | Command::Restart(done)) => {
                        if let Some(serving) = serving.take() {
                            self.stop(serving).await;
                        }
                        return Some(done);
                    }
                    Some(Command::Stop(done)) => {
                        if let Some(serving) = serving.take() {
                            self.stop(serving).await;
                        }
                        self.catalogue.withdraw(self.number);
                        self.enter(State::Stopped, None, |_| {});
                        done.send(()).unwrap_or_default();
                        return None;
                    }
                    None => {
                        if let Some(serving) = serving.take() {
                            self.stop(serving).await;
                        }
                        return None;
                    }
                },
            }
        }
    }

    /// Whether what serves was made from the files that lie there now.
    async fn unchanged(&self, serving: Option<&Serving>) -> bool {
        let digest = self.snapshot.borrow().digest;
        serving.is_some()
            && digest.is_some()
            && self.stage().await.ok().map(|stage| stage.0) == digest
    }

    fn publish(&self, serving: &Serving) {
        let started = &serving.started;
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let refused = self.catalogue.serve(self.number, &snapshot, started);
        let mut offer = started.offer.clone();
        offer.refused.extend(refused);
        for line in &offer.refused {
            self.log.note(
                snapshot.generation,
                LogLevel::Warn,
                &format!("not served: {line}"),
            );
        }
        let cause = format!("version {}", started.version);
        self.enter(State::Ready, Some(cause), |snapshot| {
            snapshot.registered = Some(Registered {
                version: started.version.clone(),
                offer,
                asked: started.asked.clone(),
            });
        });
    }

    fn not_started(
        &self,
        NotStarted {
            state,
            reason,
            hint,
        }: NotStarted,
    ) {
        let generation = self.snapshot.borrow().generation;
        self.log.note(
            generation,
            LogLevel::Error,
            &format!("not started: {reason}"),
        );
        let reason = match hint {
            Some(hint) => format!("{reason} (hint: {hint})"),
            None => reason,
        };
        self.catalogue.withdraw(self.number);
        self.enter(state, Some(reason.clone()), |snapshot| {
            snapshot.reason = Some(reason);
            snapshot.running = None;
        });
    }

    /// A plugin that ended without having been asked to.
    async fn fail(&self, serving: Serving, ended: Ended) {
        let cause = match ended {
            Ended::Process(cause) => cause.to_string(),
            Ended::Connection(why) => {
                // Its end by itself may be on the way already, and tells more.
                let limit = serving.quit;
                let launcher = self.catalogue.launcher();
                match tokio::time::timeout(limit, launcher.exited(serving.instance)).await {
                    Ok(cause) => cause.to_string(),
                    Err(_) => {
                        self.kill(serving.instance).await;
                        format!("its connection is gone: {why}")
                    }
                }
            }
        };
        serving.started.instance.set_cause(cause.clone());
        self.catalogue.launcher().forget(serving.instance);
        serving.output.finish().await;
        let generation = self.snapshot.borrow().generation;
        self.log
            .note(generation, LogLevel::Error, &format!("ended: {cause}"));
        self.enter(State::Failed, Some(cause.clone()), |snapshot| {
            snapshot.reason = Some(cause.clone());
            snapshot.last_exit = Some(cause);
            snapshot.running = None;
        });
    }

    /// Ends a plugin in order: no new calls, its contract's own way, SIGTERM, the whole jail.
    async fn stop(&self, serving: Serving) {
        self.catalogue.withdraw(self.number);
        self.enter(State::Draining, None, |_| {});
        serving
            .started
            .instance
            .set_cause("stopped on request".into());
        serving.started.instance.shutdown(serving.shutdown).await;
        let launcher = self.catalogue.launcher();
        let exited = tokio::time::timeout(serving.quit, launcher.exited(serving.instance)).await;
        let cause = match exited {
            Ok(cause) => cause,
            Err(_) => self.terminate(serving.instance).await,
        };
        launcher.forget(serving.instance);
        serving.output.finish().await;
        let generation = self.snapshot.borrow().generation;
        self.log
            .note(generation, LogLevel::Info, &format!("stopped: {cause}"));
        self.enter(State::Stopped, Some(cause.to_string()), |snapshot| {
            snapshot.reason = None;
            snapshot.last_exit = Some(cause.to_string());
            snapshot.running = None;
        });
    }

    async fn terminate(&self, instance: InstanceId) -> ExitCause {
        let launcher = self.catalogue.launcher();
        let request = Request::Kill {
            instance,
            how: KillHow::Terminate,
        };
        if launcher.ask(request).await.is_ok()
            && let Ok(cause) =
                tokio::time::timeout(TERMINATE_LIMIT, launcher.exited(instance)).await
        {
            return cause;
        }
        self.kill(instance).await
    }

    async fn kill(&self, instance: InstanceId) -> ExitCause {
        let launcher = self.catalogue.launcher();
        if let Err(error) = launcher
            .ask(Request::Kill {
                instance,
                how: KillHow::Kill,
            })
            .await
        {
            // One that is gone already is what was wanted.
            tracing::debug!(plugin.id = %self.plugin, error = %Chain(&error), "kill not needed");
        }
        match tokio::time::timeout(KILL_LIMIT, launcher.exited(instance)).await {
            Ok(cause) => cause,
            Err(_) => ExitCause::Launcher("its end was not reported in time".into()),
        }
    }

    /// Edits what is known of the plugin, not its state.
    fn change(&self, edit: impl FnOnce(&mut Snapshot)) {
        self.snapshot
            .send_modify(|shared| edit(Arc::make_mut(shared)));
    }

    /// Changes the plugin's state: the one place that does, and so the one that tells of it.
    fn enter(&self, state: State, cause: Option<String>, edit: impl FnOnce(&mut Snapshot)) {
        let mut before = state;
        self.change(|snapshot| {
            before = snapshot.state;
            edit(snapshot);
            snapshot.state = state;
            if state != before {
                snapshot.since = Utc::now();
            }
        });
        if state != before {
            self.catalogue.events().record(Happening {
                plugin: self.plugin.clone(),
                generation: self.snapshot.borrow().generation,
                kind: EventKind::StateChanged,
                from: Some(before),
                to: Some(state),
                cause,
            });
        }
    }
}

/// What ended an instance.
enum Ended {
    Process(ExitCause),
    Connection(String),
}
