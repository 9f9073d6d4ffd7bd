//! The limit of a gateway: one thread that finds the end of a request's head, sends one pre-encoded
//! call to the plugin for it, and writes the result after a head that never changes.
//!
//! What it leaves out is what a gateway is for: it reads neither method nor path, makes no
//! arguments of the request, checks nobody and records nothing, and holds no more than a machine
//! that nobody attacks asks of it. A yardstick, not a host.

mod plugin;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use plugin::Plugin;

/// What events are about: these, or a client's number.
const PLUGIN: u64 = u64::MAX;
const LISTENER: u64 = u64::MAX - 1;
const INPUT: u64 = u64::MAX - 2;
/// Most events taken at once.
const EVENTS: usize = 128;
/// The most that is read at once.
const BUFFER_BYTES: usize = 64 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Serves at a free port of the loopback until its standard input ends, after a line with the
/// address on standard output. Every request is a call of `echo` with these arguments.
pub(super) fn serve(program: &Path, arguments: &[u8]) -> anyhow::Result<()> {
    let plugin = Plugin::start(program, arguments)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    Gateway::new(plugin, listener)?.run()
}

/// A client.
struct Client {
    socket: TcpStream,
    received: Vec<u8>,
    outgoing: Vec<u8>,
}

struct Gateway {
    epoll: Epoll,
    plugin: Plugin,
    listener: TcpListener,
    clients: HashMap<u64, Client>,
    /// Whose a call is, by its number.
    calls: HashMap<u64, u64>,
    next_client: u64,
    buffer: Vec<u8>,
}

impl Gateway {
    fn new(plugin: Plugin, listener: TcpListener) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&plugin.socket, EpollEvent::new(EpollFlags::EPOLLIN, PLUGIN))?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(
            std::io::stdin(),
            EpollEvent::new(EpollFlags::EPOLLIN, INPUT),
        )?;
        Ok(Self {
            epoll,
            plugin,
            listener,
            clients: HashMap::new(),
            calls: HashMap::new(),
            next_client: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                waited => waited?,
            };
            for event in events.iter().take(count) {
                match event.data() {
                    LISTENER => self.accept()?,
                    PLUGIN => self.answer()?,
                    // Nothing is ever said on it.
                    INPUT => return Ok(()),
                    client => self.ask(client)?,
                }
            }
            // What all of them asked goes out at once.
            self.plugin.flush()?;
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let (socket, _) = self.listener.accept()?;
        socket.set_nodelay(true)?;
        let number = self.next_client;
        self.next_client += 1;
        self.epoll
            .add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        let client = Client {
            socket,
            received: Vec::new(),
            outgoing: Vec::new(),
        };
        self.clients.insert(number, client);
        Ok(())
    }

    /// Makes a call of each request that is whole. None has a body.
    fn ask(&mut self, number: u64) -> anyhow::Result<()> {
        let Some(client) = self.clients.get_mut(&number) else {
            return Ok(());
        };
        let count = client.socket.read(&mut self.buffer).unwrap_or(0);
        if count == 0 {
            // Dropping the socket takes it out of the epoll, too.
            self.clients.remove(&number);
            return Ok(());
        }
        let read = self.buffer.get(..count).unwrap_or_default();
        client.received.extend(read);
        while let Some(end) = find(&client.received, HEAD_END) {
            client.received.drain(..end + HEAD_END.len());
            self.calls.insert(self.plugin.call(), number);
        }
        Ok(())
    }

    /// Passes results on, with one write for each client.
    fn answer(&mut self) -> anyhow::Result<()> {
        let (clients, calls) = (&mut self.clients, &mut self.calls);
        let mut answered = Vec::new();
        self.plugin.receive(|call, result| {
            let owner = calls.remove(&call);
            let Some((number, client)) =
                owner.and_then(|number| Some((number, clients.get_mut(&number)?)))
            else {
                // It has gone.
                return;
            };
            let out = &mut client.outgoing;
            out.extend(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ");
            out.extend(result.len().to_string().into_bytes());
            out.extend(HEAD_END);
            out.extend(result);
            answered.push(number);
        })?;
        for number in answered {
            if let Some(client) = clients.get_mut(&number)
                && !client.outgoing.is_empty()
            {
                let written = client.socket.write_all(&client.outgoing);
                client.outgoing.clear();
                if written.is_err() {
                    clients.remove(&number);
                }
            }
        }
        Ok(())
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
