//! What a plugin prints and logs, kept for its operator alone.
//!
//! Each plugin has a ring of its own: one that floods evicts nothing of another's. What is above
//! its rate is read and dropped, and counted.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use pinfold_gateway::admin::dto::{LogLevel, LogQuery, LogRecord, LogStream};
use pinfold_policy::{Generation, PluginId, is_unprintable};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Records kept for each plugin.
const RING_RECORDS: usize = 1000;
/// Memory that the records of one plugin may take, in bytes, roughly.
const RING_BYTES: usize = 4 * 1024 * 1024;
/// What a record takes beside its texts, and a value among its fields, in bytes, roughly.
const NODE_BYTES: usize = 64;
/// Longest line kept, in bytes: the rest is cut.
pub(crate) const LINE_LIMIT_BYTES: usize = 8 * 1024;
/// Bytes a second that are kept, in the long run: enough for a chatty program.
const RATE_BYTES_PER_SECOND: u64 = 256 * 1024;
/// Bytes kept at once: a start-up banner or a stack trace of every goroutine.
const BURST_BYTES: u64 = 1024 * 1024;

/// Most records that a follower takes at once: a few pages, and little time under the lock.
const READ_RECORDS: usize = 64;

/// Where a record comes from and how grave it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) stream: LogStream,
    pub(crate) level: LogLevel,
    pub(crate) generation: Generation,
}

/// The log of one plugin, over all its generations.
#[derive(Debug)]
pub(crate) struct PluginLog {
    ring: Mutex<Ring>,
    /// Records that were read and not kept, ever.
    dropped_records: AtomicU64,
    /// Number of the newest record, for those who follow.
    news: watch::Sender<u64>,
    /// Cancelled when the plugin is no more.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Ring {
    /// Each with the memory that it takes.
    records: VecDeque<(LogRecord, usize)>,
    bytes: usize,
    /// Number of the newest record, counting from 1.
    last: u64,
    budget_bytes: u64,
    filled: Instant,
    dropped_records: u64,
}

/// The logs of all plugins, which outlive their instances.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    by_plugin: Mutex<HashMap<PluginId, Arc<PluginLog>>>,
}

impl Logs {
    /// The log of one plugin, made where it has none yet.
    pub(crate) fn of(&self, plugin: &PluginId) -> Arc<PluginLog> {
        let mut logs = self
            .by_plugin
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(plugin) {
            return Arc::clone(log);
        }
        Arc::clone(logs.entry(plugin.clone()).or_default())
    }

    /// Drops the log of a plugin that is no longer there.
    pub(crate) fn forget(&self, plugin: &PluginId) {
        let removed = self
            .by_plugin
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(plugin);
        if let Some(log) = removed {
            log.closed.cancel();
        }
    }
}

impl pinfold_hostapi::LogSink for Logs {
    fn record(
        &self,
        caller: &pinfold_hostapi::Caller,
        level: pinfold_hostapi::LogLevel,
        message: &str,
        fields: &Map<String, Value>,
    ) {
        use pinfold_hostapi::LogLevel as From;
        let level = match level {
            From::Debug => LogLevel::Debug,
            From::Info => LogLevel::Info,
            From::Warn => LogLevel::Warn,
            From::Error => LogLevel::Error,
        };
        let origin = Origin {
            stream: LogStream::Log,
            level,
            generation: caller.generation,
        };
        self.of(&caller.plugin)
            .push(origin, message.as_bytes(), fields.clone());
    }
}

impl Default for PluginLog {
    fn default() -> Self {
        Self {
            ring: Mutex::new(Ring {
                records: VecDeque::new(),
                bytes: 0,
                last: 0,
                budget_bytes: BURST_BYTES,
                filled: Instant::now(),
                dropped_records: 0,
            }),
            dropped_records: AtomicU64::new(0),
            news: watch::Sender::new(0),
            closed: CancellationToken::new(),
        }
    }
}

