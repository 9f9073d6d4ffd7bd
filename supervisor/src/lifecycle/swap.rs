//! One instance in the place of another, or of none: attempts, and what follows them.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt as _;
use pinfold_gateway::admin::dto::LogLevel;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Candidate, Outcome, Plan, Trigger};
use super::end::{self, Ending};
use super::not_started::NotStarted;
use super::{Attempt, Attempted, Lifecycle};
use crate::chain::Chain;
use crate::events::EventKind;
use crate::state::{Registered, Rejected, State};

impl Lifecycle {
    /// Begins an attempt to start the plugin. One that is under way is given up for it, and what
    /// it was made for counts for the new one.
    pub(super) fn begin(&mut self, trigger: Trigger) {
        if self.leaving {
            return;
        }
        let given_up = self.give_up();
        let trigger = given_up.map_or(trigger, |before| trigger.max(before));
        let comes_back = self.due.is_some() || given_up == Some(Trigger::Again);
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
                // What was given up for it may have been made from the same files.
                (None, Trigger::Files) if given_up.is_none() => self.failed,
                _ => None,
            },
            short: self.crashes.is_short(),
            kept,
        };
        self.attempt = Some(Attempt {
            what: Attempted {
                trigger,
                beside: self.serving.is_some() || comes_back,
            },
            cancel,
            outcome: attempt::attempt(plan).boxed(),
        });
    }

    /// Gives up the attempt that is under way, and says what it was made for.
    pub(super) fn give_up(&mut self) -> Option<Trigger> {
        let Attempt {
            what,
            cancel,
            outcome,
        } = self.attempt.take()?;
        cancel.cancel();
        let shared = Arc::clone(&self.shared);
        let reaped = async move {
            match outcome.await {
                Outcome::Serves(candidate) => {
                    // It was never in the table: nobody holds it.
                    candidate.serving.released.cancel();
                    end::stop(shared, candidate.serving).await;
                }
                // What was refused, or failed by itself, is no less so for being given up.
                Outcome::Failed(not_started) => not_started.audit(&shared),
                Outcome::Unchanged | Outcome::GivenUp => {}
            }
            Ending::Reaped
        };
        self.endings.push(reaped.boxed());
        Some(what.trigger)
    }

    pub(super) fn attempted(&mut self, attempted: Attempted, outcome: Outcome) {
        let Attempted { trigger, beside } = attempted;
        match &outcome {
            Outcome::Serves(_) => {
                self.failed = None;
                self.crashes.served();
            }
            // Where it is the policy or a signature that is missing, the same files may do.
            Outcome::Failed(not_started) if not_started.untrusted => self.failed = None,
            Outcome::Failed(not_started) => self.failed = not_started.digest,
            Outcome::Unchanged | Outcome::GivenUp => {}
        }
        if trigger == Trigger::Files {
            let tried = match &outcome {
                Outcome::Serves(candidate) => Some(candidate.files.digest),
                Outcome::Failed(not_started) => not_started.digest,
                Outcome::Unchanged | Outcome::GivenUp => None,
            };
            if !matches!(outcome, Outcome::Unchanged) {
                self.due = None;
            }
            if tried.is_some() && tried != self.good.as_ref().map(|good| good.digest) {
                self.crashes.clear();
            }
        }
        match outcome {
            Outcome::Serves(candidate) => self.take(*candidate, trigger),
            // What serves lies there again, and what was not taken no more.
            Outcome::Unchanged if self.serving.is_some() => {
                self.shared.change(|snapshot| snapshot.rejected = None);
            }
            // What served from these files has ended meanwhile.
            Outcome::Unchanged if beside && self.due.is_none() => self.come_back(),
            Outcome::Unchanged => {}
            Outcome::Failed(not_started) if self.serving.is_some() => self.reject(&not_started),
            // The old one has ended, and is what is started again.
            Outcome::Failed(not_started) if beside && self.is_newer(&not_started) => {
                self.reject(&not_started);
                match not_started.shortage {
                    true if self.ending_served == 0 => self.wait_for_machine(not_started.text()),
                    true => {}
                    false => self.come_back(),
                }
            }
            Outcome::Failed(not_started) => self.not_started(&not_started),
            // Its records are written where it is given up.
            Outcome::GivenUp => {}
        }
    }

    /// Has what served last come back after a while. Where its end is still being looked into, that
    /// does it.
    fn come_back(&mut self) {
        if self.ending_served == 0 {
            let exit = self.shared.snapshot().last_exit.clone();
            self.back_off(exit.unwrap_or_default(), Duration::ZERO, true);
        }
    }

    /// Whether it is about other files than those that served last.
    fn is_newer(&self, not_started: &NotStarted) -> bool {
        let good = self.good.as_ref();
        good.is_some_and(|good| Some(good.digest) != not_started.digest)
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
        // The policy that the daemon wrote for the new files is not for those that go on.
        if let Some(Err(error)) = self.good.as_ref().map(|good| good.grant(shared)) {
            let error = Chain(&error).to_string();
            tracing::warn!(plugin.id = %shared.plugin, error, "policy of what serves not restored");
        }
        let reason = not_started.text();
        let current = shared.snapshot.borrow().generation;
        let generation = not_started.generation.unwrap_or(current);
        not_started.audit(shared);
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
        self.decided = true;
        let shared = Arc::clone(&self.shared);
        let reason = not_started.text();
        let generation = shared.snapshot.borrow().generation;
        // While the machine is short of the same, the trail would fill with it, and room for its records too.
        if !(not_started.shortage && self.crashes.is_short()) {
            not_started.audit(&shared);
        }
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
        match not_started.state {
            State::Blocked => self.rest(State::Blocked, reason),
            _ if not_started.shortage => self.wait_for_machine(reason),
            _ if not_started.again || has_served => {
                self.back_off(reason, Duration::ZERO, not_started.exit.is_some());
            }
            state => self.rest(state, reason),
        }
    }

    /// Until somebody mends it.
    fn rest(&self, state: State, reason: String) {
        self.shared.enter(state, Some(reason.clone()), |snapshot| {
            snapshot.reason = Some(reason);
        });
    }
}
