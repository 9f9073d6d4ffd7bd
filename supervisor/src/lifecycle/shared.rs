//! What a plugin's task shares with the work that it has under way.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use pinfold_gateway::admin::dto::LogLevel;
use pinfold_policy::{Generation, InstanceId, PluginId};
use pinfold_sandbox::protocol::{ExitCause, KillHow, Request};
use tokio::sync::watch;

use super::end::HOLD_GRACE;
use super::inherited::Inherited;
use crate::catalogue::Catalogue;
use crate::chain::Chain;
use crate::events::{EventKind, NewEvent};
use crate::logs::PluginLog;
use crate::state::{Snapshot, State};
use crate::store::audit::{Entry, PLUGIN_END, instance};

/// How long a process may take to end on SIGTERM before the whole jail is killed.
const TERMINATE_LIMIT: Duration = Duration::from_secs(2);
/// How long the launcher may take to report the end of a jail that was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// What the end of a plugin may take beyond its policy's timeouts.
pub(crate) const END_BEYOND_TIMEOUTS: Duration = HOLD_GRACE
    .saturating_add(TERMINATE_LIMIT)
    .saturating_add(KILL_LIMIT);

/// A plugin, and where what happens to it is told.
pub(super) struct Shared {
    pub(super) plugin: PluginId,
    /// Its place in the order in which plugins were first seen.
    pub(super) number: i64,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(super) log: Arc<PluginLog>,
    pub(super) inherited: Arc<Inherited>,
}

impl Shared {
    /// The newest snapshot.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Edits what is known of the plugin, not its state.
    pub(super) fn change(&self, edit: impl FnOnce(&mut Snapshot)) {
        self.snapshot
            .send_modify(|shared| edit(Arc::make_mut(shared)));
    }

    /// Changes the plugin's state: the one place that does, and so the one that tells of it.
    pub(super) fn enter(
        &self,
        state: State,
        cause: Option<String>,
        edit: impl FnOnce(&mut Snapshot),
    ) {
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
            self.catalogue.events().record(NewEvent {
                plugin: self.plugin.clone(),
                generation: self.snapshot.borrow().generation,
                kind: EventKind::StateChanged,
                from: Some(before),
                to: Some(state),
                cause,
            });
        }
    }

    /// Tells of something that is no change of state.
    pub(super) fn tell(&self, kind: EventKind, generation: Generation, cause: String) {
        self.catalogue.events().record(NewEvent {
            plugin: self.plugin.clone(),
            generation,
            kind,
            from: None,
            to: None,
            cause: Some(cause),
        });
    }

    /// A record of what became of an instance, or of an attempt to start one, in the audit trail.
    pub(super) fn audit(
        &self,
        action: &str,
        subject: String,
        decision: &'static str,
        detail: String,
    ) {
        let entry = Entry {
            decision,
            detail: Some(detail),
            ..Entry::of_daemon(action, subject).about(&self.plugin)
        };
        self.catalogue.trail().note(entry);
    }

    /// A record of the end of an instance in the audit trail.
    pub(super) fn audit_end(&self, generation: Generation, decision: &'static str, detail: String) {
        self.audit(PLUGIN_END, instance(generation), decision, detail);
    }

    /// Tells of an end by a wall of the jail, which operators watch for; the back-off bounds how often.
    pub(super) fn tell_of_kill(&self, generation: Generation, cause: &ExitCause) {
        match cause {
            ExitCause::SyscallRefused(call) => tracing::warn!(
                plugin.id = %self.plugin,
                plugin.generation = generation.0,
                syscall = call.map(|call| call.to_string()).unwrap_or_default(),
                "plugin made a system call that is refused"
            ),
            ExitCause::OutOfMemory => tracing::warn!(
                plugin.id = %self.plugin,
                plugin.generation = generation.0,
                "plugin killed for want of memory"
            ),
            _ => {}
        }
    }

    /// A line in the plugin's own log.
    pub(super) fn note(&self, generation: Generation, level: LogLevel, line: &str) {
        self.log.note(generation, level, line);
    }

    /// Asks the process to end, and ends the whole jail where it does not.
    pub(super) async fn terminate(&self, instance: InstanceId) -> ExitCause {
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

    /// Ends the whole jail, and waits for its end.
    pub(super) async fn kill(&self, instance: InstanceId) -> ExitCause {
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
}
