//! What happened in the lives of plugins: each change of state and each reload is one event, with
//! its cause. The newest are kept, and whoever follows is told of each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use pinfold_policy::{Generation, PluginId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::state::State;

/// Events kept.
const RING_EVENTS: usize = 1000;
/// Events that a follower may be behind: some seconds of a daemon with hundreds of plugins.
const FOLLOWER_EVENTS: usize = 256;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The plugin's state has changed.
    StateChanged,
    /// A new instance has taken the place of the old one, without a gap.
    Reloaded,
    /// A newer version was not taken: the old one goes on.
    Rejected,
    /// The instance that the daemon before left serves on.
    TakenOver,
    /// The instance that the daemon before left was ended, and is started anew.
    Replaced,
}

impl EventKind {
    /// As the API writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::StateChanged => "state-changed",
            Self::Reloaded => "reloaded",
            Self::Rejected => "rejected",
            Self::TakenOver => "taken-over",
            Self::Replaced => "replaced",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Counts from 1 with each start of the daemon, without a gap.
    pub(crate) number: u64,
    pub(crate) time: DateTime<Utc>,
    pub(crate) plugin: PluginId,
    /// The instance that it is about; 0 where there is none yet.
    pub(crate) generation: Generation,
    pub(crate) kind: EventKind,
    pub(crate) from: Option<State>,
    pub(crate) to: Option<State>,
    /// Why, where there is more to say than the kind does.
    pub(crate) cause: Option<String>,
}

/// An event that is not numbered yet.
#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) plugin: PluginId,
    pub(crate) generation: Generation,
    pub(crate) kind: EventKind,
    pub(crate) from: Option<State>,
    pub(crate) to: Option<State>,
    pub(crate) cause: Option<String>,
}

/// The newest events, and those who follow.
#[derive(Debug)]
pub(crate) struct Events {
    ring: Mutex<Ring>,
    followers: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    last: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            followers: broadcast::Sender::new(FOLLOWER_EVENTS),
        }
    }
}

impl Events {
    /// Numbers and keeps an event, logs it, and tells whoever follows.
    pub(crate) fn record(&self, new: NewEvent) -> Arc<Event> {
        let NewEvent {
            plugin,
            generation,
            kind,
            from,
            to,
            cause,
        } = new;
        let mut ring = self.ring();
        ring.last = ring.last.saturating_add(1);
        let event = Arc::new(Event {
            number: ring.last,
            time: Utc::now(),
            plugin,
            generation,
            kind,
            from,
            to,
            cause,
        });
        if ring.events.len() >= RING_EVENTS {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::clone(&event));
        // Under the lock, so that followers see them in order. Nobody following is no failure.
        self.followers.send(Arc::clone(&event)).unwrap_or_default();
        drop(ring);
        event.log();
        event
    }

    /// The newest `limit` events after number `after`, oldest first.
    pub(crate) fn latest(&self, after: Option<u64>, limit: usize) -> Vec<Arc<Event>> {
        let ring = self.ring();
        let newer = |event: &&Arc<Event>| after.is_none_or(|after| event.number > after);
        let wanted = ring.events.iter().rev().take_while(newer).take(limit);
        let mut events: Vec<_> = wanted.cloned().collect();
        events.reverse();
        events
    }

    /// Follows from now on. To miss none, subscribe first, then ask for the [`latest`](Self::latest)
    /// and leave out of what follows the numbers that were in it.
    pub(crate) fn subscribe(&self) -> Follower {
        Follower(self.followers.subscribe())
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives events as they happen.
#[derive(Debug)]
pub(crate) struct Follower(broadcast::Receiver<Arc<Event>>);

/// What a follower is told.
#[derive(Clone, Debug)]
pub(crate) enum Followed {
    /// The next event.
    Event(Arc<Event>),
    /// It was too slow: so many events are gone.
    Missed(u64),
}

impl Follower {
    /// The next event; `None` once the daemon ends. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Followed> {
        match self.0.recv().await {
            Ok(event) => Some(Followed::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Followed::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Event {
    fn log(&self) {
        macro_rules! log {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    event.number = self.number,
                    plugin.id = %self.plugin,
                    plugin.generation = self.generation.0,
                    plugin.state = self.to.map(State::as_str),
                    plugin.state.from = self.from.map(State::as_str),
                    cause = self.cause.as_deref(),
                    $message
                )
            };
        }
        match (self.kind, self.to) {
            (EventKind::Reloaded, _) => log!(info, "plugin reloaded"),
            (EventKind::TakenOver, _) => log!(info, "plugin taken over from the daemon before"),
            (EventKind::Replaced, _) => {
                log!(warn, "plugin left by the daemon before is started anew");
            }
            (EventKind::Rejected, _) => log!(error, "new version not taken, the old one goes on"),
            (EventKind::StateChanged, to) => match to {
                Some(State::Ready) => log!(info, "plugin ready"),
                Some(State::Degraded) => log!(warn, "plugin degraded"),
                Some(State::Draining) => log!(info, "plugin draining"),
                Some(State::Stopped) => log!(info, "plugin stopped"),
                Some(State::Disabled) => log!(info, "plugin disabled"),
                Some(State::BackingOff) => log!(warn, "plugin backs off"),
                Some(State::Failed) => log!(error, "plugin failed"),
                Some(State::Blocked) => log!(error, "plugin blocked"),
                Some(State::Discovered | State::Staged | State::Starting) | None => {
                    log!(debug, "plugin state changed");
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_event(cause: &str) -> NewEvent {
        NewEvent {
            plugin: "a".parse().unwrap(),
            generation: Generation(1),
            kind: EventKind::StateChanged,
            from: Some(State::Starting),
            to: Some(State::Ready),
            cause: Some(cause.to_owned()),
        }
    }

    #[test]
    fn the_newest_are_kept_and_numbers_have_no_gap() {
        let events = Events::default();
        for n in 1..=RING_EVENTS + 5 {
            assert_eq!(events.record(new_event("x")).number, n as u64);
        }
        let numbers = |after, limit| -> Vec<u64> {
            let latest = events.latest(after, limit);
            latest.iter().map(|event| event.number).collect()
        };
        assert_eq!(numbers(None, usize::MAX).len(), RING_EVENTS);
        assert_eq!(numbers(None, 2), [1004, 1005]);
        assert_eq!(numbers(Some(1003), 10), [1004, 1005]);
        assert_eq!(numbers(Some(1003), 1), [1005]);
        assert_eq!(numbers(Some(1005), 10), [0; 0]);
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_how_many_it_missed() {
        let events = Events::default();
        let mut follower = events.subscribe();
        for _ in 0..FOLLOWER_EVENTS + 3 {
            events.record(new_event("x"));
        }
        let Some(Followed::Missed(3)) = follower.next().await else {
            panic!("three were missed");
        };
        let Some(Followed::Event(event)) = follower.next().await else {
            panic!("the rest is there");
        };
        assert_eq!(event.number, 4);
        drop(events);
        while let Some(followed) = follower.next().await {
            assert!(matches!(followed, Followed::Event(_)));
        }
    }
}
