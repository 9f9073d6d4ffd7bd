//! Following: events and log records as they come. A follower has no queue of its own: it reads
//! what is kept for everybody, as fast as it takes it, and is told what was gone before it came.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use pinfold_gateway::admin::Following;
use pinfold_gateway::admin::dto::{EventQuery, EventView, FollowLine, LogQuery, LogRecord};
use pinfold_policy::PluginId;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Events, Followed, Follower};
use crate::logs::{PluginLog, Reader};

/// Most followers at once: each has a connection and a task.
pub(crate) const FOLLOWERS: usize = 64;

/// What every follower has.
pub(crate) struct Place {
    pub(crate) _permit: OwnedSemaphorePermit,
    /// The daemon ends.
    pub(crate) stopping: CancellationToken,
}

const STOPPING: &str = "the daemon is stopping";

/// The events that the query asks for and are there, then each as it comes.
pub(crate) fn events(events: &Events, query: &EventQuery, place: Place) -> Following {
    // In this order, so that none is lost between.
    let follower = events.subscribe();
    let backlog = events.latest(None, EventQuery::MAX_LIMIT);
    let mut waiting = VecDeque::new();
    if let Some(after) = after(query, &backlog)
        && let Some(first) = backlog.first()
        && first.number > after.saturating_add(1)
    {
        waiting.push_back(FollowLine::Missed(first.number - after - 1));
    }
    let seen = backlog.last().map_or(0, |event| event.number);
    let chosen = choose(&backlog, query);
    waiting.extend(chosen.into_iter().map(|e| FollowLine::Event(view(e))));
    let state = EventLines {
        waiting,
        follower,
        seen,
        plugin: query.plugin.clone(),
        place,
        is_over: false,
    };
    stream::unfold(state, |mut state| async move {
        let line = state.next().await?;
        Some((line, state))
    })
    .boxed()
}

/// The newest events that the query asks for, oldest first.
pub(crate) fn latest(events: &Events, query: &EventQuery) -> Vec<EventView> {
    let kept = events.latest(None, EventQuery::MAX_LIMIT);
    choose(&kept, query).into_iter().map(view).collect()
}

/// The number after which events are wanted, where one of this start of the daemon is named.
fn after(query: &EventQuery, kept: &[Arc<Event>]) -> Option<u64> {
    let last = kept.last().map_or(0, |event| event.number);
    query.after.filter(|after| *after <= last)
}

fn choose<'a>(kept: &'a [Arc<Event>], query: &EventQuery) -> Vec<&'a Event> {
    let after = after(query, kept).unwrap_or(0);
    let wanted = |plugin: &PluginId| query.plugin.as_ref().is_none_or(|only| only == plugin);
    let mut chosen: Vec<_> = kept
        .iter()
        .rev()
        .take_while(|event| event.number > after)
        .filter(|event| wanted(&event.plugin))
        .take(query.limit)
        .map(Arc::as_ref)
        .collect();
    chosen.reverse();
    chosen
}

fn view(event: &Event) -> EventView {
    EventView {
        number: event.number,
        time: event.time,
        plugin: event.plugin.clone(),
        generation: event.generation.0,
        kind: event.kind.as_str().into(),
        from: event.from.map(|state| state.as_str().into()),
        to: event.to.map(|state| state.as_str().into()),
        cause: event.cause.clone(),
    }
}

struct EventLines {
    waiting: VecDeque<FollowLine>,
    follower: Follower,
    /// Number of the last event that was looked at.
    seen: u64,
    plugin: Option<PluginId>,
    place: Place,
    is_over: bool,
}

impl EventLines {
    async fn next(&mut self) -> Option<FollowLine> {
        if let Some(line) = self.waiting.pop_front() {
            return Some(line);
        }
        while !self.is_over {
            let followed = tokio::select! {
                followed = self.follower.next() => followed,
                () = self.place.stopping.cancelled() => None,
            };
            match followed {
                Some(Followed::Event(event)) => {
                    let is_new = event.number > self.seen;
                    self.seen = self.seen.max(event.number);
                    let only = self.plugin.as_ref();
                    if is_new && only.is_none_or(|only| *only == event.plugin) {
                        return Some(FollowLine::Event(view(&event)));
                    }
                }
                Some(Followed::Missed(missed)) => return Some(FollowLine::Missed(missed)),
                None => {
                    self.is_over = true;
                    return Some(FollowLine::End(STOPPING.into()));
                }
            }
        }
        None
    }
}

/// The records that the query asks for and are there, then each as it comes.
pub(crate) fn logs(log: &Arc<PluginLog>, query: LogQuery, place: Place) -> Following {
    let state = LogLines {
        waiting: VecDeque::new(),
        reader: PluginLog::read_from(log, query),
        query,
        place,
        is_over: false,
    };
    stream::unfold(state, |mut state| async move {
        let line = state.next().await?;
        Some((line, state))
    })
    .boxed()
}

