//! What an operator does to one plugin: switch it on or off, start it anew.

use std::sync::Arc;

use pinfold_policy::PluginId;

use super::Catalogue;
use crate::lifecycle::{Command, Handle};
use crate::state::Snapshot;
use crate::store::StoreError;

/// Why a plugin is not as the operator wants it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChangeError {
    /// It has no directory.
    #[error("there is no plugin {:?}", .plugin.as_str())]
    Unknown { plugin: PluginId },
    /// It is switched off, and so cannot be started anew.
    #[error("plugin {:?} is disabled", .plugin.as_str())]
    Disabled { plugin: PluginId },
    /// The flag cannot be kept: nothing was changed.
    #[error("keep it in the daemon's state")]
    Store(#[source] StoreError),
    /// The new instance does not come to serve; the old one goes on.
    #[error("the new instance of {:?} is not taken, the old one goes on: {reason}", .plugin.as_str())]
    Rejected { plugin: PluginId, reason: String },
}

impl Catalogue {
    /// Lets the plugin run, from now on and after restarts of the daemon, and starts it. Also
    /// clears a crash loop. Waits until it has settled; whether it serves is in the snapshot.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`], [`ChangeError::Store`].
    pub(crate) async fn enable(&self, plugin: &PluginId) -> Result<Arc<Snapshot>, ChangeError> {
        let handle = self.named(plugin)?;
        let switching = handle.switching().await;
        let kept = self.parts.store.enable(plugin).await;
        kept.map_err(ChangeError::Store)?;
        let done = handle.send(Command::Enable).await;
        drop(switching);
        done.await;
        Ok(handle.settled().await)
    }

    /// Ends the plugin, which is then not started until it is enabled, whatever happens to its
    /// files or to the daemon. Waits until its process is gone.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`], [`ChangeError::Store`].
    pub(crate) async fn disable(&self, plugin: &PluginId) -> Result<Arc<Snapshot>, ChangeError> {
        let handle = self.named(plugin)?;
        let switching = handle.switching().await;
        let snapshot = handle.snapshot();
        let registered = snapshot.registered.as_ref();
        let routes = registered.map_or(&[][..], |registered| &registered.offer.routes);
        let kept = self.parts.store.disable(plugin, routes).await;
        kept.map_err(ChangeError::Store)?;
        let done = handle.send(Command::Disable).await;
        drop(switching);
        done.await;
        Ok(handle.settled().await)
    }

    /// Starts the plugin anew from its files and policy as they are, without a gap where it
    /// serves; also clears a crash loop. Waits until it has settled; where nothing served before,
    /// whether it does now is in the snapshot.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`], [`ChangeError::Disabled`], and [`ChangeError::Rejected`] where the
    /// old instance goes on.
    pub(crate) async fn reload(&self, plugin: &PluginId) -> Result<Arc<Snapshot>, ChangeError> {
        let handle = self.named(plugin)?;
        let before = handle.snapshot();
        if !before.enabled {
            return Err(ChangeError::Disabled {
                plugin: plugin.clone(),
            });
        }
        handle.command(Command::Restart).await;
        let after = handle.settled().await;
        match &after.rejected {
            Some(rejected) if after.rejected != before.rejected => Err(ChangeError::Rejected {
                plugin: plugin.clone(),
                reason: rejected.reason.clone(),
            }),
            _ => Ok(after),
        }
    }

    fn named(&self, plugin: &PluginId) -> Result<Handle, ChangeError> {
        self.handle(plugin).ok_or_else(|| ChangeError::Unknown {
            plugin: plugin.clone(),
        })
    }
}
