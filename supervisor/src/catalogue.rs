//! Every plugin that is known, and the table of what serves now.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use pinfold_gateway::{Entry, Shared, Table};
use pinfold_hostapi::HostApi;
use pinfold_policy::PluginId;
use tokio_util::task::TaskTracker;

use crate::chain::Chain;
use crate::development::DevelopmentGrants;
use crate::dialect::{self, Dialect, Started};
use crate::events::Events;
use crate::launcher::Launcher;
use crate::lifecycle::{Command, Handle, Lifecycle};
use crate::logs::Logs;
use crate::meters::Meters;
use crate::state::Snapshot;
use crate::store::{Store, StoreError};

#[allow(unused_imports, reason = "the administration API takes it up")]
pub(crate) use change::ChangeError;

/// Most plugins of one daemon: bounds what a directory full of junk can start.
const PLUGIN_LIMIT: usize = 1024;

/// What a catalogue is made of.
pub(crate) struct Parts {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) host: Arc<HostApi>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) table: Shared,
    pub(crate) plugin_dir: PathBuf,
    pub(crate) grants: Option<DevelopmentGrants>,
    pub(crate) store: Store,
}

/// The plugins and what they share.
pub(crate) struct Catalogue {
    parts: Parts,
    dialects: Vec<Arc<dyn Dialect>>,
    plugins: Mutex<BTreeMap<PluginId, Handle>>,
    /// By the order in which plugins were first seen: of two that declare the same route, the
    /// elder keeps it.
    entries: Mutex<BTreeMap<i64, Arc<Entry>>>,
    events: Events,
    tasks: TaskTracker,
}

/// The plugin directory cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the plugin directory {path}")]
pub(crate) struct ScanError {
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: std::io::Error,
}

