//! One instance in the place of another, or of none: what follows attempts and ends.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use futures_util::FutureExt as _;
use pinfold_gateway::admin::dto::LogLevel;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Candidate, NotStarted, Outcome, Plan, Trigger};
use super::backoff::Verdict;
use super::end::{self, Ending};
use super::health::Beat;
use super::{Attempt, Ended, Lifecycle};
use crate::events::EventKind;
use crate::state::{Registered, Rejected, State};

impl Lifecycle {
    /// Begins an attempt to start the plugin. One that is under way is given up for it, and what
    /// it was made for counts for the new one.
    pub(super) fn begin(&mut self, trigger: Trigger) {
        if self.leaving {
            return;
        }
        let trigger = match self.give_up() {
            Some(before) => trigger.max(before),
            None => trigger,
        };
        let kept = match trigger {
            Trigger::Again => self.good.clone(),
            _ => None,
        };
        // Files that turn out to be the same change nothing; anything else is another chance.
        if trigger != Trigger::Files {
            self.due = None;
            if self.serving.is_none() {
                if trigger != Trigger::Again {
                    self.crashes.clear();
                }
                self.shared.change(|snapshot| {
                    snapshot.reason = None;
                    snapshot.next_start = None;
                });
                if kept.is_none() {
                    self.shared.enter(State::Discovered, None, |_| {});
                }
            }
        }
        let cancel = CancellationToken::new();
        let plan = Plan {
            shared: Arc::clone(&self.shared),
            trigger,
            cancel: cancel.clone(),
            shown: self.serving.is_none(),
            unless: match (&self.serving, trigger) {
                (Some(serving), Trigger::Files | Trigger::Refresh) => Some(serving.digest),
                (None, Trigger::Files) => self.failed,
                _ => None,
            },
            kept,
        };
        self.attempt = Some(Attempt {
            trigger,
            cancel,
            outcome: attempt::attempt(plan).boxed(),
        });
    }

    /// Gives up the attempt that is under way, and says what it was made for.
    fn give_up(&mut self) -> Option<Trigger> {
        let Attempt {
            trigger,
            cancel,
            outcome,
        } = self.attempt.take()?;
        cancel.cancel();
        let shared = Arc::clone(&self.shared);
        let reaped = async move {
            if let Outcome::Serves(candidate) = outcome.await {
                end::stop(shared, candidate.serving).await;
            }
            Ending::Reaped
        };
        self.endings.push(reaped.boxed());
        Some(trigger)
    }

    pub(super) fn attempted(&mut self, trigger: Trigger, outcome: Outcome) {
        match &outcome {
            Outcome::Serves(_) => self.failed = None,
            // Where it is the policy or a signature that is missing, the same files may do.
            Outcome::Failed(not_started) if not_started.untrusted => self.failed = None,
            Outcome::Failed(not_started) => self.failed = not_started.digest,
            Outcome::Unchanged | Outcome::GivenUp => {}
        }
        if trigger == Trigger::Files && !matches!(outcome, Outcome::Unchanged) {
            self.due = None;
            self.crashes.clear();
        }
        match outcome {
            Outcome::Serves(candidate) => self.take(*candidate, trigger),
            // What serves lies there again, and what was not taken no more.
            Outcome::Unchanged if self.serving.is_some() => {
                self.shared.change(|snapshot| snapshot.rejected = None);
            }
            Outcome::Unchanged => {}
            Outcome::Failed(not_started) if self.serving.is_some() => self.reject(&not_started),
            Outcome::Failed(not_started) => self.not_started(&not_started),
            Outcome::GivenUp => {}
        }
    }

