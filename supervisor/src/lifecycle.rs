//! The life of one plugin, owned by one task. Others send it commands and read its snapshots.
//!
//! ```text
//! Discovered → Staged → Starting → Ready ⇄ Degraded → Draining → Stopped, Disabled
//!      ↑          └─────────┴────────┴────────┴──→ BackingOff, Failed, Blocked
//!      └──────────────────────────────────────────────┘
//! ```
//!
//! The task waits for nothing but the next thing that happens: attempts to start and the ends of
//! instances go on beside it, so that a command counts at once. While one instance serves, an
//! attempt to start another leaves it alone: only an instance that can serve takes its place, and
//! the old one is ended once nobody holds it any more.

mod aftermath;
mod attempt;
mod backoff;
mod commands;
mod end;
mod generations;
mod health;
mod inherited;
mod introduce;
mod not_started;
pub(crate) mod output;
mod shared;
mod swap;
mod turns;
mod way_out;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use pinfold_policy::{Digest, Generation, InstanceId, PluginId};
use pinfold_sandbox::protocol::ExitCause;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::config::HealthSection;
use crate::dialect::Running;
use crate::launcher::Launcher;
use crate::logs::PluginLog;
use crate::state::Snapshot;

pub(crate) use attempt::Trigger;
pub(crate) use commands::{Command, Handle};
pub(crate) use shared::END_BEYOND_TIMEOUTS;
pub(crate) use turns::Turns;

use attempt::{Files, Outcome};
use backoff::Crashes;
use end::Ending;
use health::{Beat, Pulse};
use inherited::Inherited;
use shared::Shared;

/// Commands waiting for one plugin's task, which takes each at once: a few are plenty.
const COMMAND_QUEUE: usize = 16;

/// A plugin's task and what it owns.
pub(crate) struct Lifecycle {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    /// Whether nobody holds a handle any more.
    abandoned: bool,
    /// The instance in the table.
    serving: Option<Serving>,
    /// The attempt to start one, or another one.
    attempt: Option<Attempt>,
    /// Instances and attempts on their way out.
    endings: FuturesUnordered<BoxFuture<'static, Ending>>,
    /// How many of those are of an instance that served until then.
    ending_served: usize,
    /// When the next attempt is due, while it backs off.
    due: Option<Due>,
    crashes: Crashes,
    /// What served last.
    good: Option<Files>,
    /// Whether an attempt has failed for good or for a while since the last instance ended by itself:
    /// what follows is that attempt's to say.
    decided: bool,
    /// Files that did not come to serve, whatever their policy says.
    failed: Option<Digest>,
    /// Whether the plugin is to go, with its task.
    leaving: bool,
    /// Those who wait until the plugin has settled.
    waiting: Vec<oneshot::Sender<()>>,
}

/// The next attempt, while it is waited for.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// Whether it follows an end of the plugin by itself, and not a start that failed otherwise.
    is_restart: bool,
}

/// An instance that serves, or can.
struct Serving {
    instance: InstanceId,
    generation: Generation,
    digest: Digest,
    running: Arc<dyn Running>,
    output: Arc<output::Drains>,
    pulse: Pulse,
    /// Cancelled when nobody holds its place in the table any more.
    released: CancellationToken,
    /// What another daemon has to know to go on with it; none where none can.
    resume: Option<String>,
    since: Instant,
    times: Times,
}

/// Deadlines of an instance's policy.
struct Times {
    call: Duration,
    shutdown: Duration,
    quit: Duration,
}

/// An attempt under way.
struct Attempt {
    what: Attempted,
    cancel: CancellationToken,
    outcome: BoxFuture<'static, Outcome>,
}

/// What an attempt was.
#[derive(Clone, Copy, Debug)]
struct Attempted {
    trigger: Trigger,
    /// Whether another instance served when it began, or was about to again.
    beside: bool,
}

/// What ended an instance that was not asked to end.
enum Ended {
    Process(ExitCause),
    Connection(String),
    /// It did not answer so many pings in a row.
    Silence(u32),
}

/// What happens to a plugin.
enum Happening {
    Told(Command),
    Abandoned,
    Attempted(Attempted, Outcome),
    Ended(Ended),
    Beat(Beat),
    Reaped(Ending),
    Due,
}

