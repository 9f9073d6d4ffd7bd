//! The daemon: its parts built, run, and ended in order.

mod asked;
mod error;
mod sockets;
mod status_line;

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use chrono::Utc;
use pinfold_gateway::admin::dto::{DaemonState, NewToken};
use pinfold_gateway::admin::{Control, serve_unix};
use pinfold_gateway::{Compat, Gateway, GatewayConfig, ListForm, Table};
use pinfold_hostapi::{Cache, Databases, HostApi, HttpClient, Services};
use pinfold_policy::{LauncherConfig, User};
use pinfold_sandbox::client::{Client, ClientError};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::asked::Asked;
pub use self::error::RunError;
use self::error::{GatewayEnd, begin};
use self::sockets::{HELD, admin_socket, gateway_listener, when_started};
use self::status_line::status_line;
use crate::catalogue::{Catalogue, Parts};
use crate::chain::Chain;
use crate::config::{Config, PluginList};
use crate::control::{Administration, Phase};
use crate::development::{self, DevelopmentGrants};
use crate::discovery::Discovery;
use crate::follow::FOLLOWERS;
use crate::heap;
use crate::launcher::Launcher;
use crate::log_filter::LogFilter;
use crate::logs::Logs;
use crate::manager::{self, Sockets};
use crate::meters::Meters;
use crate::metrics::Resources;
use crate::pending::Pending;
use crate::place::Place;
use crate::plugin_calls::TableCalls;
use crate::recorder::Recorder;
use crate::reload::Reload;
use crate::store::{self, Store};
use crate::telemetry::LogControl;
use crate::tokens::KnownTokens;

/// What the daemon was started with, as far as it is known before the first thread.
pub struct Start {
    /// Where things are.
    pub place: Place,
    /// Its configuration.
    pub config: Config,
    /// The launcher's configuration, of which the daemon needs the directories.
    pub launcher_config: LauncherConfig,
    /// The connection to the launcher.
    pub client: Client,
    /// The launcher, where this daemon started it.
    pub launcher: Option<Child>,
    /// The listening sockets that a service manager made.
    pub sockets: Sockets,
    /// The log, whose filter can be changed.
    pub log: LogControl,
    /// Whether this is a developer's installation.
    pub development: bool,
    /// Whether everything belongs to the user who started it: no root was given up, and the
    /// administration socket is that user's alone.
    pub own_user: bool,
}

/// Runs until SIGTERM or SIGINT, until SIGUSR2, after which it leaves its plugins to the next daemon
/// where the launcher keeps them, or until the launcher is gone.
///
/// # Errors
/// [`RunError`].
pub async fn run(mut start: Start) -> Result<(), RunError> {
    let mut child = start.launcher.take();
    let outcome = serve(start, &mut child).await;
    if let Some(child) = child {
        // It has lost its connection. Whoever starts both again must not find it still there.
        wait_for(child).await;
    }
    outcome
}

