//! Connections, each with its thread, given out fairly and taken out of use when one cannot be
//! interrupted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinfold_policy::PluginId;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::super::{DatabaseError, RunError};
use super::explain;
use super::guarded::Shapes;
use super::stop::Stop;
use crate::HostError;

/// Statements of one plugin that may wait on one database: more than callers that a host runs at
/// once, and still little memory.
const WAITING_PER_PLUGIN: usize = 256;

/// Instructions of SQLite's machine between two looks at the clock: some microseconds, or as many
/// times as long as one takes that works on a large value.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 100;

/// How long closing waits for connections to end.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A number of connections to one database, all alike.
#[derive(Debug)]
pub(super) struct Lanes {
    options: SqliteConnectOptions,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Lane>>,
    shares: Mutex<HashMap<PluginId, Arc<Share>>>,
    share: usize,
    /// Most bytes that one statement may write, temporary files among them.
    write_limit_bytes: u64,
    /// Lanes on their way out.
    retired: TaskTracker,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) connection: SqliteConnection,
    /// What is known of the queries that it has prepared.
    pub(super) shapes: Shapes,
    pub(super) stop: Arc<Stop>,
}

/// What one plugin may have of the lanes.
#[derive(Debug)]
struct Share {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Counts a waiting statement for as long as it waits.
struct Waiting<'a>(&'a Share);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// `count` lanes, `share` of them at most for one plugin. One is opened now, the others when
    /// they are first needed.
    pub(super) async fn open(
        options: SqliteConnectOptions,
        count: usize,
        share: usize,
        write_limit_bytes: u64,
    ) -> Result<Self, sqlx::Error> {
        let lanes = Self {
            options,
            slots: Arc::new(Semaphore::new(count)),
            idle: Mutex::default(),
            shares: Mutex::default(),
            share,
            write_limit_bytes,
            retired: TaskTracker::new(),
        };
        let first = lanes.connect().await?;
        lanes.put_idle(first);
        Ok(lanes)
    }

    /// Waits for a lane, until the deadline.
    pub(super) async fn take(
        &self,
        plugin: &PluginId,
        deadline: Instant,
    ) -> Result<Taken<'_>, RunError> {
        let share = self.share(plugin);
        let closed = |_| RunError::Database(DatabaseError::Unavailable);
        let wait = async {
            let before = share.waiting.fetch_add(1, Ordering::Relaxed);
            let _waiting = Waiting(&share);
            if before >= WAITING_PER_PLUGIN {
                return Err(RunError::Database(DatabaseError::QueueFull));
            }
            let own = Arc::clone(&share.running)
                .acquire_owned()
                .await
                .map_err(closed)?;
            let slot = Arc::clone(&self.slots)
                .acquire_owned()
                .await
                .map_err(closed)?;
            let idle = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let lane = match idle {
                Some(lane) => lane,
                None => self
                    .connect()
                    .await
                    .map_err(|error| RunError::Database(explain(&error)))?,
            };
            Ok(Taken {
                lanes: self,
                held: Some(Held {
                    lane,
                    permits: [own, slot],
                }),
            })
        };
        let in_time = tokio::time::timeout_at(deadline.into(), wait).await;
        in_time.unwrap_or(Err(RunError::Host(HostError::Deadline)))
    }

    pub(super) fn forget(&self, plugin: &PluginId) {
        // Statements under way hold their share themselves.
        self.shares
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(plugin);
    }

    pub(super) async fn close(&self) {
        self.slots.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for lane in idle {
            self.retire(lane, None);
        }
        self.retired.close();
        let waited = tokio::time::timeout(CLOSE_WAIT, self.retired.wait()).await;
        if waited.is_err() {
            tracing::warn!("a database connection does not end");
        }
    }

    fn share(&self, plugin: &PluginId) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(plugin) {
            return Arc::clone(share);
        }
        let running = Arc::new(Semaphore::new(self.share));
        let share = Arc::new(Share {
            running,
            waiting: AtomicUsize::new(0),
        });
        shares.insert(plugin.clone(), Arc::clone(&share));
        share
    }

    async fn connect(&self) -> Result<Lane, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let stop = Arc::new(Stop::new(self.write_limit_bytes));
        let watched = Arc::clone(&stop);
        connection
            .lock_handle()
            .await?
            .set_progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, move || !watched.is_due());
        Ok(Lane {
            connection,
            shapes: Shapes::default(),
            stop,
        })
    }

    fn put_idle(&self, lane: Lane) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lane);
    }

    /// Ends a lane. Its place stays taken until its thread has ended: what cannot be interrupted
    /// must not be started over and over.
    fn retire(&self, lane: Lane, permits: Option<[OwnedSemaphorePermit; 2]>) {
        lane.stop.now();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.retired.spawn_on(
                async move {
                    if let Err(error) = lane.connection.close().await {
                        tracing::debug!(error = %error, "database connection ended with an error");
                    }
                    drop(permits);
                },
                &runtime,
            );
        }
    }
}

#[derive(Debug)]
struct Held {
    lane: Lane,
    permits: [OwnedSemaphorePermit; 2],
}

/// A lane in use. Dropped without [`Taken::give_back`] it is ended, for nobody knows what its
/// thread is doing: that is so when a call is cancelled, too.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    lanes: &'a Lanes,
    held: Option<Held>,
}

impl Taken<'_> {
    pub(super) fn lane(&mut self) -> &mut Lane {
        &mut self
            .held
            .as_mut()
            .expect("a lane is held until it is given back")
            .lane
    }

    /// The lane is idle and as it was.
    pub(super) fn give_back(mut self) {
        if let Some(Held { lane, permits }) = self.held.take() {
            self.lanes.put_idle(lane);
            drop(permits);
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(Held { lane, permits }) = self.held.take() {
            self.lanes.retire(lane, Some(permits));
        }
    }
}
