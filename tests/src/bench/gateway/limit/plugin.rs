//! The plugin's side of the limit: calls that differ in their number alone, many in one write.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail, ensure};

use super::super::wire::{
    ACK, BYTES, DATA, HEADER_BYTES, Header, PING, STRING, SYN, UINT, WINDOW, definition, frame,
    get_uint, message, put_bytes, put_uint,
};

/// Streams that a host opens on every connection: control, standard output, standard error.
const CONTROL_STREAMS: [u32; 3] = [1, 3, 5];
/// The stream to the plugin that is dispensed.
const STREAM: u32 = 7;
/// The number that go-plugin's broker gives out first.
const BROKER_ID: u32 = 1;
/// The window that yamux begins with, and what is read before it is opened again.
const WINDOW_BYTES: u32 = 256 << 10;
const METHOD: &str = "Plugin.Call";
/// The most that is read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A connection with calls under way.
pub(super) struct Plugin {
    pub(super) socket: UnixStream,
    /// The end of every request: its body.
    body: Vec<u8>,
    next: u64,
    /// What is to be sent on the stream, without frames.
    pending: Vec<u8>,
    /// Whole frames to be sent.
    outgoing: Vec<u8>,
    /// What the plugin may still be sent.
    window: usize,
    /// What has been read and not been said to have been.
    credit: u32,
    buffer: Vec<u8>,
    received: Vec<u8>,
    /// Bytes of the stream that are not understood yet.
    gob: Vec<u8>,
    /// Bytes of the broker's greeting that are still to come.
    greeting: usize,
    /// The number in the header of a reply whose body is awaited.
    header: Option<u64>,
}

impl Plugin {
    /// Dispenses `gkplugin` and opens the stream to it.
    pub(super) fn open(mut socket: UnixStream, arguments: &[u8]) -> anyhow::Result<Self> {
        let request = definition(64, "Request", &[("ServiceMethod", STRING), ("Seq", UINT)]);
        let mut out = Vec::new();
        for stream in CONTROL_STREAMS {
            frame(&mut out, WINDOW, SYN, stream, 0);
        }
        let mut dispense = request.clone();
        dispense.extend(header("Dispenser.Dispense", 0));
        let name = b"gkplugin";
        let mut body = vec![STRING * 2, 0];
        put_bytes(&mut body, name);
        dispense.extend(message(&body));
        let length = u32::try_from(dispense.len())?;
        frame(&mut out, DATA, 0, CONTROL_STREAMS[0], length);
        out.extend(dispense);
        socket.write_all(&out)?;

        let mut body = vec![0xff, 65 * 2, 1];
        put_bytes(&mut body, b"echo");
        body.push(1);
        put_bytes(&mut body, arguments);
        body.push(0);
        let mut plugin = Self {
            socket,
            body: message(&body),
            next: 0,
            // Types are defined once, before the first request and before the first body.
            pending: request,
            outgoing: Vec::new(),
            window: WINDOW_BYTES as usize,
            credit: 0,
            buffer: vec![0; BUFFER_BYTES],
            received: Vec::new(),
            gob: Vec::new(),
            greeting: 4,
            header: None,
        };
        plugin.await_dispensed()?;
        frame(&mut plugin.outgoing, WINDOW, SYN, STREAM, 0);
        frame(&mut plugin.outgoing, DATA, 0, STREAM, 4);
        plugin.outgoing.extend(BROKER_ID.to_le_bytes());
        plugin.window -= 4;
        Ok(plugin)
    }

    /// Reads until the reply to the first request is there: the only one with data to speak of.
    fn await_dispensed(&mut self) -> anyhow::Result<()> {
        loop {
            self.read_socket()?;
            while let Some(header) = self.whole_frame() {
                let is_reply = header.kind == DATA && header.data_bytes() > 20;
                self.received.drain(..HEADER_BYTES + header.data_bytes());
                if is_reply {
                    return Ok(());
                }
            }
        }
    }

    fn read_socket(&mut self) -> anyhow::Result<()> {
        let count = self.socket.read(&mut self.buffer)?;
        ensure!(count > 0, "the plugin has ended");
        let read = self.buffer.get(..count).unwrap_or_default();
        self.received.extend(read);
        Ok(())
    }

