//! The daemon as the administration API sees it.

mod change;
mod posture;
mod view;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use pinfold_gateway::admin::dto::{
    CreatedToken, DaemonState, EventQuery, EventView, LogFilterView, LogLevel, LogQuery, LogRecord,
    NewLogFilter, NewToken, PluginDetail, PluginView, PostureView, RecordId, RescanQuery,
    StatusView, TokenView, UsageView,
};
use pinfold_gateway::admin::{Control, ControlError, ControlFuture, Following, LogsOfAll};
use pinfold_gateway::{Actor, CallError, Shared};
use pinfold_policy::{CallContext, PluginId};
use pinfold_sandbox::posture::Posture;
use pinfold_sandbox::protocol::{Reply, Request};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalogue::Catalogue;
use crate::chain::Chain;
use crate::follow::{self, Place};
use crate::launcher::LauncherError;
use crate::log_filter::LogFilter;
use crate::metrics::{self, Resources, Sample};
use crate::state::Snapshot;
use crate::store::Store;
use crate::store::StoreError;
use crate::tokens::KnownTokens;

use change::Change;

/// What the administration works on.
pub(crate) struct Administration {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) table: Shared,
    pub(crate) tokens: Arc<KnownTokens>,
    pub(crate) store: Store,
    /// Where records for the audit trail wait.
    pub(crate) pending_records: PathBuf,
    /// What the daemon's own log goes by.
    pub(crate) log_filter: Arc<LogFilter>,
    pub(crate) since: DateTime<Utc>,
    /// `service` or `development`, and `user` where the launcher is no root.
    pub(crate) mode: &'static str,
    /// URL of the gateway.
    pub(crate) url: String,
    pub(crate) phase: Phase,
    /// Whether every plugin that was there at the start has been started or has failed.
    pub(crate) are_started: AtomicBool,
    /// What the machine gives, as it was found last.
    pub(crate) posture: ArcSwap<Option<Posture>>,
    pub(crate) resources: Resources,
    /// Process of the launcher, where this daemon started it.
    pub(crate) launcher_pid: Option<u32>,
    /// Places for those who follow.
    pub(crate) followers: Arc<Semaphore>,
    /// Cancelled when the daemon ends: nothing is followed any longer.
    pub(crate) stopping: CancellationToken,
    /// Changes that were begun, which go on although their client is gone.
    pub(crate) changes: TaskTracker,
}

/// What the daemon is doing, for readiness.
#[derive(Debug, Default)]
pub(crate) struct Phase(AtomicU8);

impl Phase {
    pub(crate) fn set(&self, state: DaemonState) {
        let number = match state {
            DaemonState::Starting => 0,
            DaemonState::Ready => 1,
            DaemonState::Draining => 2,
        };
        self.0.store(number, Ordering::Release);
    }

    fn state(&self) -> DaemonState {
        match self.0.load(Ordering::Acquire) {
            0 => DaemonState::Starting,
            1 => DaemonState::Ready,
            _ => DaemonState::Draining,
        }
    }
}

impl Administration {
    /// Plugins that have yet to be started, or to fail, for the first time since the daemon's start; 0
    /// once all have.
    pub(crate) fn still_starting(&self) -> usize {
        if self.are_started.load(Ordering::Acquire) {
            return 0;
        }
        let plugins = self.catalogue.snapshots().into_iter();
        plugins.filter(|plugin| !plugin.state.is_settled()).count()
    }
}

