//! What a plugin's task can be told, by whoever holds its handle.

use std::sync::Arc;

use pinfold_policy::Generation;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot, watch};

use super::inherited::Inherited;
use super::{Lifecycle, Trigger};
use crate::logs::PluginLog;
use crate::state::{Snapshot, State};

/// What a plugin's task can be told. It is taken at once, and answered when the plugin has settled;
/// of several the newest wins, and each is answered.
pub(crate) enum Command {
    /// Its files have changed: take the new ones, if they are others than those that serve.
    Changed,
    /// Look at the plugin's files, and leave it alone if it serves from the same ones.
    Refresh(oneshot::Sender<()>),
    /// Start it anew from its files and policy as they are.
    Restart(oneshot::Sender<()>),
    /// Let it run, and start it.
    Enable(oneshot::Sender<()>),
    /// End it, and start it no more until it is enabled.
    Disable(oneshot::Sender<()>),
    /// End it and the task.
    Stop(oneshot::Sender<()>),
    /// End the task, and leave the instance that serves to the next daemon.
    HandOver(oneshot::Sender<()>),
}

/// How others reach a plugin's task.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    log: Arc<PluginLog>,
    inherited: Arc<Inherited>,
    /// Held while it is switched on or off.
    switch: Arc<Mutex<()>>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        log: Arc<PluginLog>,
        inherited: Arc<Inherited>,
    ) -> Self {
        Self {
            commands,
            snapshot,
            log,
            inherited,
            switch: Arc::default(),
        }
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// The snapshots to come.
    pub(crate) fn observe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// What the plugin prints and logs.
    pub(crate) fn log(&self) -> &Arc<PluginLog> {
        &self.log
    }

    /// Whether the plugin has asked, or been asked for, what the daemon before has left of it: what is left
    /// after that is nobody's.
    pub(crate) fn has_asked_for_left(&self) -> bool {
        self.inherited.was_asked()
    }

    /// Has the numbers of the plugin's instances go on after one that the daemon before started.
    pub(crate) fn go_on_after(&self, generation: Generation) {
        self.inherited.generations.go_on_after(generation);
    }

    /// Whether both reach the same task.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.commands.same_channel(&other.commands)
    }

    /// Says that the plugin's files have changed. Does not wait for what comes of it.
    pub(crate) async fn changed(&self) {
        // A task that has ended has no files any more.
        self.commands
            .send(Command::Changed)
            .await
            .unwrap_or_default();
    }

    /// Sends a command and waits until the plugin has settled.
    pub(crate) async fn command(&self, make: impl FnOnce(oneshot::Sender<()>) -> Command) {
        self.send(make).await.await;
    }

    /// Sends a command. What is given back ends when the plugin has settled.
    pub(crate) async fn send(
        &self,
        make: impl FnOnce(oneshot::Sender<()>) -> Command,
    ) -> impl Future<Output = ()> {
        let (done, finished) = oneshot::channel();
        // A task that has ended, or ends without an answer, has ended its plugin: done as well.
        self.commands.send(make(done)).await.unwrap_or_default();
        async move { finished.await.unwrap_or_default() }
    }

    /// Held from keeping that the plugin is switched on or off until its task is told: of two who
    /// switch it at once, both see the same one as the last.
    pub(crate) async fn switching(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.switch).lock_owned().await
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

impl Lifecycle {
    pub(super) fn obey(&mut self, command: Command) {
        let enabled = self.shared.snapshot.borrow().enabled;
        match command {
            Command::Changed if enabled => self.begin(Trigger::Files),
            Command::Changed => {}
            Command::Refresh(done) => {
                self.waiting.push(done);
                if enabled {
                    self.begin(Trigger::Refresh);
                }
            }
            Command::Restart(done) => {
                self.waiting.push(done);
                if enabled {
                    self.begin(Trigger::Restart);
                }
            }
            Command::Enable(done) => {
                self.waiting.push(done);
                self.shared.change(|snapshot| snapshot.enabled = true);
                if self.serving.is_none() && self.attempt.is_none() {
                    self.begin(Trigger::Restart);
                }
            }
            Command::Disable(done) => {
                self.waiting.push(done);
                self.shared.change(|snapshot| snapshot.enabled = false);
                self.stop_all();
            }
            Command::Stop(done) => {
                self.waiting.push(done);
                self.begin_leaving();
            }
            Command::HandOver(done) => {
                self.waiting.push(done);
                self.begin_handing_over();
            }
        }
    }

    pub(super) fn begin_leaving(&mut self) {
        if !self.leaving {
            self.leaving = true;
            self.stop_all();
        }
    }

    /// One that cannot be left to another daemon is ended.
    fn begin_handing_over(&mut self) {
        let note = self.serving.as_ref().and_then(|one| one.resume.clone());
        match (note, self.leaving) {
            (Some(note), false) => {
                self.leaving = true;
                self.leave_serving(note);
            }
            _ => self.begin_leaving(),
        }
    }

    /// Whether the task has nothing more to do.
    pub(super) fn is_over(&self) -> bool {
        self.leaving && self.endings.is_empty()
    }

    /// The task's last act.
    pub(super) fn leave(mut self) {
        self.shared.catalogue.withdraw(self.shared.number);
        self.shared.enter(State::Stopped, None, |_| {});
        // Whoever has sent a command that was not taken any more learns it from its end.
        self.commands.close();
        for done in self.waiting {
            done.send(()).unwrap_or_default();
        }
    }

    /// Where nothing is under way that changes it, the plugin has settled: those who wait are told.
    pub(super) fn settle(&mut self) {
        if self.leaving || self.attempt.is_some() || self.ending_served > 0 {
            return;
        }
        if !self.shared.snapshot.borrow().enabled {
            // Also what had only begun to start is gone then.
            if !self.endings.is_empty() {
                return;
            }
            self.shared
                .enter(State::Disabled, None, |snapshot| snapshot.reason = None);
        }
        for done in self.waiting.drain(..) {
            done.send(()).unwrap_or_default();
        }
    }
}
