//! The times of a session: keep-alive, a socket that takes nothing, streams that wait for the peer.
use std::time::Duration;

use super::config::{Config, KeepAlive};
use super::error::SessionError;

/// Streams that wait for the peer are looked at this often, or more often where the limits are shorter.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the deadlines of a session; it is told the time and sends nothing itself.
#[derive(Debug)]
pub(super) struct Liveness {
    keep_alive: Option<KeepAlive>,
    write_timeout: Duration,
    sweep_interval: Duration,
    ask_at: Option<Duration>,
    answer_until: Option<Duration>,
    next_value: u32,
    blocked_until: Option<Duration>,
    sweep_at: Option<Duration>,
}

impl Liveness {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            keep_alive: config.keep_alive,
            write_timeout: config.write_timeout,
            sweep_interval: SWEEP_INTERVAL
                .min(config.open_timeout)
                .min(config.close_timeout),
            ask_at: config.keep_alive.map(|keep_alive| keep_alive.interval),
            answer_until: None,
            next_value: 0,
            blocked_until: None,
            sweep_at: None,
        }
    }

    /// There is a stream that waits for the peer.
    pub(super) fn watch_streams(&mut self, now: Duration) {
        self.sweep_at
            .get_or_insert(now.saturating_add(self.sweep_interval));
    }

    pub(super) fn write_blocked(&mut self, now: Duration) {
        self.blocked_until
            .get_or_insert(now.saturating_add(self.write_timeout));
    }

    pub(super) fn write_progressed(&mut self) {
        self.blocked_until = None;
    }

    /// A ping's answer came; one that was not asked for is ignored.
    pub(super) fn answered(&mut self, value: u32, now: Duration) {
        let (Some(_), Some(keep_alive)) = (self.answer_until, self.keep_alive) else {
            return;
        };
        if value == self.next_value.wrapping_sub(1) {
            self.answer_until = None;
            self.ask_at = Some(now.saturating_add(keep_alive.interval));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        [
            self.ask_at,
            self.answer_until,
            self.blocked_until,
            self.sweep_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Fails when a deadline of the whole session has passed; returns the value of a ping that shall be sent.
    pub(super) fn check(&mut self, now: Duration) -> Result<Option<u32>, SessionError> {
        let is_over = |deadline: Option<Duration>| deadline.is_some_and(|deadline| deadline <= now);
        if is_over(self.blocked_until) {
            return Err(SessionError::WriteStalled {
                timeout: self.write_timeout,
            });
        }
        let Some(keep_alive) = self.keep_alive else {
            return Ok(None);
        };
        if is_over(self.answer_until) {
            return Err(SessionError::KeepAlive {
                timeout: keep_alive.timeout,
            });
        }
        if !is_over(self.ask_at) {
            return Ok(None);
        }
        self.ask_at = None;
        self.answer_until = Some(now.saturating_add(keep_alive.timeout));
        let value = self.next_value;
        self.next_value = value.wrapping_add(1);
        Ok(Some(value))
    }

    pub(super) fn sweep_is_due(&mut self, now: Duration) -> bool {
        let due = self.sweep_at.is_some_and(|at| at <= now);
        if due {
            self.sweep_at = None;
        }
        due
    }
}
