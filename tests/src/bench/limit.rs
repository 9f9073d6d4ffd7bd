//! The limit: the least work that any net/rpc host can do with a plugin, as a yardstick.
//!
//! One thread, one connection, requests encoded beforehand; every reply that one read brings is
//! answered by one write that carries all following requests. Nothing is decoded but lengths and
//! numbers of calls, and the plugin is trusted wholly: a measuring tool, not an example of a host.

pub(super) mod plugin;
pub(super) mod requests;
pub(super) mod wire;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::calls::load::nanoseconds;
use plugin::Plugin;
use requests::Requests;
use wire::{Frame, Kind};

/// The stream on which the plugin's methods are called. Before it come control and the two of
/// standard output and error.
const CALLS: u32 = 7;
/// What yamux lets a side send before the other grants more.
const WINDOW_BYTES: u32 = 256 << 10;
/// Grants are given back in halves of it, as yamux does.
const GRANT_BYTES: u32 = WINDOW_BYTES / 2;
/// The most that one read takes.
const READ_BYTES: usize = 1 << 20;

/// Calls are answered out of their order, so that more numbers than callers lie between the oldest
/// and the newest under way; no plugin lets thousands overtake one.
const PLACES: usize = 8192;

/// A connection to a plugin, and the calls under way on it.
pub(super) struct Limit {
    stream: UnixStream,
    requests: Requests,
    callers: usize,
    /// What was read and is not understood yet.
    input: Input,
    /// Bytes of calls that the window has no room for yet.
    pending: Pending,
    /// What is to be written next.
    output: Vec<u8>,
    /// Replies, unframed.
    replies: Vec<u8>,
    /// How much may be sent.
    window: u32,
    /// How much was received and not granted again.
    received: u32,
    /// Bytes of the broker's answer that come before replies.
    greeting: usize,
    /// The call whose header was read and whose body was not.
    header: Option<u64>,
    /// When each call that is under way was sent, a ring by the calls' numbers.
    sent: Vec<Instant>,
    under_way: usize,
    times: Vec<u32>,
    _plugin: Plugin,
}

struct Input {
    buffer: Vec<u8>,
    filled: usize,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    done: usize,
}

impl Limit {
    /// Starts the plugin, and opens a stream to its methods. Its function echo needs no
    /// registration and no initialisation.
    pub(super) fn start(
        program: &Path,
        arguments: &[u8],
        callers: usize,
        times: Vec<u32>,
    ) -> anyhow::Result<Self> {
        let (plugin, stream) = Plugin::start(program)?;
        stream.set_read_timeout(Some(super::process::LIMIT))?;
        let mut limit = Self {
            stream,
            requests: Requests::new("echo", arguments),
            callers,
            input: Input {
                buffer: vec![0; READ_BYTES],
                filled: 0,
            },
            pending: Pending::default(),
            output: Vec::new(),
            replies: Vec::new(),
            window: WINDOW_BYTES,
            received: 0,
            greeting: 4,
            header: None,
            sent: vec![Instant::now(); PLACES],
            under_way: 0,
            times,
            _plugin: plugin,
        };
        limit.dispense()?;
        Ok(limit)
    }

    /// Keeps as many calls under way as there are callers, for so long, and answers how long it
    /// was until the last of them was answered. What was noted before is forgotten.
    pub(super) fn run(&mut self, time: Duration) -> anyhow::Result<Duration> {
        self.times.clear();
        let begin = Instant::now();
        let end = begin + time;
        for _ in 0..self.callers {
            self.call(begin);
        }
        while self.under_way > 0 {
            self.send()?;
            self.read()?;
            let now = Instant::now();
            self.take_frames()?;
            self.take_replies(now, end)?;
        }
        // What the last frames asked for.
        self.send()?;
        Ok(begin.elapsed())
    }

    /// Nanoseconds of each call.
    pub(super) fn times(&self) -> &[u32] {
        &self.times
    }

