//! What lies in the plugin directory, and taking it in: plugins come, change and go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use pinfold_policy::{Digest, PluginId};
use pinfold_sandbox::protocol::{Reply, Request};

use super::{Catalogue, PLUGIN_LIMIT};
use crate::chain::Chain;
use crate::lifecycle::{Command, Handle, Lifecycle, Trigger};
use crate::state::Snapshot;
use crate::store::StoreError;

/// How long the plugin directory may take to be read: the daemon's end waits for it as well.
const FOUND_LIMIT: Duration = Duration::from_secs(10);

/// The plugin directory cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the plugin directory {path}")]
pub(crate) struct ScanError {
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: std::io::Error,
}

impl ScanError {
    /// What an operator can take away, where that is why, and how.
    pub(crate) fn obstacle(&self) -> Option<(&'static str, &'static str)> {
        match self.source.kind() {
            std::io::ErrorKind::PermissionDenied => Some((
                "the daemon's user may not read it",
                "give it the daemon's group and mode 0750; running plugins go on meanwhile",
            )),
            std::io::ErrorKind::NotFound => Some((
                "it is not there",
                "put it back, or name another as plugin-dir; running plugins go on meanwhile",
            )),
            std::io::ErrorKind::TimedOut => Some((
                "its file system does not answer",
                "look after what it is mounted from; running plugins go on meanwhile",
            )),
            _ => None,
        }
    }
}

impl Catalogue {
    /// The plugins that have a directory now.
    pub(crate) async fn found(&self) -> Result<BTreeSet<PluginId>, ScanError> {
        let directory = self.parts.plugin_dir.clone();
        let listed = Arc::clone(&self.listed);
        let look = move || list(&directory).inspect(|found| listed.keep(found));
        let found = self.looks.within(FOUND_LIMIT, look);
        found.await.unwrap_or_else(|source| {
            let path = self.parts.plugin_dir.clone();
            Err(ScanError { path, source })
        })
    }

    /// The same after some were unloaded. Where it cannot be said the fault is told: everything is looked at when it is
    /// over.
    async fn found_again(&self) -> BTreeSet<PluginId> {
        let found = self.found().await;
        found
            .inspect_err(|error| self.fault.tell(error))
            .unwrap_or_default()
    }

    /// The same, or, where that cannot be said within `limit`, the plugins that had a directory when it last could,
    /// and those that have a task. `None` before the first time.
    pub(crate) async fn found_or_listed(&self, limit: Duration) -> Option<BTreeSet<PluginId>> {
        match tokio::time::timeout(limit, self.found()).await {
            Ok(Ok(found)) => Some(found),
            // Why it cannot be read is told elsewhere.
            _ => self.listed.with(self.known()),
        }
    }

    /// Looks at the plugin directory, or at one plugin in it: starts what is new, ends what is
    /// gone, and looks again at the rest. A plugin that is named is started anew in any case.
    /// Waits until each has settled.
    pub(crate) async fn rescan(
        self: &Arc<Self>,
        only: Option<&PluginId>,
    ) -> Result<Vec<Arc<Snapshot>>, ScanError> {
        let mut found = self.found().await?;
        let concerned = |plugin: &PluginId| only.is_none_or(|only| only == plugin);
        let known: Vec<(PluginId, Handle)> = self
            .plugins()
            .iter()
            .filter(|(plugin, _)| concerned(plugin))
            .map(|(plugin, handle)| (plugin.clone(), handle.clone()))
            .collect();
        let gone = known.iter().any(|(plugin, _)| !found.contains(plugin));
        let again = known.iter().map(|(plugin, handle)| {
            let present = found.contains(plugin);
            async move {
                match (present, only) {
                    (false, _) => self.unload(plugin, handle).await,
                    (true, Some(_)) => handle.command(Command::Restart).await,
                    (true, None) => handle.command(Command::Refresh).await,
                }
            }
        });
        join_all(again).await;
        // Named, it was removed on purpose, if not just now. One whose directory has merely gone may
        // come again.
        if let Some(plugin) = only.filter(|plugin| !found.contains(*plugin))
            && let Err(error) = self.parts.store.clear_flags(plugin).await
        {
            tracing::warn!(plugin.id = %plugin, error = %Chain(&error), "plugin's flags kept");
        }
        if gone {
            // They may have come again while their former selves were ended.
            found.extend(self.found_again().await);
        }
        let mut handles = Vec::new();
        for plugin in found.iter().filter(|plugin| concerned(plugin)) {
            handles.extend(self.start(plugin, Trigger::Refresh).await);
        }
        self.withdraw_absent(|plugin| found.contains(plugin));
        Ok(join_all(handles.iter().map(Handle::settled)).await)
    }

