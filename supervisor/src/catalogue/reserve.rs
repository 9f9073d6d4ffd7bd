//! Routes of plugins that have served before, reserved for them before any plugin starts.
//!
//! Of two that declare the same route, or a younger one that is more literal than an elder's, the
//! elder keeps it, and a daemon's start does not change who that is: while the elder is not there
//! yet, or does not come to serve, nobody is given what its users send.

use std::sync::Arc;

use pinfold_policy::PluginId;
use tokio::sync::watch;

use super::{Catalogue, ScanError, lock};
use crate::state::Snapshot;
use crate::store::{KeptRoutes, StoreError};

/// Routes are not reserved, and so nothing is started.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReserveError {
    #[error("read the routes that plugins had")]
    Store(#[from] StoreError),
    #[error("look which plugins are there")]
    Scan(#[from] ScanError),
}

impl Catalogue {
    /// Has the routes of every plugin that is there in the table, once for all starts.
    pub(super) async fn reserve(&self) -> Result<(), ReserveError> {
        let reserving = || async {
            let found = self.found().await?;
            for kept in self.parts.store.routes_of_all().await? {
                let KeptRoutes {
                    number,
                    plugin,
                    enabled,
                    routes,
                } = kept;
                if !found.contains(&plugin) {
                    continue;
                }
                let first = Snapshot {
                    enabled,
                    ..Snapshot::discovered(plugin.clone())
                };
                // What its task says of it takes the place of this when it has one.
                let (_, snapshot) = watch::channel(Arc::new(first));
                self.place_closed(number, &plugin, routes, snapshot);
            }
            Ok(())
        };
        self.reserved.get_or_try_init(reserving).await.copied()
    }

    /// Takes out of the table what is reserved for plugins that have gone before they had a task, which
    /// would do it.
    pub(super) fn withdraw_absent(&self, is_there: impl Fn(&PluginId) -> bool) {
        let plugins = self.plugins();
        let is_absent = |plugin: &PluginId| !plugins.contains_key(plugin) && !is_there(plugin);
        let absent: Vec<i64> = lock(&self.entries)
            .iter()
            .filter(|(_, entry)| is_absent(&entry.plugin))
            .map(|(number, _)| *number)
            .collect();
        for number in absent {
            self.withdraw(number);
        }
    }
}