impl Catalogue {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            dialects: dialect::all(),
            plugins: Mutex::default(),
            entries: Mutex::default(),
            events: Events::default(),
            tasks: TaskTracker::new(),
        })
    }

    pub(crate) fn launcher(&self) -> &Arc<Launcher> {
        &self.parts.launcher
    }

    pub(crate) fn host(&self) -> &Arc<HostApi> {
        &self.parts.host
    }

    /// What happened to the plugins.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.parts.logs
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.parts.meters
    }

    pub(crate) fn dialects(&self) -> &[Arc<dyn Dialect>] {
        &self.dialects
    }

    pub(crate) fn development_grants(&self) -> Option<&DevelopmentGrants> {
        self.parts.grants.as_ref()
    }

    /// The handle of one plugin.
    pub(crate) fn handle(&self, plugin: &PluginId) -> Option<Handle> {
        self.plugins().get(plugin).cloned()
    }

    /// The newest snapshot of every plugin, by name.
    pub(crate) fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.plugins().values().map(Handle::snapshot).collect()
    }

    /// The plugins that have a directory now.
    pub(crate) async fn found(&self) -> Result<BTreeSet<PluginId>, ScanError> {
        let directory = self.parts.plugin_dir.clone();
        tokio::task::spawn_blocking(move || list(&directory))
            .await
            .unwrap_or_else(|error| {
                let path = self.parts.plugin_dir.clone();
                Err(ScanError {
                    path,
                    source: std::io::Error::other(error),
                })
            })
    }

    /// Looks at the plugin directory, or at one plugin in it: starts what is new, ends what is
    /// gone, and looks again at the rest. A plugin that is named is started anew in any case.
    /// Waits until each has settled.
    pub(crate) async fn rescan(
        self: &Arc<Self>,
        only: Option<&PluginId>,
    ) -> Result<Vec<Arc<Snapshot>>, ScanError> {
        let found = self.found().await?;
        let concerned = |plugin: &PluginId| only.is_none_or(|only| only == plugin);
        let known: Vec<(PluginId, Handle)> = self
            .plugins()
            .iter()
            .filter(|(plugin, _)| concerned(plugin))
            .map(|(plugin, handle)| (plugin.clone(), handle.clone()))
            .collect();
        let again = known.into_iter().map(|(plugin, handle)| {
            let present = found.contains(&plugin);
            async move {
                match (present, only) {
                    (false, only) => {
                        handle.command(Command::Stop).await;
                        self.forget(&plugin).await;
                        // Named, it was removed on purpose. One whose directory has merely gone
                        // may come again.
                        if only.is_some()
                            && let Err(error) = self.parts.store.clear_flags(&plugin).await
                        {
                            tracing::warn!(plugin.id = %plugin, error = %Chain(&error), "plugin's flags kept");
                        }
                    }
                    (true, Some(_)) => handle.command(Command::Restart).await,
                    (true, None) => handle.command(Command::Refresh).await,
                }
            }
        });
        join_all(again).await;
        let mut handles = Vec::new();
        for plugin in found.iter().filter(|plugin| concerned(plugin)) {
            handles.extend(self.start(plugin).await);
        }
        Ok(join_all(handles.iter().map(Handle::settled)).await)
    }

    /// The handle of a plugin, its task started if it is new; `None` where that cannot be.
    async fn start(self: &Arc<Self>, plugin: &PluginId) -> Option<Handle> {
        if let Some(handle) = self.handle(plugin) {
            return Some(handle);
        }
        let store = &self.parts.store;
        let known = async {
            let number = store.plugin_number(plugin).await?;
            Ok::<_, StoreError>((number, store.is_enabled(plugin).await?))
        };
        let (number, enabled) = match known.await {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(plugin.id = %plugin, error = %Chain(&error), "plugin not started");
                return None;
            }
        };
        let mut plugins = self.plugins();
        if let Some(handle) = plugins.get(plugin) {
            return Some(handle.clone());
        }
        if plugins.len() >= PLUGIN_LIMIT {
            tracing::error!(plugin.id = %plugin, limit = PLUGIN_LIMIT, "too many plugins, one left out");
            return None;
        }
        let (lifecycle, handle) = Lifecycle::new(plugin.clone(), number, enabled, Arc::clone(self));
        plugins.insert(plugin.clone(), handle.clone());
        self.parts.meters.of(plugin);
        self.tasks.spawn(lifecycle.run());
        Some(handle)
    }

    async fn forget(&self, plugin: &PluginId) {
        self.plugins().remove(plugin);
        self.parts.logs.forget(plugin);
        self.parts.meters.forget(plugin);
        self.parts.host.forget(plugin).await;
        if let Err(error) = self.parts.store.forget_plugin(plugin).await {
            tracing::warn!(plugin.id = %plugin, error = %Chain(&error), "plugin's number kept");
        }
    }

    /// Ends every plugin and waits for it.
    pub(crate) async fn stop(&self) {
        let handles: Vec<Handle> = self.plugins().values().cloned().collect();
        join_all(handles.iter().map(|handle| handle.command(Command::Stop))).await;
        self.plugins().clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Puts a plugin into the table; gives a line for each route that is not mounted.
    pub(crate) fn serve(&self, number: i64, snapshot: &Snapshot, started: &Started) -> Vec<String> {
        let policy = snapshot.policy.as_ref();
        let entry = Entry {
            plugin: snapshot.plugin.clone(),
            version: started.version.clone(),
            generation: snapshot.generation,
            routes: started.offer.routes.iter().cloned().map(Arc::new).collect(),
            instance: Arc::clone(&started.instance).as_instance(),
            call_timeout: policy
                .map(|policy| policy.timeouts.call)
                .unwrap_or_default()
                .0,
            calls_per_second: policy.and_then(|policy| policy.rates.calls_per_second),
            meter: Arc::clone(&self.parts.meters.of(&snapshot.plugin).calls),
        };
        let mut entries = lock(&self.entries);
        entries.insert(number, Arc::new(entry));
        let (table, conflicts) = Table::build(entries.values().cloned().collect());
        self.parts.table.store(Arc::new(table));
        conflicts
            .iter()
            .filter(|conflict| conflict.plugin == snapshot.plugin)
            .map(|conflict| Chain(conflict).to_string())
            .collect()
    }

    /// Takes a plugin out of the table.
    pub(crate) fn withdraw(&self, number: i64) {
        let mut entries = lock(&self.entries);
        if entries.remove(&number).is_some() {
            let (table, _) = Table::build(entries.values().cloned().collect());
            self.parts.table.store(Arc::new(table));
        }
    }

    fn plugins(&self) -> MutexGuard<'_, BTreeMap<PluginId, Handle>> {
        lock(&self.plugins)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directories in the plugin directory whose names are plugin names.
fn list(directory: &Path) -> Result<BTreeSet<PluginId>, ScanError> {
    let failed = |source| ScanError {
        path: directory.into(),
        source,
    };
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let plugin = name.to_str().and_then(|name| PluginId::parse(name).ok());
        match plugin {
            Some(plugin) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                found.insert(plugin);
            }
            _ => tracing::debug!(name = ?name, "not a plugin's directory"),
        }
    }
    Ok(found)
}