    /// The new instance takes the place in the table; the old one, if there is one, is ended once
    /// nobody holds it.
    fn take(&mut self, candidate: Candidate, trigger: Trigger) {
        let Candidate {
            files,
            policy,
            development_policy,
            process,
            started,
            mut serving,
        } = candidate;
        let again = self.good.as_ref().map(|good| good.digest) == Some(files.digest)
            && trigger == Trigger::Again;
        let shared = Arc::clone(&self.shared);
        let generation = serving.generation;
        let placed =
            shared
                .catalogue
                .serve(shared.number, &shared.plugin, generation, &policy, &started);
        serving.released = placed.released;
        let mut offer = started.offer;
        offer.refused.extend(placed.not_mounted);
        for line in &offer.refused {
            shared.note(generation, LogLevel::Warn, &format!("not served: {line}"));
        }
        let version = started.version.clone();
        let old = self.serving.replace(serving);
        shared.enter(
            State::Ready,
            Some(format!("version {version}")),
            |snapshot| {
                snapshot.reason = None;
                snapshot.generation = generation;
                snapshot.digest = Some(files.digest);
                snapshot.dialect = Some(files.dialect.name());
                snapshot.manifest = Some(files.manifest.clone());
                snapshot.policy = Some(policy);
                snapshot.development_policy = development_policy;
                snapshot.running = Some(process);
                snapshot.registered = Some(Registered {
                    version: started.version,
                    offer,
                    asked: started.asked,
                });
                snapshot.next_start = None;
                snapshot.health = None;
                // Started again from what served before, it leaves aside what was not taken.
                if !again {
                    snapshot.rejected = None;
                }
            },
        );
        self.good = Some(files);
        if let Some(old) = old {
            let cause = format!(
                "version {version} in place of generation {}",
                old.generation.0
            );
            shared.tell(EventKind::Reloaded, generation, cause);
            let ended = end::stop(shared, old).map(|_| Ending::Reaped);
            self.endings.push(ended.boxed());
        }
    }

    /// A newer version that does not come to serve: the old one goes on, and it is told why.
    fn reject(&self, not_started: &NotStarted) {
        let shared = &self.shared;
        let reason = not_started.text();
        let current = shared.snapshot.borrow().generation;
        let generation = not_started.generation.unwrap_or(current);
        shared.note(generation, LogLevel::Error, &format!("not taken: {reason}"));
        shared.change(|snapshot| {
            snapshot.rejected = Some(Rejected {
                time: Utc::now(),
                digest: not_started.digest,
                reason: reason.clone(),
            });
        });
        shared.tell(EventKind::Rejected, generation, reason);
    }

    fn not_started(&mut self, not_started: &NotStarted) {
        let shared = Arc::clone(&self.shared);
        let reason = not_started.text();
        let generation = shared.snapshot.borrow().generation;
        let line = format!("not started: {}", not_started.reason);
        shared.note(generation, LogLevel::Error, &line);
        shared.change(|snapshot| {
            snapshot.running = None;
            if let Some(exit) = &not_started.exit {
                snapshot.last_exit = Some(exit.to_string());
            }
        });
        // What has served from these files may do so again, whatever it says now.
        let has_served = not_started.digest.is_some()
            && self.good.as_ref().map(|good| good.digest) == not_started.digest;
        if not_started.state != State::Blocked && (not_started.again || has_served) {
            self.back_off(reason, std::time::Duration::ZERO);
        } else {
            shared.enter(not_started.state, Some(reason.clone()), |snapshot| {
                snapshot.reason = Some(reason);
            });
        }
    }

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
                if self.serving.is_none() && self.attempt.is_none() {
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
                } else if self.serving.is_none() && stays {
                    self.failed = self.good.as_ref().map(|good| good.digest);
                    self.back_off(cause, served);
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

    fn back_off(&mut self, cause: String, served: std::time::Duration) {
        let settings = &self.shared.catalogue.settings().restart;
        let now = Instant::now();
        match self.crashes.crashed(now, served, settings) {
            Verdict::Again(wait) => {
                self.due = Some(now + wait);
                let told = Some(cause.clone());
                self.shared.enter(State::BackingOff, told, |snapshot| {
                    snapshot.reason = Some(cause);
                    snapshot.next_start = TimeDelta::from_std(wait)
                        .ok()
                        .and_then(|wait| Utc::now().checked_add_signed(wait));
                });
            }
            Verdict::Loop(count) => {
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
