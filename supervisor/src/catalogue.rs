//! Every plugin that is known, and the table of what serves now.

mod change;
mod entry;
mod left;
mod listed;
mod looks;
mod put_off;
mod refused;
mod reserve;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use pinfold_gateway::{Entry, RouteConflict, Shared, Table};
use pinfold_hostapi::HostApi;
use pinfold_policy::{Generation, PluginId, PolicyFile, Route};
use tokio::sync::{OnceCell, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain::Chain;
use crate::config::LifeSettings;
use crate::development::DevelopmentGrants;
use crate::dialect::{self, Dialect, Started};
use crate::discovery::Fault;
use crate::events::Events;
use crate::launcher::Launcher;
use crate::lifecycle::{Command, END_BEYOND_TIMEOUTS, Handle, Turns};
use crate::logs::Logs;
use crate::meters::Meters;
use crate::state::Snapshot;
use crate::store::audit::Trail;
use crate::store::{Store, StoreError};

pub(crate) use change::ChangeError;
pub(crate) use scan::ScanError;

use listed::Listed;
use looks::Looks;
use put_off::PutOff;
use refused::Refused;

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
    pub(crate) trail: Trail,
    pub(crate) settings: LifeSettings,
}

/// The plugins and what they share.
pub(crate) struct Catalogue {
    parts: Parts,
    dialects: Vec<Arc<dyn Dialect>>,
    plugins: Mutex<BTreeMap<PluginId, Handle>>,
    /// By the order in which plugins were first seen: of two that declare the same route, the
    /// elder keeps it.
    entries: Mutex<BTreeMap<i64, Arc<Entry>>>,
    refused: Refused,
    /// Set once the routes of those that have served before are in the table.
    reserved: OnceCell<()>,
    /// Set once something of a plugin could be written.
    written: OnceCell<()>,
    /// Plugins that the watch has looked at again, until each has its task.
    put_off: PutOff,
    looks: Looks,
    /// Shared with looks that nobody waits for any more.
    listed: Arc<Listed>,
    settings: ArcSwap<LifeSettings>,
    events: Events,
    fault: Fault,
    turns: Turns,
    /// Set under the lock of `plugins`, once none may come any more.
    stopping: AtomicBool,
    tasks: TaskTracker,
}

/// What came of putting an instance into the table.
pub(crate) struct Placed {
    /// Cancelled when nobody holds the instance any more.
    pub(crate) released: CancellationToken,
    /// Its routes that are not mounted, a line each.
    pub(crate) not_mounted: Vec<String>,
}