impl PluginLog {
    /// Keeps a record, its message cut at [`LINE_LIMIT_BYTES`] and its control characters escaped.
    pub(crate) fn push(&self, origin: Origin, message: &[u8], fields: Map<String, Value>) {
        let message = printable(message);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let size = size_of_record(&message, &fields);
        if !ring.afford(size as u64) {
            ring.dropped_records = ring.dropped_records.saturating_add(1);
            self.dropped_records.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if ring.dropped_records > 0 {
            let text = format!(
                "{} records dropped: over the log's rate",
                ring.dropped_records
            );
            ring.dropped_records = 0;
            let origin = Origin {
                stream: LogStream::Host,
                level: LogLevel::Warn,
                ..origin
            };
            ring.keep(origin, text, Map::new());
        }
        ring.keep(origin, message, fields);
        self.news.send_replace(ring.last);
    }

    /// What the daemon itself notes about the plugin's life. It is kept whatever the rate: a flood
    /// just before the end must not hide the end.
    pub(crate) fn note(&self, generation: Generation, level: LogLevel, message: &str) {
        let origin = Origin {
            stream: LogStream::Host,
            level,
            generation,
        };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.keep(origin, printable(message.as_bytes()), Map::new());
        self.news.send_replace(ring.last);
    }

    /// Records over the log's rate, which were read and not kept.
    pub(crate) fn dropped_records(&self) -> u64 {
        self.dropped_records.load(Ordering::Relaxed)
    }

    /// The newest records that the query asks for, oldest first.
    pub(crate) fn newest(&self, query: LogQuery) -> Vec<LogRecord> {
        self.ring().newest(query)
    }

    /// The newest records with exactly one of these levels, the newest first.
    pub(crate) fn newest_of(&self, levels: &[LogLevel], limit: usize) -> Vec<LogRecord> {
        let ring = self.ring();
        let records = ring.records.iter().rev().map(|(record, _)| record);
        let wanted = records.filter(|record| levels.contains(&record.level));
        wanted.take(limit).cloned().collect()
    }

    /// Number of records that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.ring().records.len()
    }

    /// A reader from the first of the newest records that the query asks for; where it asks for
    /// none, from the next to come.
    pub(crate) fn read_from(log: &Arc<Self>, query: LogQuery) -> Reader {
        let ring = log.ring();
        let wanted = ring.records.iter().rev().enumerate();
        let wanted = wanted.filter(|(_, (record, _))| query.wants(record));
        let first = wanted.take(query.limit).last();
        let back = first.map_or(0, |(at, _)| at + 1);
        Reader {
            log: Arc::clone(log),
            news: log.news.subscribe(),
            seen: ring
                .last
                .saturating_sub(u64::try_from(back).unwrap_or(u64::MAX)),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a log as it is written, from what is kept for everybody.
#[derive(Debug)]
pub(crate) struct Reader {
    log: Arc<PluginLog>,
    news: watch::Receiver<u64>,
    /// Number of the last record that was read, or is gone.
    seen: u64,
}

impl Reader {
    /// How many records were gone before they were read, and the next ones, a few at once.
    pub(crate) fn read(&mut self) -> (u64, Vec<LogRecord>) {
        let ring = self.log.ring();
        let kept = u64::try_from(ring.records.len()).unwrap_or(u64::MAX);
        let gone = ring.last.saturating_sub(kept);
        let missed = gone.saturating_sub(self.seen);
        self.seen = self.seen.max(gone);
        let skipped = usize::try_from(self.seen - gone).unwrap_or(usize::MAX);
        let unread = ring.records.iter().skip(skipped);
        let records: Vec<_> = unread
            .take(READ_RECORDS)
            .map(|(record, _)| record.clone())
            .collect();
        self.seen += u64::try_from(records.len()).unwrap_or(0);
        (missed, records)
    }

    /// Waits until there is more to read; `false` once there will be no more. Cancel-safe.
    pub(crate) async fn more(&mut self) -> bool {
        let seen = self.seen;
        let log = Arc::clone(&self.log);
        tokio::select! {
            biased;
            news = self.news.wait_for(|newest| *newest > seen) => news.is_ok(),
            () = log.closed.cancelled() => false,
        }
    }
}

impl Ring {
    fn newest(&self, query: LogQuery) -> Vec<LogRecord> {
        let records = self.records.iter().rev().map(|(record, _)| record);
        let wanted = records.filter(|record| query.wants(record));
        let mut records: Vec<_> = wanted.take(query.limit).cloned().collect();
        records.reverse();
        records
    }

    fn afford(&mut self, bytes: u64) -> bool {
        let now = Instant::now();
        let elapsed = now
            .saturating_duration_since(self.filled)
            .min(Duration::from_secs(60));
        let earned = u64::try_from(elapsed.as_millis())
            .unwrap_or(0)
            .saturating_mul(RATE_BYTES_PER_SECOND)
            / 1000;
        if earned > 0 {
            self.budget_bytes = self.budget_bytes.saturating_add(earned).min(BURST_BYTES);
            self.filled = now;
        }
        match self.budget_bytes.checked_sub(bytes) {
            Some(rest) => {
                self.budget_bytes = rest;
                true
            }
            None => false,
        }
    }

    fn keep(&mut self, origin: Origin, message: String, fields: Map<String, Value>) {
        let size = size_of_record(&message, &fields);
        self.bytes = self.bytes.saturating_add(size);
        while self.records.len() >= RING_RECORDS || self.bytes > RING_BYTES {
            let Some((_, gone)) = self.records.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(gone);
        }
        let record = LogRecord {
            time: Utc::now(),
            stream: origin.stream,
            level: origin.level,
            generation: origin.generation.0,
            message,
            fields,
        };
        self.records.push_back((record, size));
        self.last += 1;
    }
}

/// About how many bytes of memory a record takes.
fn size_of_record(message: &str, fields: &Map<String, Value>) -> usize {
    let fields: usize = fields
        .iter()
        .map(|(name, value)| name.len() + size_of_value(value))
        .sum();
    NODE_BYTES + message.len() + fields
}

/// About how many bytes of memory a value takes: an empty list, three bytes of JSON, is not small.
/// What is here came from a parser that bounds nesting.
fn size_of_value(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of_value).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| name.len() + size_of_value(value))
            .sum(),
        _ => 0,
    };
    NODE_BYTES + inner
}

