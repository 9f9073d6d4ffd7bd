//! Plugins are found: the plugin directory is watched, and what changes in it is taken in once it
//! is still.
//!
//! A program that is half copied is staged like any other and does not come to serve; the old one
//! goes on, and the rest of the copy is the next change. Where the directory cannot be watched, it
//! is looked at every few seconds, and the fault is told once and shown until it is over.

mod fingerprint;
mod pending;
mod watcher;

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pinfold_policy::PluginId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::chain::Chain;
use fingerprint::fingerprint;
use pending::{Due, Pending};
use watcher::{Changed, Changes, WatchError, Watcher};

/// How long the daemon's start waits for the first watch, which a plugin directory that does not answer would keep it
/// from; and how long later ones may take before that is told.
const WATCH_LIMIT: Duration = Duration::from_secs(10);

/// What the plugin directory suffers from, for whoever shows warnings.
#[derive(Debug, Default)]
pub(crate) struct Fault(ArcSwapOption<String>);

impl Fault {
    /// The fault, with what to do.
    pub(crate) fn text(&self) -> Option<Arc<String>> {
        self.0.load_full()
    }

    /// Tells a fault, unless it is the one that was told last.
    pub(crate) fn tell(&self, error: &dyn std::error::Error) {
        let text = Chain(error).to_string();
        if self.text().is_none_or(|told| *told != text) {
            tracing::error!(error = %text, "plugin directory not watched, looked at now and then");
            self.0.store(Some(Arc::new(text)));
        }
    }

    fn is_over(&self) {
        if self.0.swap(None).is_some() {
            tracing::info!("plugin directory watched again");
        }
    }
}

/// The watch over the plugin directory.
pub(crate) struct Discovery {
    catalogue: Arc<Catalogue>,
    changes: Arc<Changes>,
    /// None where the directory cannot be watched.
    watcher: Option<Watcher>,
    /// What plugins' files looked like when the directory was last looked at because it is not
    /// watched.
    seen: HashMap<PluginId, u64>,
    pending: Pending,
}

impl Discovery {
    /// Begins to watch. What changes from now on is taken in once [`run`](Self::run) is; what
    /// lies there already is somebody else's to start.
    pub(crate) async fn begin(catalogue: Arc<Catalogue>) -> Self {
        let settings = catalogue.settings();
        let (debounce, longest) = (
            &settings.discovery.debounce,
            &settings.discovery.longest_wait,
        );
        let pending = Pending::new(debounce.0, longest.0);
        let mut discovery = Self {
            catalogue,
            changes: Arc::new(Changes::default()),
            watcher: None,
            seen: HashMap::new(),
            pending,
        };
        let watched = tokio::time::timeout(WATCH_LIMIT, discovery.watch()).await;
        if watched.is_err() {
            let path = discovery.catalogue.plugin_dir().to_owned();
            let silent = WatchError::Silent { path };
            discovery.catalogue.fault().tell(&silent);
        }
        discovery
    }

