//! What the daemon's own log goes by: the configuration's filter, or, for a while, another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pinfold_gateway::admin::dto::LogFilterView;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::store::Store;
use crate::store::audit::Entry;
use crate::telemetry::{FilterError, LogControl};

/// What the log goes by.
#[derive(Debug)]
pub(crate) struct LogFilter {
    control: LogControl,
    state: Mutex<State>,
    /// Told of each change, for whoever waits for an end.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    configured: String,
    other: Option<Other>,
}

#[derive(Clone, Debug)]
struct Other {
    filter: String,
    /// When it ends, by the monotonic clock, and as it is shown.
    until: Option<(Instant, DateTime<Utc>)>,
}

impl LogFilter {
    /// With the configuration's filter in force.
    pub(crate) fn new(control: LogControl, configured: &str) -> Arc<Self> {
        Arc::new(Self {
            control,
            state: Mutex::new(State {
                configured: configured.to_owned(),
                other: None,
            }),
            changed: Notify::new(),
        })
    }

    pub(crate) fn view(&self) -> LogFilterView {
        let state = self.state();
        let State { configured, other } = &*state;
        LogFilterView {
            filter: other
                .as_ref()
                .map_or(configured, |other| &other.filter)
                .clone(),
            configured: configured.clone(),
            until: other.as_ref().and_then(|other| Some(other.until?.1)),
        }
    }

    /// Puts another in force, for `time` or until the daemon ends.
    pub(crate) fn set(&self, filter: &str, time: Option<Duration>) -> Result<(), FilterError> {
        let mut state = self.state();
        self.control.set(filter)?;
        state.other = Some(Other {
            filter: filter.to_owned(),
            until: time.map(|time| (Instant::now() + time, Utc::now() + time)),
        });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Puts the configuration's in force again.
    pub(crate) fn reset(&self) -> Result<(), FilterError> {
        let mut state = self.state();
        self.control.set(&state.configured)?;
        state.other = None;
        Ok(())
    }

    /// Takes the filter of a configuration that was read again. Another one that was put in force for a
    /// while stays so for as long.
    pub(crate) fn configure(&self, filter: &str) -> Result<(), FilterError> {
        crate::telemetry::check(filter)?;
        let mut state = self.state();
        if state.other.is_none() {
            self.control.set(filter)?;
        }
        state.configured = filter.to_owned();
        Ok(())
    }

    /// Ends each other filter at its time, and says so in the audit trail, until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, store: Store, stop: CancellationToken) {
        loop {
            let until = self
                .state()
                .other
                .as_ref()
                .and_then(|other| Some(other.until?.0));
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = over => self.end(&store, until).await,
            }
        }
    }

    async fn end(&self, store: &Store, until: Option<Instant>) {
        // It may have been set anew in between.
        let now = self
            .state()
            .other
            .as_ref()
            .and_then(|other| Some(other.until?.0));
        if now != until {
            return;
        }
        if let Err(error) = self.reset() {
            tracing::error!(error = %Chain(&error), "log filter not put back");
            self.state().other = None;
        }
        let filter = self.view().filter;
        tracing::info!(%filter, "log filter put back");
        let entry = Entry::of_daemon("log.reset", filter);
        if let Err(error) = store.audit(entry).await {
            tracing::error!(error = %Chain(&error), "end of a log filter not recorded");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