impl Lifecycle {
    /// A task for `plugin`, not yet running, and the handle to it.
    pub(crate) fn new(
        plugin: PluginId,
        number: i64,
        enabled: bool,
        catalogue: Arc<Catalogue>,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let first = Snapshot {
            enabled,
            ..Snapshot::discovered(plugin.clone())
        };
        let (snapshot, observed) = watch::channel(Arc::new(first));
        let log: Arc<PluginLog> = catalogue.logs().of(&plugin);
        let inherited = Arc::<Inherited>::default();
        let handle = Handle::new(sender, observed, Arc::clone(&log), Arc::clone(&inherited));
        let shared = Arc::new(Shared {
            plugin,
            number,
            catalogue,
            snapshot,
            log,
            inherited,
        });
        let lifecycle = Self {
            shared,
            commands,
            abandoned: false,
            serving: None,
            attempt: None,
            endings: FuturesUnordered::new(),
            ending_served: 0,
            due: None,
            crashes: Crashes::default(),
            good: None,
            decided: false,
            failed: None,
            leaving: false,
            waiting: Vec::new(),
        };
        (lifecycle, handle)
    }

    /// Lives the plugin's life until it is told to stop or nobody holds its handle.
    pub(crate) async fn run(mut self, trigger: Trigger) {
        if self.shared.snapshot().enabled {
            self.begin(trigger);
        } else {
            let unwanted = end::unwanted(Arc::clone(&self.shared));
            self.endings.push(unwanted.boxed());
        }
        self.settle();
        while !self.is_over() {
            let happening = self.next().await;
            self.on(happening);
            self.settle();
        }
        self.leave();
    }

    /// Cancel-safe, each part: what is under way is kept in `self`.
    async fn next(&mut self) -> Happening {
        let settings = self.shared.catalogue.settings();
        let launcher = self.shared.catalogue.launcher();
        // An attempt under way decides first whether it is still due.
        let due = self.due.filter(|_| self.attempt.is_none());
        let due = due.map(|due| due.at);
        tokio::select! {
            command = self.commands.recv(), if !self.abandoned => {
                command.map_or(Happening::Abandoned, Happening::Told)
            }
            (attempted, outcome) = outcome(self.attempt.as_mut()) => {
                self.attempt = None;
                Happening::Attempted(attempted, outcome)
            }
            happening = sign(self.serving.as_mut(), launcher, &settings.health) => happening,
            Some(ending) = self.endings.next() => Happening::Reaped(ending),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                Happening::Due
            }
        }
    }

    fn on(&mut self, happening: Happening) {
        match happening {
            Happening::Told(command) => self.obey(command),
            Happening::Abandoned => {
                self.abandoned = true;
                self.begin_leaving();
            }
            Happening::Attempted(attempted, outcome) => self.attempted(attempted, outcome),
            Happening::Ended(ended) => self.ended(ended),
            Happening::Beat(beat) => self.beat(&beat),
            Happening::Reaped(ending) => self.reaped(ending),
            Happening::Due => {
                if self.due.is_some_and(|due| due.is_restart) {
                    self.shared.change(|snapshot| snapshot.restarts += 1);
                }
                self.begin(Trigger::Again);
            }
        }
    }
}

/// The end of the attempt, if there is one, and what it was made for.
async fn outcome(attempt: Option<&mut Attempt>) -> (Attempted, Outcome) {
    match attempt {
        Some(attempt) => (attempt.what, (&mut attempt.outcome).await),
        None => std::future::pending().await,
    }
}

/// A sign of the instance that serves, if there is one: its end, or how it answers.
async fn sign(
    serving: Option<&mut Serving>,
    launcher: &Launcher,
    settings: &HealthSection,
) -> Happening {
    let Some(serving) = serving else {
        return std::future::pending().await;
    };
    tokio::select! {
        cause = launcher.exited(serving.instance) => Happening::Ended(Ended::Process(cause)),
        why = serving.running.closed() => Happening::Ended(Ended::Connection(why)),
        beat = serving.pulse.beat(settings) => Happening::Beat(beat),
    }
}