async fn serve(start: Start, child: &mut Option<Child>) -> Result<(), RunError> {
    let Start {
        place,
        config,
        launcher_config,
        client,
        launcher: _,
        sockets,
        log,
        development,
        own_user,
    } = start;
    let mut asked = Asked::listen().map_err(begin("receive signals"))?;
    let _held = lock(&place.state)?;
    let marker = place.unfinished_restore();
    if marker.exists() {
        return Err(RunError::Unfinished { marker });
    }
    if development {
        development::seed(&place)
            .await
            .map_err(begin("seed the demonstration database"))?;
    }
    let Some(store) = open_store(&place, &mut asked).await? else {
        return Ok(());
    };
    let tokens = Arc::new(
        KnownTokens::load(store.clone())
            .await
            .map_err(RunError::Store)?,
    );
    let (trail, writer) = store::audit::trail(&store);
    let meters = Arc::new(Meters::new(&gateway_config(&config)));
    let recorder = Arc::new(Recorder {
        trail: trail.clone(),
        meters: Arc::clone(&meters),
    });
    let logs = Arc::new(Logs::default());
    let table = Arc::new(ArcSwap::from_pointee(Table::default()));
    let calls = TableCalls::new(Arc::clone(&table));
    let host = host_api(&place, &config, &logs, &recorder, &calls).await?;
    let launcher = Launcher::new(client).map_err(begin("open the launcher's socket"))?;
    let catalogue = Catalogue::new(Parts {
        launcher: Arc::clone(&launcher),
        host,
        logs,
        meters: Arc::clone(&meters),
        table: Arc::clone(&table),
        plugin_dir: launcher_config.plugin_dir.clone(),
        grants: DevelopmentGrants::of(
            &launcher_config,
            // The launcher was started with this process's environment.
            std::env::var(pinfold_policy::REQUIRE_SIGNATURES)
                .ok()
                .as_deref(),
        ),
        store: store.clone(),
        trail: trail.clone(),
        settings: config.life(),
    });
    calls.set_catalogue(&catalogue);
    let is_passed = sockets.gateway.is_some();
    let (listener, address) = gateway_listener(&config, sockets.gateway).await?;
    let stop = CancellationToken::new();
    let log_filter = LogFilter::new(log, &config.log);
    let administration = Arc::new(Administration {
        log_filter: Arc::clone(&log_filter),
        catalogue: Arc::clone(&catalogue),
        table: Arc::clone(&table),
        tokens: Arc::clone(&tokens),
        store: store.clone(),
        pending_records: place.pending_records(),
        since: Utc::now(),
        mode: if development {
            "development"
        } else {
            "service"
        },
        url: format!("http://{address}"),
        phase: Phase::default(),
        are_started: AtomicBool::new(false),
        posture: ArcSwap::default(),
        resources: Resources::default(),
        launcher_pid: child.as_ref().map(Child::id),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        stopping: stop.clone(),
        changes: TaskTracker::new(),
    });
    let gateway = Gateway::new(
        gateway_config(&config),
        Arc::clone(&table),
        Arc::clone(&tokens) as _,
        Arc::clone(&administration) as _,
        Arc::clone(&recorder) as _,
    );
    // One that a service manager made stays there when this process ends.
    let is_our_socket = sockets.admin.is_none();
    let admin_socket = match sockets.admin {
        Some(socket) => UnixListener::from_std(socket).map_err(begin("take the passed socket"))?,
        None => admin_socket(&place, !own_user)?,
    };

    let tasks = TaskTracker::new();
    let mut receiving = tokio::spawn({
        let launcher = Arc::clone(&launcher);
        async move { launcher.receive().await }
    });
    let written = CancellationToken::new();
    let writing = tokio::spawn(writer.run(written.clone()));
    let started = CancellationToken::new();
    let until = is_passed.then(|| started.clone());
    let mut served = tasks.spawn(when_started(until, gateway.serve(listener, stop.clone())));
    let control: Arc<dyn Control> = Arc::clone(&administration) as _;
    let admin_config = gateway_config(&config);
    let admin_stop = stop.clone();
    tasks.spawn(async move {
        serve_unix(admin_socket, control, &admin_config, admin_stop).await;
    });
    let (known, until) = (Arc::clone(&tokens), stop.clone());
    tasks.spawn(async move { known.keep_ended(until).await });
    tasks.spawn(heap::keep_small(meters, stop.clone()));
    let (follower, until) = (Arc::clone(&administration), stop.clone());
    tasks.spawn(async move { follower.follow_controls(trail, until).await });
    tasks.spawn(Arc::clone(&log_filter).keep(store.clone(), stop.clone()));
    tasks.close();

    let alive = tokio::spawn(manager::keep_alive());
    let drain = config.gateway.drain.0;
    let mut reload = Reload::new(&place, config, log_filter, Arc::clone(&catalogue));
    if !development {
        reload.listen().map_err(begin("receive SIGHUP"))?;
    }

    // Before what is there is started, so that no change is missed.
    let discovery = Discovery::begin(Arc::clone(&catalogue)).await;
    let watching = tokio::spawn(discovery.run(stop.clone()));
    let mut is_starting = true;
    let mut reloaded = None;
    let mut told = None;
    // With its end goes what the starts hold: others wait for that.
    let end = {
        let starting = begin_plugins(&catalogue, &administration, &tokens, &place, development);
        tokio::pin!(starting);
        let mut held = tokio::time::interval_at(tokio::time::Instant::now() + HELD, HELD);
        held.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut is_reload = false;
            tokio::select! {
                () = &mut starting, if is_starting => is_starting = false,
                // And again, for the number of those that it still waits for.
                _ = held.tick(), if is_starting => administration.phase.set(DaemonState::Ready),
                how = asked.wait() => break how,
                gone = &mut receiving => break End::LauncherGone(gone.unwrap_or(ClientError::Closed)),
                ended = &mut served => break End::GatewayGone(GatewayEnd::of(ended)),
                outcome = reload.next(), if told.is_some() => {
                    reloaded = Some(outcome);
                    is_reload = true;
                }
            }
            started.cancel();
            let line = status_line(
                address,
                administration.still_starting(),
                reloaded.as_deref(),
            );
            if is_reload || told.is_none() {
                manager::ready(&line);
            } else if told.as_ref() != Some(&line) {
                manager::status(&line);
            }
            told = Some(line);
        }
    };
    tracing::info!("stopping");
    administration.phase.set(DaemonState::Draining);
    manager::stopping(drain + catalogue.longest_end());
    stop.cancel();
    // After that: who waits in the sockets for the start is the next daemon's, and not let in to be refused.
    started.cancel();
    tasks.wait().await;
    watching.await.unwrap_or_default();
    match end {
        End::Asked | End::GatewayGone(_) => catalogue.stop().await,
        End::HandOver => catalogue.hand_over().await,
        End::LauncherGone(_) => {}
    }
    // Their plugins are gone, and so they end.
    administration.changes.close();
    administration.changes.wait().await;
    catalogue.host().close().await;
    written.cancel();
    writing.await.unwrap_or_default();
    store.close().await;
    if is_our_socket {
        std::fs::remove_file(place.admin_socket()).unwrap_or_default();
    }
    let end = match end {
        End::GatewayGone(why) => End::GatewayGone(why),
        end => match served.await {
            Ok(Err(error)) => End::GatewayGone(GatewayEnd::Refused(error)),
            _ => end,
        },
    };
    // It then ends every jail and itself, but for what it keeps.
    receiving.abort();
    launcher.hang_up();
    alive.abort();
    let status = match child.take() {
        Some(child) => wait_for(child).await,
        None => None,
    };
    match end {
        End::Asked | End::HandOver => Ok(()),
        End::GatewayGone(why) => Err(RunError::Gateway(why)),
        // It has said why it gave up.
        End::LauncherGone(_) if is_starting && status.is_some_and(|s| s.code().is_some()) => {
            Err(RunError::LauncherNotStarted)
        }
        End::LauncherGone(error) => Err(RunError::LauncherGone(error)),
    }
}

