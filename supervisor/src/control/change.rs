//! Switching a plugin on and off, and starting it anew, as an administrator asks for.

use std::sync::Arc;

use pinfold_gateway::Actor;
use pinfold_gateway::admin::ControlError;
use pinfold_gateway::admin::dto::PluginDetail;
use pinfold_policy::PluginId;

use super::{Administration, not_stored};
use crate::catalogue::ChangeError;

/// What is done to a plugin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Enable,
    Disable,
    Reload,
}

impl Change {
    /// As the audit names it, and what failed where the daemon could not do it.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Enable => ("admin.plugin.enable", "enable the plugin"),
            Self::Disable => ("admin.plugin.disable", "disable the plugin"),
            Self::Reload => ("admin.plugin.reload", "reload the plugin"),
        }
    }
}

impl Administration {
    /// Does it, after it is in the audit. What was begun goes on although nobody waits for it: a
    /// flag that is kept and not acted on would show only at the next start.
    pub(super) async fn change(
        &self,
        plugin: &PluginId,
        change: Change,
        actor: Actor,
    ) -> Result<PluginDetail, ControlError> {
        let (action, attempt) = change.names();
        if self.catalogue.handle(plugin).is_none() {
            return Err(ControlError::UnknownPlugin {
                plugin: plugin.clone(),
            });
        }
        self.record(&actor, action, plugin.to_string()).await?;
        let (catalogue, plugin) = (Arc::clone(&self.catalogue), plugin.clone());
        let changing = self.changes.spawn(async move {
            match change {
                Change::Enable => catalogue.enable(&plugin).await,
                Change::Disable => catalogue.disable(&plugin).await,
                Change::Reload => catalogue.reload(&plugin).await,
            }
        });
        let failed = |cause: String| ControlError::Failed {
            action: attempt,
            cause,
        };
        let changed = changing.await.map_err(|error| failed(error.to_string()))?;
        let snapshot = changed.map_err(|error| match error {
            ChangeError::Unknown { plugin } => ControlError::UnknownPlugin { plugin },
            ChangeError::Disabled { plugin } => ControlError::Disabled { plugin },
            ChangeError::Rejected { reason, .. } => ControlError::Rejected { reason },
            ChangeError::Store(error) => not_stored(attempt, &error),
        })?;
        Ok(self.detail(&snapshot))
    }
}