/// Valid text without control characters: what a plugin prints may be meant for a terminal.
fn printable(bytes: &[u8]) -> String {
    let cut = bytes.get(..LINE_LIMIT_BYTES).unwrap_or(bytes);
    let mut text = String::with_capacity(cut.len());
    for c in String::from_utf8_lossy(cut).chars() {
        if is_unprintable(c) && c != '\t' {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if bytes.len() > LINE_LIMIT_BYTES {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(stream: LogStream, level: LogLevel) -> Origin {
        Origin {
            stream,
            level,
            generation: Generation(1),
        }
    }

    fn all() -> LogQuery {
        LogQuery {
            limit: usize::MAX,
            ..LogQuery::default()
        }
    }

    #[test]
    fn what_a_plugin_prints_cannot_hide_its_end_nor_turn_a_lines_direction() {
        let log = PluginLog::default();
        let from = origin(LogStream::Stdout, LogLevel::Info);
        for _ in 0..1000 {
            log.push(from, &[b'x'; LINE_LIMIT_BYTES], Map::new());
        }
        log.push(from, b"dropped", Map::new());
        let note = "ended: \u{202e}\u{2028}exited with status 0";
        log.note(Generation(1), LogLevel::Error, note);
        let last = log.newest(all()).pop().unwrap();
        assert_eq!(last.stream, LogStream::Host);
        assert_eq!(
            last.message,
            "ended: \\u{202e}\\u{2028}exited with status 0"
        );
    }

    #[tokio::test]
    async fn who_follows_is_told_of_a_note_at_once() {
        let log = Arc::new(PluginLog::default());
        let mut reader = PluginLog::read_from(&log, LogQuery::default());
        log.note(Generation(1), LogLevel::Error, "ended: killed");
        let more = tokio::time::timeout(Duration::from_secs(30), reader.more());
        assert!(more.await.expect("a note is news"));
        let (missed, records) = reader.read();
        assert_eq!((missed, records.len()), (0, 1));
    }

    #[test]
    fn a_ring_keeps_the_newest_and_tells_streams_apart() {
        let log = PluginLog::default();
        for n in 0..RING_RECORDS + 5 {
            let from = origin(LogStream::Stdout, LogLevel::Info);
            log.push(from, format!("{n}").as_bytes(), Map::new());
        }
        let from = origin(LogStream::Stderr, LogLevel::Error);
        log.push(from, b"\x1b[31mred\xff", Map::new());
        let records = log.newest(all());
        assert_eq!(records.len(), RING_RECORDS);
        assert_eq!(records.first().unwrap().message, "6");
        let query = LogQuery {
            level: Some(LogLevel::Warn),
            ..all()
        };
        assert_eq!(
            log.newest(query).first().unwrap().message,
            "\\u{1b}[31mred\u{fffd}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn small_texts_that_become_large_values_are_bounded_by_what_they_take() {
        let log = PluginLog::default();
        let from = origin(LogStream::Stderr, LogLevel::Info);
        let text = format!("{{\"a\":[{}[]]}}", "[],".repeat(5_000));
        let Value::Object(fields) = serde_json::from_str(&text).unwrap() else {
            panic!("an object");
        };
        for _ in 0..RING_RECORDS {
            log.push(from, b"m", fields.clone());
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        let kept = log.newest(all()).len();
        assert!((5..20).contains(&kept), "{kept} of some 320 KiB each");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_dropped_and_counted() {
        let log = PluginLog::default();
        let line = vec![b'x'; LINE_LIMIT_BYTES];
        let from = origin(LogStream::Stdout, LogLevel::Info);
        for _ in 0..400 {
            log.push(from, &line, Map::new());
        }
        let kept = log.newest(all()).len();
        assert!((100..200).contains(&kept), "{kept}");
        tokio::time::advance(Duration::from_secs(10)).await;
        log.push(from, b"after", Map::new());
        let records = log.newest(LogQuery { limit: 2, ..all() });
        assert!(
            records.first().unwrap().message.contains("records dropped"),
            "{records:?}"
        );
        assert_eq!(log.dropped_records(), 400 - kept as u64);
    }
}