    /// The handle of a plugin, its task started if it is new; `None` where that cannot be.
    async fn start(self: &Arc<Self>, plugin: &PluginId, trigger: Trigger) -> Option<Handle> {
        if let Some(handle) = self.handle(plugin) {
            return Some(handle);
        }
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        if let Err(error) = self.reserve().await {
            return self.put_off(plugin, &error);
        }
        let store = &self.parts.store;
        let known = async {
            let number = store.plugin_number(plugin).await?;
            let enabled = store.is_enabled(plugin).await?;
            let routes = store.routes(plugin).await?;
            Ok::<_, StoreError>((number, enabled, routes))
        };
        let (number, enabled, routes) = match known.await {
            Ok(known) => known,
            Err(error) => return self.put_off(plugin, &error),
        };
        let mut plugins = self.plugins();
        if let Some(handle) = plugins.get(plugin) {
            return Some(handle.clone());
        }
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        if plugins.len() >= PLUGIN_LIMIT {
            self.put_off.is_over(plugin);
            tracing::error!(plugin.id = %plugin, limit = PLUGIN_LIMIT, "too many plugins, one left out");
            return None;
        }
        let (lifecycle, handle) = Lifecycle::new(plugin.clone(), number, enabled, Arc::clone(self));
        plugins.insert(plugin.clone(), handle.clone());
        self.parts.meters.of(plugin);
        // Under the lock, as it is put off: or it might be just after it has got its task.
        self.put_off.is_over(plugin);
        drop(plugins);
        self.place_closed(number, plugin, routes, handle.observe());
        self.tasks.spawn(lifecycle.run(trigger));
        Some(handle)
    }

    /// Has the watch look at a plugin again that cannot be started now, unless somebody else has started it.
    fn put_off(&self, plugin: &PluginId, error: &dyn std::error::Error) -> Option<Handle> {
        let plugins = self.plugins();
        let started = plugins.get(plugin).cloned();
        let is_new = started.is_none() && self.put_off.put(plugin);
        drop(plugins);
        if is_new {
            tracing::error!(plugin.id = %plugin, error = %Chain(error), "plugin not started, tried until it is");
        }
        started
    }

    /// The plugins that are to be looked at again, which they are not any more when this returns.
    pub(crate) fn take_put_off(&self) -> Vec<PluginId> {
        self.put_off.take_due()
    }

    /// How many plugins are there that could not be started yet.
    pub(crate) fn count_put_off(&self) -> usize {
        self.put_off.count()
    }

    /// Ends a plugin and forgets it, if `handle` is its newest.
    async fn unload(&self, plugin: &PluginId, handle: &Handle) {
        handle.command(Command::Stop).await;
        {
            let mut plugins = self.plugins();
            if !plugins.get(plugin).is_some_and(|known| known.is(handle)) {
                return;
            }
            plugins.remove(plugin);
        }
        self.parts.logs.forget(plugin);
        self.parts.meters.forget(plugin);
        self.parts.host.forget(plugin).await;
        if let Err(error) = self.parts.store.forget_plugin(plugin).await {
            tracing::warn!(plugin.id = %plugin, error = %Chain(&error), "plugin's number kept");
        }
    }

    /// Begins to take in what has become of one plugin's files, which have been still for a while.
    pub(crate) fn begin_look(self: &Arc<Self>, plugin: PluginId, is_there: bool) {
        let catalogue = Arc::clone(self);
        self.tasks
            .spawn(async move { catalogue.look(&plugin, is_there).await });
    }

    /// The same for files that go on changing: they are taken in if they are the same twice, and
    /// left for their next change otherwise.
    pub(crate) fn begin_look_twice(self: &Arc<Self>, plugin: PluginId) {
        let catalogue = Arc::clone(self);
        self.tasks.spawn(async move {
            let Some(first) = catalogue.digest(&plugin).await else {
                return catalogue.put_off.not_looked(&plugin);
            };
            tokio::time::sleep(catalogue.settings().discovery.debounce.0).await;
            if catalogue.digest(&plugin).await == Some(first) {
                catalogue.look(&plugin, true).await;
            } else {
                catalogue.put_off.not_looked(&plugin);
                tracing::warn!(plugin.id = %plugin, "plugin's files keep changing, not taken in yet");
            }
        });
    }

    async fn look(self: &Arc<Self>, plugin: &PluginId, is_there: bool) {
        match (self.handle(plugin), is_there) {
            (Some(handle), true) => handle.changed().await,
            (Some(handle), false) => {
                self.unload(plugin, &handle).await;
                // It may have come again while its former self was ended.
                if self.found_again().await.contains(plugin) {
                    self.start(plugin, Trigger::Files).await;
                }
            }
            (None, true) => {
                self.start(plugin, Trigger::Files).await;
            }
            (None, false) => {
                self.put_off.is_over(plugin);
                self.withdraw_absent(|other| other != plugin);
            }
        }
    }

    async fn digest(&self, plugin: &PluginId) -> Option<Digest> {
        let plugin = plugin.clone();
        match self.launcher().ask(Request::Stage { plugin }).await {
            Ok(Reply::Staged { digest, .. }) => Some(digest),
            _ => None,
        }
    }
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