/// The daemon's state, with the records that were left for its audit trail; none where the daemon was asked
/// to end before it was open.
async fn open_store(place: &Place, asked: &mut Asked) -> Result<Option<Store>, RunError> {
    // Bringing an earlier version's database forwards takes as long as it is large: a copy, and reading that.
    let patience = tokio::spawn(manager::ask_for_time());
    let database = place.database();
    let opened = tokio::select! {
        opened = Store::open(&database) => opened.map(Some),
        // What is not whole yet is undone by the next start.
        _ = asked.wait() => Ok(None),
    };
    if let Ok(Some(store)) = &opened {
        take_pending(store, &place.pending_records()).await;
    }
    patience.abort();
    opened.map_err(RunError::Store)
}

/// Takes into the audit trail what the policies' owner did while there was no daemon. What cannot be taken
/// now stays where it is, for the next start.
async fn take_pending(store: &Store, directory: &Path) {
    let records = match Pending::open(directory) {
        Ok(None) => return,
        Ok(Some(pending)) => pending.all(),
        Err(error) => Err(error),
    };
    let records = match records {
        Ok(records) => records,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "record for the audit trail not taken");
            return;
        }
    };
    let detail = "told afterwards: pinfoldd had not been told";
    match store.audit_written_down(&records, Some(detail)).await {
        Ok(0) => {}
        Ok(records) => tracing::info!(records, "audit trail has what was done without the daemon"),
        Err(error) => tracing::error!(
            error = %Chain(&error),
            hint = error.hint(),
            "record for the audit trail not taken"
        ),
    }
}

/// Held as long as the daemon lives: a second one on the same state would take the first one's
/// sockets away, and nobody replaces it meanwhile.
struct Lock {
    _file: File,
    /// The directory itself, in whose place this user can put no other. `pinfold restore` asks for it.
    _directory: File,
}

fn lock(state: &Path) -> Result<Lock, RunError> {
    let path = state.join("lock");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options
        .open(&path)
        .map_err(begin(format!("open {}", path.display())))?;
    let directory = File::open(state).map_err(begin(format!("open {}", state.display())))?;
    for (lock, path) in [(&file, path.as_path()), (&directory, state)] {
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(RunError::InUse {
                    state: state.into(),
                });
            }
            // A network's file system may lock no directory that is open to be read; the file's counts there.
            Err(TryLockError::Error(error))
                if path == state
                    && error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => {}
            Err(TryLockError::Error(error)) => {
                return Err(begin(format!("lock {}", path.display()))(error));
            }
        }
    }
    Ok(Lock {
        _file: file,
        _directory: directory,
    })
}