    /// Takes in what changes until `stop` is cancelled, also where a look is under way that gets no answer.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.take_in() => {}
        }
    }

    async fn take_in(&mut self) {
        let every = self.catalogue.settings().discovery.interval.0;
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next = self.pending.next();
            tokio::select! {
                changed = self.changes.next() => self.changed(changed).await,
                _ = ticks.tick() => self.tick().await,
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.look().await;
                }
            }
        }
    }

    async fn changed(&mut self, changed: Changed) {
        let Changed {
            plugins,
            all,
            not_watched,
        } = changed;
        if not_watched {
            // Part of what is below is not watched: nothing less than a whole watch counts.
            self.watcher = None;
            let path = self.catalogue.plugin_dir().to_owned();
            self.catalogue.fault().tell(&WatchError::Watches { path });
        }
        let now = Instant::now();
        for plugin in plugins {
            self.pending.changed(plugin, now);
        }
        if all {
            self.all_changed(None).await;
        }
    }

    /// Now and then: is what is watched still what lies there? Where nothing is watched, the
    /// directory is looked at; and what could not be started is looked at again.
    async fn tick(&mut self) {
        let catalogue = Arc::clone(&self.catalogue);
        let watch = {
            let mut watching = pin!(self.watch());
            match tokio::time::timeout(WATCH_LIMIT, &mut watching).await {
                Ok(watch) => watch,
                // Asked anew, it would not answer either, and keep another thread.
                Err(_) => {
                    let path = catalogue.plugin_dir().to_owned();
                    catalogue.fault().tell(&WatchError::Silent { path });
                    watching.await
                }
            }
        };
        match watch {
            // What could not be read a while ago may be readable again.
            Watch::Stands if self.catalogue.fault().text().is_some() => {
                self.all_changed(None).await;
            }
            Watch::Stands => {}
            // Before the watch began, anything may have happened.
            Watch::Begun => self.all_changed(None).await,
            Watch::Failed => self.look_around().await,
        }
        let now = Instant::now();
        for plugin in self.catalogue.take_put_off() {
            self.pending.changed(plugin, now);
        }
    }

    async fn watch(&mut self) -> Watch {
        let directory = self.catalogue.plugin_dir().to_owned();
        let before = self.watcher.take();
        let changes = Arc::clone(&self.changes);
        // Watching reads every directory below it.
        let watched = tokio::task::spawn_blocking(move || match before {
            Some(watcher) if watcher.is_in_place() => Ok((watcher, Watch::Stands)),
            _ => Watcher::new(&directory, changes).map(|watcher| (watcher, Watch::Begun)),
        });
        match watched.await {
            Ok(Ok((watcher, watch))) => {
                self.watcher = Some(watcher);
                self.seen.clear();
                watch
            }
            Ok(Err(error)) => {
                self.catalogue.fault().tell(&error);
                Watch::Failed
            }
            Err(error) => {
                tracing::error!(error = %error, "plugin directory not looked at");
                Watch::Failed
            }
        }
    }

    /// Compares every plugin's files with what they looked like before.
    async fn look_around(&mut self) {
        let Some(found) = self.found().await else {
            return;
        };
        let directory = self.catalogue.plugin_dir().to_owned();
        let looked = tokio::task::spawn_blocking(move || -> HashMap<PluginId, u64> {
            let prints = found.into_iter().map(|plugin| {
                let print = fingerprint(&directory.join(plugin.as_str()));
                (plugin, print)
            });
            prints.collect()
        });
        let Ok(looked) = looked.await else {
            return;
        };
        let before = std::mem::replace(&mut self.seen, looked);
        self.all_changed(Some(&before)).await;
    }

    /// Every plugin that is there or was, but for those that look as they did `before`.
    async fn all_changed(&mut self, before: Option<&HashMap<PluginId, u64>>) {
        let Some(found) = self.found().await else {
            return;
        };
        if self.watcher.is_some() {
            self.catalogue.fault().is_over();
        }
        let all: BTreeSet<PluginId> = found.into_iter().chain(self.catalogue.known()).collect();
        let now = Instant::now();
        for plugin in all {
            let is_as_before = before.is_some_and(|before| {
                let print = before.get(&plugin);
                print.is_some() && print == self.seen.get(&plugin)
            });
            if !is_as_before {
                self.pending.changed(plugin, now);
            }
        }
    }

    /// Begins to look at what is due.
    async fn look(&mut self) {
        let due = self.pending.take_due(Instant::now());
        let Some(found) = self.found().await else {
            return;
        };
        for due in due {
            match due {
                Due::Quiet(plugin) => {
                    let is_there = found.contains(&plugin);
                    self.catalogue.begin_look(plugin, is_there);
                }
                Due::Restless(plugin) => self.catalogue.begin_look_twice(plugin),
            }
        }
    }

    /// The plugins that have a directory. Where that cannot be said, nothing is done: plugins run
    /// from their sealed copies, and what cannot be read is no reason to end one.
    async fn found(&mut self) -> Option<BTreeSet<PluginId>> {
        match self.catalogue.found().await {
            Ok(found) => Some(found),
            Err(error) => {
                self.catalogue.fault().tell(&error);
                // What was to be looked at is not: once it can be read again, everything is.
                self.seen.clear();
                None
            }
        }
    }
}

/// How the watch is.
#[derive(Debug, PartialEq, Eq)]
enum Watch {
    Stands,
    Begun,
    Failed,
}
