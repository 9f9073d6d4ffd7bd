//! Routes of plugins that have served before, reserved for them before any plugin starts.
//!
//! Of two that declare the same route the elder keeps it, and a daemon's start does not change who
//! that is: while the elder is not there yet, or does not come to serve, nobody is given what its
//! users send.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Catalogue, ScanError};
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
}
