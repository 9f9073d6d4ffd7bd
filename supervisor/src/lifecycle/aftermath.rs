//! What follows the end of an instance, and signs of it: back-off, failure, or rest.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::backoff::Verdict;
use super::end::{self, Ending};
use super::health::Beat;
use super::{Due, Ended, Lifecycle};
use crate::state::State;

impl Lifecycle {
    /// The instance that serves has ended by itself, or is to be ended as if it had.
    pub(super) fn ended(&mut self, ended: Ended) {
        let Some(serving) = self.serving.take() else {
            return;
        };
        self.shared
            .catalogue
            .close(self.shared.number, self.shared.snapshot.subscribe());
        if let Ended::Process(cause) = &ended {
            // Calls that were under way wait to be told.
            serving.running.set_cause(cause.to_string());
        }
        self.decided = false;
        // Why is not known for sure before all of it is gone.
        self.shared.enter(State::Draining, None, |_| {});
        let crashed = end::crashed(Arc::clone(&self.shared), serving, ended);
        self.endings.push(crashed.boxed());
        self.ending_served += 1;
    }

    /// How the instance that serves has answered.
    pub(super) fn beat(&mut self, beat: &Beat) {
        let Some(serving) = &self.serving else {
            return;
        };
        let health = serving.pulse.health().clone();
        self.shared
            .change(|snapshot| snapshot.health = Some(health));
        match *beat {
            Beat::Alive => {
                let cause = Some("it answers again".to_owned());
                self.shared
                    .enter(State::Ready, cause, |snapshot| snapshot.reason = None);
            }
            Beat::Late => {}
            Beat::Slow(count) => {
                let reason = format!("it did not answer {count} pings in a row");
                let cause = Some(reason.clone());
                self.shared.enter(State::Degraded, cause, |snapshot| {
                    snapshot.reason = Some(reason);
                });
            }
            Beat::Dead(count) => self.ended(Ended::Silence(count)),
        }
    }

    pub(super) fn reaped(&mut self, ending: Ending) {
        match ending {
            Ending::Reaped => {}
            Ending::Stopped { cause } => {
                self.ending_served = self.ending_served.saturating_sub(1);
                self.after(&cause);
                // Switched on again meanwhile, it is as the attempt made for that has left it.
                let stays = self.shared.snapshot.borrow().enabled && !self.leaving;
                if self.serving.is_none() && self.attempt.is_none() && !stays {
                    self.shared.enter(State::Stopped, Some(cause), |snapshot| {
                        snapshot.reason = None
                    });
                }
            }
            Ending::Crashed { cause, served } => {
                self.ending_served = self.ending_served.saturating_sub(1);
                self.after(&cause);
                let stays = self.shared.snapshot.borrow().enabled && !self.leaving;
                if self.attempt.is_some() {
                    if self.serving.is_none() {
                        self.shared.enter(State::Starting, Some(cause), |_| {});
                    }
                } else if self.serving.is_none() && stays && !self.decided {
                    self.failed = self.good.as_ref().map(|good| good.digest);
                    self.back_off(cause, served, true);
                }
            }
        }
    }

    /// What is known once an instance that served is gone.
    fn after(&self, cause: &str) {
        let serves = self.serving.is_some();
        self.shared.change(|snapshot| {
            snapshot.last_exit = Some(cause.to_owned());
            if !serves {
                snapshot.running = None;
                snapshot.health = None;
            }
        });
    }

    /// It has failed, `by_itself` where its process or its connection has ended so.
    pub(super) fn back_off(&mut self, cause: String, served: Duration, by_itself: bool) {
        let settings = self.shared.catalogue.settings();
        let settings = &settings.restart;
        match self.crashes.crashed(Instant::now(), served, settings) {
            Verdict::Again(wait) => self.start_after(wait, cause, by_itself),
            Verdict::Loop(count) => {
                self.due = None;
                let reason = if settings.limit == 0 {
                    cause
                } else {
                    format!(
                        "crash loop: it ended {count} times within {}, at last: {cause} \
                         (hint: `pinfold plugin reload {}` tries again)",
                        settings.window, self.shared.plugin
                    )
                };
                let told = Some(reason.clone());
                self.shared.enter(State::Failed, told, |snapshot| {
                    snapshot.reason = Some(reason);
                });
            }
        }
    }

    /// The machine was too short of something to start the plugin: it is tried until it is not.
    pub(super) fn wait_for_machine(&mut self, cause: String) {
        let settings = self.shared.catalogue.settings();
        let wait = self.crashes.short(&settings.restart);
        self.start_after(wait, cause, false);
    }

    fn start_after(&mut self, wait: Duration, cause: String, is_restart: bool) {
        self.due = Some(Due {
            at: Instant::now() + wait,
            is_restart,
        });
        let told = Some(cause.clone());
        self.shared.enter(State::BackingOff, told, |snapshot| {
            snapshot.reason = Some(cause);
            snapshot.next_start = TimeDelta::from_std(wait)
                .ok()
                .and_then(|wait| Utc::now().checked_add_signed(wait));
        });
    }

    /// Leaves what serves to the next daemon, and ends whatever starts.
    pub(super) fn leave_serving(&mut self, note: String) {
        let serving = self.serving.take();
        self.stop_all();
        if let Some(serving) = serving {
            self.shared.enter(State::Draining, None, |_| {});
            let left = end::hand_over(Arc::clone(&self.shared), serving, note);
            self.endings.push(left.boxed());
        }
    }

    /// Ends whatever runs or starts.
    pub(super) fn stop_all(&mut self) {
        self.due = None;
        self.give_up();
        self.shared.change(|snapshot| snapshot.next_start = None);
        let catalogue = &self.shared.catalogue;
        if self.leaving {
            catalogue.withdraw(self.shared.number);
        } else {
            catalogue.close(self.shared.number, self.shared.snapshot.subscribe());
        }
        let Some(serving) = self.serving.take() else {
            self.shared.change(|snapshot| snapshot.running = None);
            return;
        };
        self.shared.enter(State::Draining, None, |_| {});
        let shared = Arc::clone(&self.shared);
        let stopped = end::stop(shared, serving).map(|cause| Ending::Stopped { cause });
        self.endings.push(stopped.boxed());
        self.ending_served += 1;
    }
}