impl Control for Administration {
    fn status(&self) -> StatusView {
        let (mut plugins, mut handover) = (BTreeMap::new(), BTreeMap::new());
        for snapshot in self.catalogue.snapshots() {
            *plugins
                .entry(snapshot.state.as_str().to_owned())
                .or_default() += 1;
            if let Some(left) = &snapshot.left {
                *handover.entry(left.as_str().to_owned()).or_default() += 1;
            }
        }
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            state: self.phase.state(),
            since: self.since,
            pid: std::process::id(),
            mode: self.mode.into(),
            listeners: vec![self.url.clone()],
            plugins,
            still_starting: self.still_starting(),
            handover,
            warnings: self.warnings(),
            log: Some(self.log_filter.view()),
        }
    }

    fn plugins(&self) -> Vec<PluginView> {
        self.catalogue
            .snapshots()
            .iter()
            .map(|snapshot| view::view(snapshot))
            .collect()
    }

    fn plugin(&self, plugin: &PluginId) -> Option<PluginDetail> {
        self.catalogue
            .handle(plugin)
            .map(|handle| self.detail(&handle.snapshot()))
    }

    fn stats<'a>(&'a self, plugin: &'a PluginId) -> ControlFuture<'a, BTreeMap<String, u64>> {
        async move {
            let running = self
                .catalogue
                .handle(plugin)
                .and_then(|h| h.snapshot().running.clone());
            let Some(running) = running else {
                return Ok(BTreeMap::new());
            };
            let request = Request::Stats {
                instance: running.instance,
            };
            match self.catalogue.launcher().ask(request).await {
                Ok(Reply::Stats(stats)) => Ok(view::stats_by_name(&stats)),
                // It may have ended meanwhile.
                Ok(_) | Err(LauncherError::Failed(_)) => Ok(BTreeMap::new()),
                Err(error) => Err(ControlError::Failed {
                    action: "ask the launcher",
                    cause: Chain(&error).to_string(),
                }),
            }
        }
        .boxed()
    }

    fn trust_lost<'a>(&'a self, plugin: &'a PluginId) -> ControlFuture<'a, Option<String>> {
        async move {
            match self.catalogue.handle(plugin) {
                Some(handle) => change::lost(&self.catalogue, &handle.snapshot()).await,
                None => Ok(None),
            }
        }
        .boxed()
    }

    fn usage(&self) -> ControlFuture<'_, UsageView> {
        async move { Ok(self.sample().await.view()) }.boxed()
    }

    fn metrics(&self) -> ControlFuture<'_, String> {
        async move { Ok(metrics::expose(self.sample().await)) }.boxed()
    }

    fn logs(&self, plugin: &PluginId, query: LogQuery) -> Vec<LogRecord> {
        let handle = self.catalogue.handle(plugin);
        handle.map_or_else(Vec::new, |handle| handle.log().newest(query))
    }

    fn logs_of_all(
        &self,
        plugin: Option<&PluginId>,
        levels: &[LogLevel],
        limit: usize,
    ) -> LogsOfAll {
        let mut all = LogsOfAll::default();
        for snapshot in self.catalogue.snapshots() {
            let id = &snapshot.plugin;
            let Some(handle) = self.catalogue.handle(id) else {
                continue;
            };
            all.total = all.total.saturating_add(handle.log().kept());
            if plugin.is_some_and(|only| only != id) {
                continue;
            }
            let records = handle.log().newest_of(levels, limit).into_iter();
            all.records
                .extend(records.map(|record| (id.clone(), record)));
            // After each plugin, so that never more than twice the limit is held.
            all.records.sort_by_key(|(_, record)| Reverse(record.time));
            all.records.truncate(limit);
        }
        all
    }

    fn follow_logs(&self, plugin: &PluginId, query: LogQuery) -> Result<Following, ControlError> {
        let handle = self.catalogue.handle(plugin);
        let handle = handle.ok_or_else(|| ControlError::UnknownPlugin {
            plugin: plugin.clone(),
        })?;
        Ok(follow::logs(handle.log(), query, self.follower()?))
    }

    fn events(&self, query: &EventQuery) -> Vec<EventView> {
        follow::latest(self.catalogue.events(), query)
    }

    fn follow_events(&self, query: &EventQuery) -> Result<Following, ControlError> {
        let place = self.follower()?;
        Ok(follow::events(self.catalogue.events(), query, place))
    }

    fn enable<'a>(&'a self, plugin: &'a PluginId, actor: Actor) -> ControlFuture<'a, PluginDetail> {
        self.change(plugin, Change::Enable, actor).boxed()
    }

    fn disable<'a>(
        &'a self,
        plugin: &'a PluginId,
        actor: Actor,
    ) -> ControlFuture<'a, PluginDetail> {
        self.change(plugin, Change::Disable, actor).boxed()
    }

    fn reload<'a>(&'a self, plugin: &'a PluginId, actor: Actor) -> ControlFuture<'a, PluginDetail> {
        self.change(plugin, Change::Reload, actor).boxed()
    }

    fn call<'a>(
        &'a self,
        plugin: &'a PluginId,
        function: &'a str,
        arguments: Bytes,
        context: CallContext,
        actor: Actor,
    ) -> ControlFuture<'a, Bytes> {
        async move {
            let subject = format!("{plugin} {}", function.chars().take(80).collect::<String>());
            change::record(
                &self.store,
                &actor,
                "admin.plugin.call",
                subject,
                Some(plugin),
            )
            .await?;
            // Its own entry alone is held during the call: an instance is ended when nobody holds it.
            let entry = self.table.load().entry(plugin).cloned();
            let Some(entry) = entry else {
                let handle = self.catalogue.handle(plugin);
                let handle = handle.ok_or_else(|| ControlError::UnknownPlugin {
                    plugin: plugin.clone(),
                })?;
                let snapshot = handle.snapshot();
                let source = if snapshot.enabled {
                    CallError::NotReady {
                        state: snapshot.state.as_str().to_owned(),
                    }
                } else {
                    CallError::Disabled
                };
                return Err(ControlError::Call {
                    plugin: plugin.clone(),
                    source,
                });
            };
            let called = entry.call(function, arguments, context).await;
            called.map_err(|source| ControlError::Call {
                plugin: plugin.clone(),
                source,
            })
        }
        .boxed()
    }

    fn rescan(
        &self,
        plugin: Option<PluginId>,
        why: RescanQuery,
        actor: Actor,
    ) -> ControlFuture<'_, Vec<PluginDetail>> {
        self.look_again(plugin, why, actor).boxed()
    }

    fn take_record(&self, record: RecordId) -> ControlFuture<'_, ()> {
        self.take_in(record).boxed()
    }

    fn posture(&self, plugin: Option<PluginId>) -> ControlFuture<'_, PostureView> {
        async move {
            let posture = self
                .probe(plugin.clone())
                .await
                .map_err(|error| match error {
                    LauncherError::Failed(failure) => ControlError::Invalid {
                        what: "posture",
                        reason: failure.message,
                    },
                    error => ControlError::Failed {
                        action: "ask the launcher",
                        cause: Chain(&error).to_string(),
                    },
                })?;
            Ok(view::posture_view(plugin, posture))
        }
        .boxed()
    }

    fn log_filter(&self) -> LogFilterView {
        self.log_filter.view()
    }

    fn set_log_filter(
        &self,
        filter: Option<NewLogFilter>,
        actor: Actor,
    ) -> ControlFuture<'_, LogFilterView> {
        self.filter_log(filter, actor).boxed()
    }

    fn create_token(&self, token: NewToken, actor: Actor) -> ControlFuture<'_, CreatedToken> {
        self.make_token(token, actor).boxed()
    }

    fn list_tokens(&self) -> ControlFuture<'_, Vec<TokenView>> {
        async move {
            self.tokens
                .list()
                .await
                .map_err(|error| not_stored("list tokens", &error))
        }
        .boxed()
    }

    fn revoke_token(&self, id: String, actor: Actor) -> ControlFuture<'_, ()> {
        self.end_token(id, actor).boxed()
    }
}

