//! What is in force on this machine, as the launcher finds it and the daemon keeps it.

use std::sync::Arc;
use std::time::Duration;

use pinfold_policy::PluginId;
use pinfold_sandbox::posture::Posture;
use pinfold_sandbox::protocol::{ControlChange, Reply, Request};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Administration, view};
use crate::chain::Chain;
use crate::launcher::LauncherError;
use crate::store::audit::{Entry, Trail};

/// How long until the posture is asked for again where it is not known: a probe may fail for want of memory.
const ASK_AGAIN: Duration = Duration::from_secs(60);

impl Administration {
    /// What is in force here, or for one plugin. The former is known from then on.
    pub(crate) async fn probe(&self, plugin: Option<PluginId>) -> Result<Posture, LauncherError> {
        let is_of_all = plugin.is_none();
        let Reply::Posture { toml } = self
            .catalogue
            .launcher()
            .ask(Request::Probe { plugin })
            .await?
        else {
            return Err(LauncherError::Confused);
        };
        let posture = crate::posture::read(toml)?;
        if is_of_all {
            self.posture.store(Arc::new(Some(posture.clone())));
        }
        Ok(posture)
    }

    /// Finds out what this machine gives, and says what an operator should know of it.
    pub(crate) async fn learn_posture(&self) {
        if let Err(error) = self.probe(None).await {
            tracing::error!(error = %Chain(&error), "posture unknown, asked for again");
        }
        self.tell_warnings();
    }

    /// The same where it was not known: until it is, nothing is said again.
    async fn learn_posture_after_all(&self) {
        match self.probe(None).await {
            Ok(_) => self.tell_warnings(),
            Err(error) => tracing::debug!(error = %Chain(&error), "posture still unknown"),
        }
    }

    fn tell_warnings(&self) {
        for warning in self.warnings() {
            tracing::warn!(%warning, "posture");
        }
    }

    /// Takes in what the launcher's probes find otherwise than before, until `stop`: into the log, the
    /// audit trail and the posture. Where that is not known it is asked for again and again.
    pub(crate) async fn follow_controls(&self, trail: Trail, stop: CancellationToken) {
        let Some(mut changes) = self.catalogue.launcher().changes() else {
            return;
        };
        let mut again = tokio::time::interval_at(Instant::now() + ASK_AGAIN, ASK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
                _ = again.tick(), if self.posture.load().is_none() => {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.learn_posture_after_all() => {}
                    }
                    continue;
                }
            };
            let Some(change) = change else {
                return;
            };
            let ControlChange {
                control,
                is_in_force,
                reason,
            } = &change;
            if *is_in_force {
                tracing::info!(%control, "control in force again");
            } else {
                tracing::error!(%control, reason, "control in force no more");
            }
            trail.note(Entry {
                decision: if *is_in_force { "allow" } else { "error" },
                detail: (!is_in_force).then(|| reason.clone()),
                ..Entry::of_daemon("control.change", control.to_string())
            });
            self.posture.rcu(|known| {
                let mut known = Option::clone(known);
                if let Some(posture) = &mut known {
                    view::change(posture, &change);
                }
                known
            });
        }
    }
}
