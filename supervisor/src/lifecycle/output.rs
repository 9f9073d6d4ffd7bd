//! What a plugin prints, on whichever of its outputs: read for as long as the process lives.
//!
//! Not reading would stop the plugin inside `write`; reading without bound would hand it our
//! memory. So everything is read, and the log keeps what its rate allows.
//!
//! And what a plugin asks of its host, as far as that is to be over when it has ended.

use std::sync::Arc;
use std::time::Duration;

use pinfold_gateway::admin::dto::{LogLevel, LogStream};
use pinfold_policy::Generation;
use pinfold_rpc::log::{Level, LogReader, Piece, Record};
use serde_json::Map;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::logs::{Origin, PluginLog};

/// How long the last lines of an ended process are waited for.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(2);
/// How long calls may take to end once they are told to. Each is dropped where it waits, so that only one
/// that computes at that moment takes any time.
const CALLS_END_LIMIT: Duration = Duration::from_secs(5);
/// Bytes read at once while there is much.
const READ_BYTES: usize = 16 * 1024;
/// Bytes taken apart before other tasks get their turn: they may be as many lines.
const PART_BYTES: usize = 512;
/// The same otherwise: a line. A plugin has four outputs, and most of the time nothing comes on any.
const QUIET_READ_BYTES: usize = 512;
/// Most that is read from one output a second, and at once, in bytes and as many more for each line
/// as [`LINE_BYTES`]: eight times what the log keeps. What is above stays in the pipe, and the plugin
/// waits: nobody else does.
const READ_BYTES_PER_SECOND: u32 = 2 * 1024 * 1024;
/// How much may be read at once, as the time that it is allowed in.
const BURST: Duration = Duration::from_secs(1);
/// What taking a line apart and keeping it costs, as that of so many bytes more.
const LINE_BYTES: usize = 128;

/// The readers of one instance's outputs, and what serves its calls of the host. They end with it, or when
/// this is dropped.
#[derive(Debug)]
pub(crate) struct Drains {
    tasks: TaskTracker,
    stop: CancellationToken,
    calls: TaskTracker,
    stop_calls: CancellationToken,
    log: Arc<PluginLog>,
    generation: Generation,
}

impl Drains {
    pub(crate) fn new(log: Arc<PluginLog>, generation: Generation) -> Self {
        Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            calls: TaskTracker::new(),
            stop_calls: CancellationToken::new(),
            log,
            generation,
        }
    }

    /// Reads `output` to its end.
    pub(crate) fn add(&self, stream: LogStream, output: impl AsyncRead + Send + Unpin + 'static) {
        let (log, generation) = (Arc::clone(&self.log), self.generation);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            drain(stream, output, &log, generation, &stop).await;
        });
    }

    /// Serves calls that the instance makes of its host, until they are over or the token that `serving` is
    /// given is cancelled: with the instance, or earlier by whoever cancels what is given back.
    pub(crate) fn serve<F>(&self, serving: impl FnOnce(CancellationToken) -> F) -> CancellationToken
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop_calls.child_token();
        self.calls.spawn(serving(stop.clone()));
        stop
    }

    /// Notes beside what it printed that a call was answered in a way that its contract does not
    /// know. Within the log's rate: a plugin can have this said as often as it is called.
    pub(crate) fn note_breach(&self, text: &str) {
        let origin = Origin {
            stream: LogStream::Host,
            level: LogLevel::Warn,
            generation: self.generation,
        };
        let message = format!("broke its contract: {text}");
        self.log.push(origin, message.as_bytes(), Map::new());
    }

    /// Reads no further: what is unread stays where it is, for another reader. Calls are ended as by
    /// [`finish`](Self::finish).
    pub(crate) async fn leave(&self) {
        self.tasks.close();
        self.stop.cancel();
        self.tasks.wait().await;
        self.end_calls().await;
    }

    /// Waits a moment for the last lines, and ends the calls under way. They are recorded when this returns:
    /// the end of the instance may be.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        if tokio::time::timeout(LAST_LINES_LIMIT, self.tasks.wait())
            .await
            .is_err()
        {
            self.stop.cancel();
            self.tasks.wait().await;
        }
        self.end_calls().await;
    }

    async fn end_calls(&self) {
        self.calls.close();
        self.stop_calls.cancel();
        if tokio::time::timeout(CALLS_END_LIMIT, self.calls.wait())
            .await
            .is_err()
        {
            let line = "calls of the host have not ended in time, and are recorded later";
            self.log.note(self.generation, LogLevel::Warn, line);
        }
    }
}

impl Drop for Drains {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_calls.cancel();
    }
}