impl Administration {
    /// A place among those who follow.
    fn follower(&self) -> Result<Place, ControlError> {
        let permit = Arc::clone(&self.followers).try_acquire_owned();
        Ok(Place {
            _permit: permit.map_err(|_| ControlError::Followers {
                limit: follow::FOLLOWERS,
            })?,
            stopping: self.stopping.clone(),
        })
    }

    async fn sample(&self) -> Sample {
        let posture = self.posture.load_full();
        metrics::sample(
            &self.catalogue,
            &self.resources,
            self.launcher_pid,
            Option::as_ref(&posture),
        )
        .await
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = match self.posture.load().as_ref() {
            Some(posture) => view::warnings(posture),
            None => vec!["the posture is unknown: the log says why".into()],
        };
        let fault = self.catalogue.fault().text();
        warnings.extend(fault.map(|fault| format!("plugin directory: {fault}")));
        let put_off = self.catalogue.count_put_off();
        if put_off > 0 {
            warnings.push(format!(
                "not started yet: {put_off} of the plugins; the log says why"
            ));
        }
        let snapshots = self.catalogue.snapshots();
        warnings.extend(snapshots.iter().filter_map(|one| view::watched(one)));
        warnings
    }

    fn detail(&self, snapshot: &Snapshot) -> PluginDetail {
        let manifest = snapshot.manifest.as_ref();
        let registered = snapshot.registered.as_ref();
        let lines = |permissions: &pinfold_policy::Permissions| -> Vec<String> {
            permissions.lines().into_iter().collect()
        };
        let missing = snapshot
            .running
            .as_ref()
            .map(|running| running.missing.as_slice());
        let posture = self.posture.load();
        PluginDetail {
            view: view::view(snapshot),
            digest: snapshot.digest.map(|digest| digest.to_string()),
            pid: snapshot.running.as_ref().map(|running| running.pid),
            taken_over: snapshot.running.as_ref().is_some_and(|one| one.taken_over),
            handover: snapshot.left.as_ref().map(view::handover),
            manifest: manifest.map(view::manifest_texts).unwrap_or_default(),
            asked_by_manifest: manifest.map(|m| lines(&m.asked)).unwrap_or_default(),
            asked_by_registration: registered.and_then(|r| r.asked.as_ref()).map(lines),
            granted: snapshot
                .policy
                .as_ref()
                .map(|p| lines(&p.permissions))
                .unwrap_or_default(),
            differences: snapshot.differences(),
            refused: registered
                .map(|r| r.offer.refused.clone())
                .unwrap_or_default(),
            limits: snapshot
                .policy
                .as_ref()
                .map(view::limits)
                .unwrap_or_default(),
            missing_controls: missing
                .unwrap_or_default()
                .iter()
                .map(|id| view::missing_view(id, posture.as_ref().as_ref()))
                .collect(),
            last_exit: snapshot.last_exit.clone(),
            restarts: snapshot.restarts,
            next_start: snapshot.next_start,
            health: snapshot.health.as_ref().map(view::health),
            rejected: snapshot.rejected.as_ref().map(view::rejected),
            stats: BTreeMap::new(),
            urls: registered
                .map(|r| &r.offer.routes)
                .into_iter()
                .flatten()
                .map(|route| format!("{} {}{}", route.method.as_str(), self.url, route.path))
                .collect(),
        }
    }
}

fn not_stored(action: &'static str, error: &StoreError) -> ControlError {
    let cause = Chain(error).to_string();
    match error.obstacle() {
        Some(obstacle) => ControlError::Obstructed {
            action,
            obstacle: obstacle.text(),
            hint: obstacle.hint(),
            cause,
        },
        None => ControlError::Failed { action, cause },
    }
}
