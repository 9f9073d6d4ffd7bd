//! What is in force on this machine, as the launcher finds it and the daemon keeps it.

use std::sync::Arc;

use pinfold_policy::PluginId;
use pinfold_sandbox::posture::Posture;
use pinfold_sandbox::protocol::{ControlChange, Reply, Request};
use tokio_util::sync::CancellationToken;

use super::{Administration, view};
use crate::chain::Chain;
use crate::launcher::LauncherError;
use crate::store::audit::{Entry, Trail};

impl Administration {
    /// What is in force here, or for one plugin.
    pub(crate) async fn probe(&self, plugin: Option<PluginId>) -> Result<Posture, LauncherError> {
        let Reply::Posture { toml } = self
            .catalogue
            .launcher()
            .ask(Request::Probe { plugin })
            .await?
        else {
            return Err(LauncherError::Confused);
        };
        crate::posture::read(toml)
    }

    /// Finds out what this machine gives, and says what an operator should know of it.
    pub(crate) async fn learn_posture(&self) {
        match self.probe(None).await {
            Ok(posture) => self.posture.store(Arc::new(Some(posture))),
            Err(error) => tracing::error!(error = %Chain(&error), "posture unknown"),
        }
        for warning in self.warnings() {
            tracing::warn!(%warning, "posture");
        }
    }

    /// Takes in what the launcher's probes find otherwise than before, until `stop`: into the log, the
    /// audit trail and the posture.
    pub(crate) async fn follow_controls(&self, trail: Trail, stop: CancellationToken) {
        let Some(mut changes) = self.catalogue.launcher().changes() else {
            return;
        };
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
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