struct LogLines {
    waiting: VecDeque<FollowLine>,
    reader: Reader,
    query: LogQuery,
    place: Place,
    is_over: bool,
}

impl LogLines {
    async fn next(&mut self) -> Option<FollowLine> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            let (missed, records) = self.reader.read();
            if missed > 0 {
                self.waiting.push_back(FollowLine::Missed(missed));
            }
            let wanted = |record: &LogRecord| self.query.wants(record);
            let records = records.into_iter().filter(wanted);
            self.waiting.extend(records.map(FollowLine::Log));
            if !self.waiting.is_empty() {
                continue;
            }
            let there_is_more = tokio::select! {
                more = self.reader.more() => more,
                () = self.place.stopping.cancelled() => {
                    self.end(STOPPING);
                    continue;
                }
            };
            if !there_is_more {
                self.end("the plugin is no more");
            }
        }
    }

    fn end(&mut self, why: &str) {
        self.is_over = true;
        self.waiting.push_back(FollowLine::End(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use pinfold_gateway::admin::dto::{LogLevel, LogStream};
    use pinfold_policy::Generation;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::events::{EventKind, NewEvent};
    use crate::logs::Logs;
    use crate::state::State;

    fn place(stopping: &CancellationToken) -> Place {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Place {
            _permit: permit,
            stopping: stopping.clone(),
        }
    }

    fn happen(events: &Events, plugin: &str) {
        events.record(NewEvent {
            plugin: plugin.parse().unwrap(),
            generation: Generation(1),
            kind: EventKind::StateChanged,
            from: Some(State::Starting),
            to: Some(State::Ready),
            cause: None,
        });
    }

    fn number(line: Option<FollowLine>) -> u64 {
        match line {
            Some(FollowLine::Event(event)) => event.number,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn events_are_followed_without_a_gap_until_the_daemon_stops() {
        let (all, stopping) = (Events::default(), CancellationToken::new());
        for plugin in ["a", "b", "a"] {
            happen(&all, plugin);
        }
        let query = EventQuery {
            after: Some(1),
            plugin: Some("a".parse().unwrap()),
            follow: true,
            ..EventQuery::default()
        };
        let mut lines = events(&all, &query, place(&stopping));
        happen(&all, "b");
        happen(&all, "a");
        assert_eq!(number(lines.next().await), 3);
        assert_eq!(number(lines.next().await), 5);
        stopping.cancel();
        assert_eq!(lines.next().await, Some(FollowLine::End(STOPPING.into())));
        assert_eq!(lines.next().await, None);
    }

    #[tokio::test]
    async fn what_is_no_longer_kept_is_told_as_missed() {
        let all = Events::default();
        for _ in 0..EventQuery::MAX_LIMIT + 10 {
            happen(&all, "a");
        }
        let query = EventQuery {
            after: Some(4),
            limit: 1,
            ..EventQuery::default()
        };
        let stopping = CancellationToken::new();
        let mut lines = events(&all, &query, place(&stopping));
        assert_eq!(lines.next().await, Some(FollowLine::Missed(6)));
        assert_eq!(number(lines.next().await), 1010);
        // A number of an earlier start of the daemon.
        let query = EventQuery {
            after: Some(5000),
            limit: 2,
            ..EventQuery::default()
        };
        let numbers: Vec<_> = latest(&all, &query).iter().map(|e| e.number).collect();
        assert_eq!(numbers, [1009, 1010]);
    }

    #[tokio::test]
    async fn a_follower_of_a_log_that_is_too_slow_is_told_and_goes_on() {
        let (logs, plugin) = (Logs::default(), "a".parse().unwrap());
        let log = logs.of(&plugin);
        let print = |text: &str| {
            let (stream, level) = (LogStream::Stdout, LogLevel::Info);
            let origin = crate::logs::Origin {
                stream,
                level,
                generation: Generation(1),
            };
            log.push(origin, text.as_bytes(), serde_json::Map::new());
        };
        for text in ["long before", "just before", "before"] {
            print(text);
        }
        let stopping = CancellationToken::new();
        let query = LogQuery {
            limit: 2,
            ..LogQuery::default()
        };
        let mut lines = super::logs(&log, query, place(&stopping));
        let mut next = async || match lines.next().await {
            Some(FollowLine::Log(record)) => record.message,
            other => format!("{other:?}"),
        };
        assert_eq!(next().await, "just before");
        assert_eq!(next().await, "before");
        for n in 0..1500 {
            print(&n.to_string());
        }
        assert_eq!(next().await, "Some(Missed(500))");
        for n in 500..1500 {
            assert_eq!(next().await, n.to_string());
        }
        logs.forget(&plugin);
        assert_eq!(next().await, "Some(End(\"the plugin is no more\"))");
        assert_eq!(next().await, "None");
    }
}