    /// Opens the first streams, has the plugin dispensed, and opens the one to its methods.
    fn dispense(&mut self) -> anyhow::Result<()> {
        let mut output = Vec::new();
        for stream in [1, 3, 5] {
            Frame::open(stream).put(&mut output);
        }
        let dispense = requests::dispense("gkplugin");
        Frame::data(1, &dispense)?.put(&mut output);
        output.extend(dispense);
        self.stream.write_all(&output)?;
        // The reply carries the number that the plugin's broker gave, the first: it is only waited
        // for. What is shorter is the control stream's own type definitions' first frame.
        let mut dispensed = false;
        while !dispensed {
            self.read()?;
            let mut at = 0;
            while let Some((frame, data)) = Frame::take(self.input.filled(), &mut at)? {
                dispensed |= frame.kind == Kind::Data && frame.stream == 1 && data.len() > 20;
            }
            self.input.forget(at);
        }
        Frame::open(CALLS).put(&mut self.output);
        let number = 1_u32.to_le_bytes();
        Frame::data(CALLS, &number)?.put(&mut self.output);
        self.output.extend(number);
        self.window -= 4;
        Ok(())
    }

    /// Puts one more call after what is to be sent.
    fn call(&mut self, now: Instant) {
        let number = self.requests.put(&mut self.pending.bytes);
        let place = place(number);
        if let Some(sent) = self.sent.get_mut(place) {
            *sent = now;
        }
        self.under_way += 1;
    }

    /// Writes all that the window has room for, with the grants that are due, at once.
    fn send(&mut self) -> anyhow::Result<()> {
        let room = usize::try_from(self.window)?;
        let left = self.pending.left();
        let part = left.get(..left.len().min(room)).unwrap_or_default();
        if !part.is_empty() {
            let frame = Frame::data(CALLS, part)?;
            frame.put(&mut self.output);
            self.output.extend_from_slice(part);
            self.window -= frame.length;
            self.pending.done += part.len();
        }
        self.pending.tidy();
        if self.received >= GRANT_BYTES {
            Frame::grant(CALLS, self.received).put(&mut self.output);
            self.received = 0;
        }
        if !self.output.is_empty() {
            self.stream.write_all(&self.output)?;
            self.output.clear();
        }
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let room = self.input.room();
        ensure!(!room.is_empty(), "a frame is larger than a read");
        let count = self.stream.read(room).context("read from the plugin")?;
        ensure!(count > 0, "the plugin has closed its connection");
        self.input.filled += count;
        Ok(())
    }

    fn take_frames(&mut self) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some((frame, data)) = Frame::take(self.input.filled(), &mut at)? {
            match frame.kind {
                Kind::Data if frame.stream == CALLS => {
                    let skipped = data.len().min(self.greeting);
                    self.greeting -= skipped;
                    self.replies
                        .extend_from_slice(data.get(skipped..).unwrap_or_default());
                    self.received += frame.length;
                }
                Kind::Window if frame.stream == CALLS => {
                    self.window = self
                        .window
                        .checked_add(frame.length)
                        .context("the plugin grants more than can be counted")?;
                }
                Kind::Ping if frame.is_asked() => frame.answer().put(&mut self.output),
                Kind::GoAway => bail!("the plugin goes away"),
                Kind::Data | Kind::Window | Kind::Ping => {}
            }
        }
        self.input.forget(at);
        Ok(())
    }

    /// Notes each whole reply, and calls again while there is time.
    fn take_replies(&mut self, now: Instant, end: Instant) -> anyhow::Result<()> {
        let mut at = 0;
        // Not held over the loop: calls are made in it.
        let replies = std::mem::take(&mut self.replies);
        while let Some(message) = wire::take_message(&replies, &mut at) {
            let Some(value) = wire::value(message)? else {
                continue;
            };
            match self.header.take() {
                None => self.header = Some(requests::number_of(value)?),
                Some(number) => {
                    let sent = self.sent.get(place(number)).copied().unwrap_or(now);
                    self.times.push(nanoseconds(now - sent));
                    self.under_way -= 1;
                    if now < end {
                        self.call(now);
                    }
                }
            }
        }
        self.replies = replies;
        self.replies.drain(..at);
        Ok(())
    }
}

/// Where the time of a call is noted.
fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX) % PLACES
}

impl Input {
    fn filled(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// What comes before `at` was understood.
    fn forget(&mut self, at: usize) {
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
    }
}

impl Pending {
    fn left(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }

    /// Gives room back, where that moves nothing or is worth moving.
    fn tidy(&mut self) {
        /// Moving what is left costs less than keeping this.
        const KEPT_BYTES: usize = 8 << 20;
        if self.done == self.bytes.len() || self.done > KEPT_BYTES {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
    }
}
