//! One thread that sends a few HTTP requests in turn over many connections: as often as they are answered, or
//! at a constant rate whatever the answers do.
//!
//! At a rate a request's time begins when it was due, not when a connection was free for it, so that a
//! server that stops for a while is charged with all that came meanwhile.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Longest wait for answers once nothing is sent any more.
const LAST_LIMIT: Duration = Duration::from_secs(20);
/// The highest priority of an ordinary thread.
const FIRST: i32 = -20;
/// Longest head and body of an answer.
const ANSWER_BYTES: usize = 16 << 10;

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// So many a second, at equal distances.
    Rate(f64),
}

/// What a load found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Of each request, from when it was due until its answer was whole.
    times: Vec<Duration>,
    /// From the first to the last.
    lasted: Duration,
    /// Processor time that the load itself took.
    own: Duration,
}

/// Its connections, which are kept between loads.
pub(super) struct Load {
    streams: Vec<TcpStream>,
    answers: Vec<Partial>,
    /// One for each path, in turn.
    requests: Vec<Vec<u8>>,
}

/// What has come on a connection since its last request.
#[derive(Default)]
struct Partial {
    due: Option<Instant>,
    bytes: Vec<u8>,
}

impl Load {
    /// Connects so many times.
    pub(super) fn new(
        address: SocketAddr,
        connections: usize,
        paths: &[String],
    ) -> anyhow::Result<Self> {
        ensure!(!paths.is_empty(), "a load of nothing");
        let request =
            |path: &String| format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes();
        let connect = |_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let streams: std::io::Result<Vec<_>> = (0..connections).map(connect).collect();
        let streams = streams.context("connect to the gateway")?;
        Ok(Self {
            answers: streams.iter().map(|_| Partial::default()).collect(),
            streams,
            requests: paths.iter().map(request).collect(),
        })
    }

    /// Sends for so long, and waits for the last answers. Any that is no 200 is an error.
    ///
    /// It has a thread of its own, before all others where it may: clients are elsewhere, and nobody
    /// takes their processors.
    pub(super) fn run(&mut self, pace: Pace, lasting: Duration) -> anyhow::Result<Found> {
        let sending = || {
            come_first();
            self.send(pace, lasting)
        };
        let sent = std::thread::scope(|scope| scope.spawn(sending).join());
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn send(&mut self, pace: Pace, lasting: Duration) -> anyhow::Result<Found> {
        let Self {
            streams,
            answers,
            requests,
        } = self;
        let mut next_request = requests.iter().cycle();
        // In turn: on one that nothing is asked on the gateway waits no longer than ten seconds.
        let mut idle: VecDeque<usize> = (0..streams.len()).collect();
        let mut busy: Vec<usize> = Vec::with_capacity(streams.len());
        let mut times = Vec::new();
        let (begin, own) = (Instant::now(), own_time());
        let end = begin + lasting;
        let mut sent: u32 = 0;
        let due = |number: u32, now: Instant| match pace {
            Pace::Closed => now,
            Pace::Rate(rate) => begin + Duration::from_secs_f64(f64::from(number) / rate),
        };
        loop {
            let now = Instant::now();
            let next = loop {
                let next = due(sent, now);
                if next > now || next >= end {
                    break next;
                }
                let Some(free) = idle.pop_front() else {
                    break next;
                };
                let (mut stream, answer) = (&streams[free], &mut answers[free]);
                let request = next_request.next().context("a request")?;
                stream.write_all(request).context("send a request")?;
                answer.due = Some(next);
                busy.push(free);
                sent += 1;
            };
            if next >= end && busy.is_empty() {
                break;
            }
            ensure!(
                now < end + LAST_LIMIT,
                "{} requests were not answered",
                busy.len()
            );
            let wait = match idle.is_empty() || next >= end {
                true => LAST_LIMIT,
                false => next.saturating_duration_since(now),
            };
            // Those that wait for an answer alone: mostly one or two.
            let mut polled: Vec<PollFd<'_>> = busy
                .iter()
                .map(|at| PollFd::new(&streams[*at], PollFlags::IN))
                .collect();
            let wait = Timespec::try_from(wait).context("a time that the kernel takes")?;
            match poll(&mut polled, Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for answers"),
            }
            let now = Instant::now();
            // From the last, so that the places of those before it stay as they are.
            for place in (0..polled.len()).rev() {
                let at = busy[place];
                if !polled[place].revents().is_empty() && answers[at].read(&streams[at])? {
                    let due = answers[at].due.take().context("nothing was asked")?;
                    times.push(now - due);
                    busy.swap_remove(place);
                    idle.push_back(at);
                }
            }
        }
        Ok(Found {
            times,
            lasted: begin.elapsed(),
            own: own_time().saturating_sub(own),
        })
    }
}

impl Partial {
    /// Takes what there is, and answers whether the answer is whole.
    fn read(&mut self, mut stream: &TcpStream) -> anyhow::Result<bool> {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => bail!("the gateway closed a connection"),
            Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("read an answer"),
        }
        let text = &self.bytes;
        let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(text.len() < ANSWER_BYTES, "an answer without end");
            return Ok(false);
        };
        let lines = std::str::from_utf8(&text[..head]).context("a head in UTF-8")?;
        let length = lines.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.trim().parse::<usize>().ok())?
        });
        let whole = head + 4 + length.context("an answer with a length")?;
        if text.len() < whole {
            return Ok(false);
        }
        ensure!(
            text.len() == whole && lines.starts_with("HTTP/1.1 200 "),
            "answered {}",
            String::from_utf8_lossy(text)
        );
        self.bytes.clear();
        Ok(true)
    }
}

impl Found {
    /// Answers a second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of requests are far below 2^52"
    )]
    pub(super) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.lasted.as_secs_f64()
    }

    /// Microseconds within which such a part of them was answered; 1 is all.
    pub(super) fn within_us(&mut self, part: f64) -> f64 {
        self.times.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place within the list"
        )]
        let place = (part * self.times.len().saturating_sub(1) as f64) as usize;
        self.times
            .get(place)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    /// Percent of one processor that the load took for itself.
    pub(super) fn own_percent(&self) -> f64 {
        self.own.as_secs_f64() / self.lasted.as_secs_f64() * 100.0
    }
}

/// Puts this thread before all others: with real-time priority where that may be had, else with the
/// highest that an ordinary one has. It sleeps whenever nothing is due.
fn come_first() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let given = Command::new("chrt")
        .args(["--fifo", "--pid", "1", &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !given.is_ok_and(|status| status.success()) {
        // Of this thread alone: setpriority(2), "C library/kernel differences".
        rustix::process::setpriority_process(None, FIRST).unwrap_or_default();
    }
}

/// Processor time of this thread.
fn own_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