    fn whole_frame(&self) -> Option<Header> {
        let header = Header::read(&self.received)?;
        (self.received.len() >= HEADER_BYTES + header.data_bytes()).then_some(header)
    }

    /// Adds a call; gives its number.
    pub(super) fn call(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.pending.extend(header(METHOD, number));
        if number == 0 {
            let fields = [("Function", STRING), ("Args", BYTES)];
            self.pending.extend(definition(65, "CallRequest", &fields));
        }
        self.pending.extend_from_slice(&self.body);
        number
    }

    /// Sends what there is, in one write.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        let count = self.pending.len().min(self.window);
        if count > 0 {
            frame(&mut self.outgoing, DATA, 0, STREAM, u32::try_from(count)?);
            self.outgoing.extend(self.pending.drain(..count));
            self.window -= count;
        }
        if self.credit >= WINDOW_BYTES / 2 {
            frame(&mut self.outgoing, WINDOW, 0, STREAM, self.credit);
            self.credit = 0;
        }
        if !self.outgoing.is_empty() {
            self.socket.write_all(&self.outgoing)?;
            self.outgoing.clear();
        }
        Ok(())
    }

    /// Reads once, and hands over every result that is whole.
    pub(super) fn receive(&mut self, mut answer: impl FnMut(u64, &[u8])) -> anyhow::Result<()> {
        self.read_socket()?;
        let mut at = 0;
        while let Some(rest) = self.received.get(at..)
            && let Some(header) = Header::read(rest)
            && let Some(data) = rest.get(HEADER_BYTES..HEADER_BYTES + header.data_bytes())
        {
            match (header.kind, header.stream) {
                (DATA, STREAM) => {
                    let skipped = self.greeting.min(data.len());
                    self.greeting -= skipped;
                    self.gob.extend(data.get(skipped..).unwrap_or_default());
                    self.credit += header.length;
                }
                (WINDOW, STREAM) => self.window += header.length as usize,
                (PING, _) if header.flags & SYN != 0 => {
                    frame(&mut self.outgoing, PING, ACK, 0, header.length);
                }
                _ => {}
            }
            at += HEADER_BYTES + data.len();
        }
        self.received.drain(..at);

        let mut at = 0;
        while let Some(rest) = self.gob.get(at..)
            && let Some((length, taken)) = get_uint(rest)
            && let Some(message) = rest.get(taken..taken + usize::try_from(length)?)
        {
            let (id, id_taken) = get_uint(message).context("a message has a type")?;
            let value = message.get(id_taken..).unwrap_or_default();
            // An odd one is the negative number of a type that is defined.
            if id % 2 == 0 {
                match self.header.take() {
                    None => self.header = Some(sequence(value)?),
                    Some(number) => answer(number, result(value)?),
                }
            }
            at += taken + message.len();
        }
        self.gob.drain(..at);
        Ok(())
    }
}

/// A request's header.
fn header(method: &str, number: u64) -> Vec<u8> {
    let mut body = vec![0xff, 64 * 2, 1];
    put_bytes(&mut body, method.as_bytes());
    if number > 0 {
        body.push(1);
        put_uint(&mut body, number);
    }
    body.push(0);
    message(&body)
}

/// The number in a reply's header, which is absent where it is 0. The method stands before it.
fn sequence(header: &[u8]) -> anyhow::Result<u64> {
    let rest = header.get(2 + METHOD.len()..).context("a reply's header")?;
    match rest.split_first() {
        Some((1, rest)) => Ok(get_uint(rest).context("a number")?.0),
        Some((0, _)) => Ok(0),
        _ => bail!("the plugin refused a call"),
    }
}

/// The first field of a reply: the result. An error stands in the second.
fn result(body: &[u8]) -> anyhow::Result<&[u8]> {
    let Some((1, rest)) = body.split_first() else {
        bail!("the plugin answered with an error");
    };
    let (length, taken) = get_uint(rest).context("a length")?;
    rest.get(taken..taken + usize::try_from(length)?)
        .context("a result")
}