/// Why the daemon ends.
enum End {
    Asked,
    /// Asked, because another daemon comes.
    HandOver,
    LauncherGone(ClientError),
    /// The gateway serves no more: what goes on would serve nobody.
    GatewayGone(GatewayEnd),
}

/// Starts every plugin, and says what is there.
async fn begin_plugins(
    catalogue: &Arc<Catalogue>,
    administration: &Administration,
    tokens: &KnownTokens,
    place: &Place,
    development: bool,
) {
    // Before the first plugin serves: who has seen that asks for the token.
    if development && let Err(error) = development_token(tokens, place).await {
        tracing::error!(error = %Chain(error.as_ref()), "no development token");
    }
    administration.learn_posture().await;
    match catalogue.rescan(None).await {
        Ok(_) => catalogue.discard_all_left().await,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "plugins not started");
            // The watch then tries until it can be read.
            catalogue.fault().tell(&error);
        }
    }
    administration.are_started.store(true, Ordering::Release);
    administration.phase.set(DaemonState::Ready);
    if development {
        crate::banner::print(administration, place);
    }
}

/// Leaves an administrator's token for the developer, readable by the daemon's user alone.
async fn development_token(
    tokens: &KnownTokens,
    place: &Place,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let wanted = NewToken {
        name: "development".into(),
        user: "developer".into(),
        roles: vec![User::ADMIN.into()],
        expires: None,
    };
    let created = tokens.recreate(wanted, "pinfoldd".into()).await?;
    let path = place.development_token();
    let new = path.with_extension("new");
    std::fs::remove_file(&new).unwrap_or_default();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(created.token.as_bytes())?;
    std::fs::rename(&new, &path)?;
    Ok(())
}

async fn host_api(
    place: &Place,
    config: &Config,
    logs: &Arc<Logs>,
    recorder: &Arc<Recorder>,
    calls: &Arc<TableCalls>,
) -> Result<Arc<HostApi>, RunError> {
    let databases = Databases::open(&config.hostapi.database, &place.database())
        .await
        .map_err(RunError::Databases)?;
    let services = Services {
        databases,
        cache: Cache::new(),
        config: config.hostapi.config.clone(),
        logs: Arc::clone(logs) as _,
        http: HttpClient::new(&config.hostapi.http).map_err(begin("set up outgoing HTTP"))?,
        plugins: Arc::clone(calls) as _,
    };
    Ok(Arc::new(HostApi::new(services, Arc::clone(recorder) as _)))
}

fn gateway_config(config: &Config) -> GatewayConfig {
    let gateway = &config.gateway;
    GatewayConfig {
        listen: config.listen,
        behind_proxy: config.behind_proxy,
        body_limit_bytes: usize::try_from(gateway.body_limit.0).unwrap_or(usize::MAX),
        header_read_time_out: gateway.header_timeout.0,
        request_time_out: gateway.request_timeout.0,
        max_connections: gateway.connections as usize,
        max_in_flight: gateway.all_in_flight() as usize,
        max_in_flight_per_plugin: gateway.in_flight_per_plugin as usize,
        drain_time: gateway.drain.0,
        compat: Compat::Goatflow,
        list_form: match gateway.plugin_list {
            PluginList::Array => ListForm::Array,
            PluginList::Object => ListForm::Object,
        },
        // Looked at when the configuration was read.
        content_security: gateway.content_security().unwrap_or_default(),
        ..GatewayConfig::default()
    }
}

/// Waits for a launcher that this daemon started; its end is bounded by its own limits.
async fn wait_for(mut child: Child) -> Option<ExitStatus> {
    let waited = tokio::task::spawn_blocking(move || child.wait()).await;
    let status = waited.ok()?.ok()?;
    tracing::debug!(%status, "launcher ended");
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_whatever_became_of_the_first_ones_file() {
        let base = tempfile::tempdir().unwrap();
        let held = lock(base.path()).unwrap();
        assert!(matches!(lock(base.path()), Err(RunError::InUse { .. })));
        let (path, away) = (base.path().join("lock"), base.path().join("away"));
        std::fs::rename(path, away).unwrap();
        assert!(matches!(lock(base.path()), Err(RunError::InUse { .. })));
        drop(held);
        lock(base.path()).unwrap();
    }
}
