//! The plugin's side of the limit: calls that differ in their number alone, many in one write.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::bench::limit::plugin::Plugin as Process;
use crate::bench::limit::requests::{self, Requests};
use crate::bench::limit::wire::{self, Frame, Kind};

/// Streams that a host opens on every connection: control, standard output, standard error.
const CONTROL_STREAMS: [u32; 3] = [1, 3, 5];
/// The stream to the plugin that is dispensed.
const STREAM: u32 = 7;
/// The number that go-plugin's broker gives out first.
const BROKER_ID: u32 = 1;
/// The window that yamux begins with, and what is read before it is opened again.
const WINDOW_BYTES: u32 = 256 << 10;
/// The most that is read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A plugin with calls under way.
pub(super) struct Plugin {
    pub(super) socket: UnixStream,
    requests: Requests,
    /// What is to be sent on the stream, without frames.
    pending: Vec<u8>,
    /// Whole frames to be sent.
    outgoing: Vec<u8>,
    /// What the plugin may still be sent.
    window: usize,
    /// What has been read and not been granted again.
    received: u32,
    buffer: Vec<u8>,
    /// What is not a whole frame yet.
    frames: Vec<u8>,
    /// What is not a whole reply yet.
    replies: Vec<u8>,
    /// Bytes of the broker's greeting that are still to come.
    greeting: usize,
    /// The number in the header of a reply whose body is awaited.
    header: Option<u64>,
    _process: Process,
}

impl Plugin {
    /// Starts the program, and opens a stream to its methods. Each call is of `echo`, with these
    /// arguments.
    pub(super) fn start(program: &Path, arguments: &[u8]) -> anyhow::Result<Self> {
        let (process, mut socket) = Process::start(program)?;
        let mut out = Vec::new();
        for stream in CONTROL_STREAMS {
            Frame::open(stream).put(&mut out);
        }
        let dispense = requests::dispense("gkplugin");
        Frame::data(CONTROL_STREAMS[0], &dispense)?.put(&mut out);
        out.extend(dispense);
        socket.write_all(&out)?;
        let mut plugin = Self {
            socket,
            requests: Requests::new("echo", arguments),
            pending: Vec::new(),
            outgoing: Vec::new(),
            window: WINDOW_BYTES as usize,
            received: 0,
            buffer: vec![0; BUFFER_BYTES],
            frames: Vec::new(),
            replies: Vec::new(),
            greeting: 4,
            header: None,
            _process: process,
        };
        plugin.await_dispensed()?;
        Frame::open(STREAM).put(&mut plugin.outgoing);
        let number = BROKER_ID.to_le_bytes();
        Frame::data(STREAM, &number)?.put(&mut plugin.outgoing);
        plugin.outgoing.extend(number);
        plugin.window -= number.len();
        Ok(plugin)
    }

    /// Reads until the reply to the first request is there: the only one with data to speak of.
    fn await_dispensed(&mut self) -> anyhow::Result<()> {
        let mut is_dispensed = false;
        while !is_dispensed {
            self.read()?;
            let mut at = 0;
            while let Some((frame, data)) = Frame::take(&self.frames, &mut at)? {
                is_dispensed |= frame.kind == Kind::Data && data.len() > 20;
            }
            self.frames.drain(..at);
        }
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let count = self.socket.read(&mut self.buffer)?;
        ensure!(count > 0, "the plugin has ended");
        let read = self.buffer.get(..count).unwrap_or_default();
        self.frames.extend(read);
        Ok(())
    }

    /// Adds a call; gives its number.
    pub(super) fn call(&mut self) -> u64 {
        self.requests.put(&mut self.pending)
    }

    /// Sends what there is, in one write.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        let count = self.pending.len().min(self.window);
        if count > 0 {
            let data = self.pending.get(..count).unwrap_or_default();
            Frame::data(STREAM, data)?.put(&mut self.outgoing);
            self.outgoing.extend(self.pending.drain(..count));
            self.window -= count;
        }
        if self.received >= WINDOW_BYTES / 2 {
            Frame::grant(STREAM, self.received).put(&mut self.outgoing);
            self.received = 0;
        }
        if !self.outgoing.is_empty() {
            self.socket.write_all(&self.outgoing)?;
            self.outgoing.clear();
        }
        Ok(())
    }

    /// Reads once, and hands over every result that is whole.
    pub(super) fn receive(&mut self, mut answer: impl FnMut(u64, &[u8])) -> anyhow::Result<()> {
        self.read()?;
        let mut at = 0;
        while let Some((frame, data)) = Frame::take(&self.frames, &mut at)? {
            match frame.kind {
                Kind::Data if frame.stream == STREAM => {
                    let skipped = self.greeting.min(data.len());
                    self.greeting -= skipped;
                    let rest = data.get(skipped..).unwrap_or_default();
                    self.replies.extend(rest);
                    self.received += frame.length;
                }
                Kind::Window if frame.stream == STREAM => self.window += frame.length as usize,
                Kind::Ping if frame.is_asked() => frame.answer().put(&mut self.outgoing),
                Kind::GoAway => bail!("the plugin goes away"),
                Kind::Data | Kind::Window | Kind::Ping => {}
            }
        }
        self.frames.drain(..at);

        let mut at = 0;
        while let Some(message) = wire::take_message(&self.replies, &mut at) {
            let Some(value) = wire::value(message)? else {
                continue;
            };
            match self.header.take() {
                None => self.header = Some(requests::number_of(value)?),
                Some(number) => answer(number, result(value)?),
            }
        }
        self.replies.drain(..at);
        Ok(())
    }
}

/// The first field of a reply: the result. An error stands in the second.
fn result(body: &[u8]) -> anyhow::Result<&[u8]> {
    let Some((1, rest)) = body.split_first() else {
        bail!("the plugin answered with an error");
    };
    let (length, rest) = wire::number(rest).context("a length")?;
    rest.get(..usize::try_from(length)?).context("a result")
}