async fn drain(
    stream: LogStream,
    mut output: impl AsyncRead + Unpin,
    log: &PluginLog,
    generation: Generation,
    stop: &CancellationToken,
) {
    let mut reader = LogReader::new();
    let mut buffer = vec![0; QUIET_READ_BYTES];
    let keep = |_: Piece<'_>,
                Record {
                    level,
                    message,
                    fields,
                }: Record| {
        let level = match (stream, level) {
            (LogStream::Stdout, Level::Debug) | (_, Level::Info) => LogLevel::Info,
            (_, Level::Trace) => LogLevel::Trace,
            (_, Level::Debug) => LogLevel::Debug,
            (_, Level::Warn) => LogLevel::Warn,
            (_, Level::Error) => LogLevel::Error,
        };
        log.push(
            Origin {
                stream,
                level,
                generation,
            },
            message.as_bytes(),
            fields,
        );
    };
    let mut pace = Pace::new();
    loop {
        // What has been read is kept: who stops leaves to another reader what is still in the pipe.
        let count = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            read = output.read(&mut buffer) => match read {
                Ok(count @ 1..) => count,
                Ok(0) | Err(_) => break,
            },
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        for (part, others) in bytes.chunks(PART_BYTES).zip(0_u32..) {
            if others > 0 {
                tokio::task::yield_now().await;
            }
            reader.push(part, keep);
        }
        pace.took(bytes);
        let wanted = if count < QUIET_READ_BYTES {
            QUIET_READ_BYTES
        } else {
            READ_BYTES
        };
        if buffer.len() != wanted {
            buffer = vec![0; wanted];
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = pace.wait() => {}
        }
    }
    reader.finish(keep);
}

/// How far one output is read ahead of its rate.
struct Pace {
    /// When all that was read will have been allowed.
    paid: Instant,
}

impl Pace {
    fn new() -> Self {
        Self {
            paid: Instant::now(),
        }
    }

    fn took(&mut self, bytes: &[u8]) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let cost = bytes.len().saturating_add(lines.saturating_mul(LINE_BYTES));
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let from = self.paid.max(Instant::now());
        let whole = Duration::from_secs(1).saturating_mul(cost);
        self.paid = from + whole / READ_BYTES_PER_SECOND;
    }

    /// Waits until it is no more than a second.
    async fn wait(&self) {
        tokio::time::sleep_until(self.paid - BURST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinfold_gateway::admin::dto::LogQuery;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn lines_keep_their_levels_and_the_last_one_needs_no_end() {
        let log = Arc::new(PluginLog::default());
        let drains = Drains::new(Arc::clone(&log), Generation(3));
        drains.add(
            LogStream::Stderr,
            &b"[WARN] careful\nplain\n{\"@level\":\"error\",\"@message\":\"m\",\"k\":1}"[..],
        );
        drains.finish().await;
        let records = log.newest(LogQuery::default());
        let seen: Vec<_> = records
            .iter()
            .map(|r| (r.level, r.message.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (LogLevel::Warn, "[WARN] careful"),
                (LogLevel::Debug, "plain"),
                (LogLevel::Error, "m")
            ]
        );
        let last = records.last().unwrap();
        assert_eq!(
            (last.generation, &last.fields["k"]),
            (3, &serde_json::json!(1))
        );
    }

    #[tokio::test]
    async fn lines_that_come_in_a_flood_and_alone_are_all_kept() {
        let lines: Vec<String> = (0..700).map(|n| format!("{n} {}", "x".repeat(n))).collect();
        let (mut plugin, output) = tokio::io::duplex(READ_BYTES);
        let log = Arc::new(PluginLog::default());
        let drains = Drains::new(Arc::clone(&log), Generation(1));
        drains.add(LogStream::Stderr, output);
        for line in &lines {
            plugin.write_all(line.as_bytes()).await.unwrap();
            plugin.write_all(b"\n").await.unwrap();
        }
        drop(plugin);
        drains.finish().await;
        let query = LogQuery {
            limit: lines.len(),
            ..LogQuery::default()
        };
        let seen: Vec<_> = log.newest(query).into_iter().map(|r| r.message).collect();
        assert_eq!(seen, lines);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_does_not_wait_for_ever_for_a_call_that_hangs() {
        let log = Arc::new(PluginLog::default());
        let drains = Drains::new(Arc::clone(&log), Generation(1));
        drains.serve(|_| std::future::pending());
        let begin = Instant::now();
        drains.finish().await;
        let took = begin.elapsed();
        assert!(
            (CALLS_END_LIMIT..2 * CALLS_END_LIMIT).contains(&took),
            "{took:?}"
        );
        let told = log.newest(LogQuery::default());
        assert!(
            told.iter().any(|r| r.message.contains("not ended in time")),
            "{told:?}"
        );
    }
}