impl Catalogue {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let turns = Turns::new(parts.settings.starts_at_once);
        Arc::new(Self {
            settings: ArcSwap::from_pointee(parts.settings.clone()),
            parts,
            dialects: dialect::all(),
            plugins: Mutex::default(),
            entries: Mutex::default(),
            refused: Refused::default(),
            reserved: OnceCell::new(),
            written: OnceCell::new(),
            put_off: PutOff::default(),
            looks: Looks::default(),
            listed: Arc::default(),
            events: Events::default(),
            fault: Fault::default(),
            turns,
            stopping: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        })
    }

    pub(crate) fn launcher(&self) -> &Arc<Launcher> {
        &self.parts.launcher
    }

    /// Whether the start of a plugin can be recorded: looked at once, or `anew`.
    pub(crate) async fn check_written(
        &self,
        plugin: &PluginId,
        anew: bool,
    ) -> Result<(), StoreError> {
        let check = || self.store().check_written(plugin);
        match anew {
            true => check().await,
            false => self.written.get_or_try_init(check).await.copied(),
        }
    }

    pub(crate) fn host(&self) -> &Arc<HostApi> {
        &self.parts.host
    }

    /// Where records that are committed at once go.
    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Where records that can wait a moment go.
    pub(crate) fn trail(&self) -> &Trail {
        &self.parts.trail
    }

    /// What plugins' lives go by, as of now.
    pub(crate) fn settings(&self) -> Arc<LifeSettings> {
        self.settings.load_full()
    }

    /// Has plugins' lives go by these from their next step on.
    pub(crate) fn set_settings(&self, settings: LifeSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// Where plugins lie.
    pub(crate) fn plugin_dir(&self) -> &Path {
        &self.parts.plugin_dir
    }

    /// What the plugin directory suffers from.
    pub(crate) fn fault(&self) -> &Fault {
        &self.fault
    }

    /// How plugins take turns in starting.
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
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

    /// How long the end of every plugin may take by their policies: calls under way, then each
    /// plugin's own end and that of its jail, all of them at the same time.
    pub(crate) fn longest_end(&self) -> Duration {
        let plugins = self.snapshots().into_iter();
        let ends = plugins.filter_map(|plugin| {
            let times = &plugin.policy.as_ref()?.timeouts;
            let end = times.call.0.saturating_add(times.shutdown.0);
            let end = end.saturating_add(times.quit.0);
            Some(end.saturating_add(END_BEYOND_TIMEOUTS))
        });
        ends.max().unwrap_or_default()
    }

    /// The plugins that have a task, by name.
    pub(crate) fn known(&self) -> BTreeSet<PluginId> {
        self.plugins().keys().cloned().collect()
    }

    /// Leaves every plugin that can be left to the next daemon, and ends the others.
    pub(crate) async fn hand_over(&self) {
        match self.launcher().hand_over().await {
            Ok(limit) => {
                tracing::info!(?limit, "leaving plugins to the next daemon");
                self.end(Command::HandOver).await;
            }
            Err(error) => {
                tracing::info!(error = %Chain(&error), "plugins end with this daemon: the launcher does not keep them");
                self.stop().await;
            }
        }
    }

    /// Ends every plugin and waits for it.
    pub(crate) async fn stop(&self) {
        self.end(Command::Stop).await;
    }

    /// Ends every plugin's task in this way.
    async fn end(&self, how: fn(oneshot::Sender<()>) -> Command) {
        let handles: Vec<Handle> = {
            let plugins = self.plugins();
            self.stopping.store(true, Ordering::Relaxed);
            plugins.values().cloned().collect()
        };
        join_all(handles.iter().map(|handle| handle.command(how))).await;
        self.plugins().clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Puts an instance into the table, in the place of the plugin's former one.
    pub(crate) fn serve(
        &self,
        number: i64,
        plugin: &PluginId,
        generation: Generation,
        policy: &PolicyFile,
        started: &Started,
    ) -> Placed {
        let (instance, released) = entry::held(Arc::clone(&started.instance).as_instance());
        let entry = Entry {
            plugin: plugin.clone(),
            version: started.version.clone(),
            generation,
            routes: started.offer.routes.iter().cloned().map(Arc::new).collect(),
            instance,
            call_timeout: policy.timeouts.call.0,
            calls_per_second: policy.rates.calls_per_second,
            meter: Arc::clone(&self.parts.meters.of(plugin).calls),
        };
        let conflicts = self.change_table(Some(plugin), |entries| {
            entries.insert(number, Arc::new(entry));
        });
        let own = conflicts
            .iter()
            .filter(|conflict| conflict.plugin == *plugin);
        Placed {
            released,
            not_mounted: own.map(|conflict| Chain(conflict).to_string()).collect(),
        }
    }

    /// Leaves a plugin's routes in the table, with an answer that says what it is.
    pub(crate) fn close(&self, number: i64, snapshot: watch::Receiver<Arc<Snapshot>>) {
        self.change_table(None, |entries| {
            if let Some(entry) = entries.get_mut(&number) {
                *entry = Arc::new(entry::closed(entry, snapshot));
            }
        });
    }

    /// Puts a plugin that is down into the table, with its routes as they were when it served last.
    fn place_closed(
        &self,
        number: i64,
        plugin: &PluginId,
        routes: Vec<Route>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
    ) {
        if routes.is_empty() {
            return;
        }
        let entry = Entry {
            plugin: plugin.clone(),
            version: String::new(),
            generation: Generation(0),
            routes: routes.into_iter().map(Arc::new).collect(),
            instance: entry::nobody(snapshot),
            call_timeout: Duration::ZERO,
            calls_per_second: None,
            meter: Arc::clone(&self.parts.meters.of(plugin).calls),
        };
        self.change_table(Some(plugin), |entries| {
            entries.insert(number, Arc::new(entry));
        });
    }

    /// Takes a plugin out of the table.
    pub(crate) fn withdraw(&self, number: i64) {
        self.change_table(None, |entries| {
            entries.remove(&number);
        });
    }

    /// Builds the table anew and swaps it by one atomic store. Which routes others than `of` lose by it is told.
    fn change_table(
        &self,
        of: Option<&PluginId>,
        change: impl FnOnce(&mut BTreeMap<i64, Arc<Entry>>),
    ) -> Vec<RouteConflict> {
        let mut entries = lock(&self.entries);
        change(&mut entries);
        let (table, conflicts) = Table::build(entries.values().cloned().collect());
        self.parts.table.store(Arc::new(table));
        let lost = self.refused.replace(&conflicts, of);
        drop(entries);
        for (plugin, lost) in lost {
            tracing::warn!(plugin.id = %plugin, routes = lost.routes, reason = %lost.first, "routes served no more");
        }
        conflicts
    }

    fn plugins(&self) -> MutexGuard<'_, BTreeMap<PluginId, Handle>> {
        lock(&self.plugins)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
