//! Frames that two Go endpoints exchanged: ours is put in the place of either and must send the same.
use std::task::Poll;
use std::time::Duration;

use pinfold_rpc::yamux::{Config, KeepAlive, OpenError, Role, Session, StreamKey};
use serde_json::Value;

use crate::vectors::{bytes, cases, text};

const START: Duration = Duration::ZERO;

/// One recorded scenario with our session in the place of one side.
struct Replay {
    frames: Vec<Value>,
    us: &'static str,
    session: Session,
}

impl Replay {
    fn new(name: &str, role: Role, config: Config) -> Self {
        let scenarios = cases("yamux.json", "scenarios");
        let scenario = scenarios
            .iter()
            .find(|case| text(case, "name") == name)
            .unwrap();
        let us = match role {
            Role::Client => "client",
            Role::Server => "server",
        };
        let session = Session::new(role, config);
        Self {
            frames: scenario["frames"].as_array().unwrap().clone(),
            us,
            session,
        }
    }

    fn client(name: &str) -> Self {
        Self::new(name, Role::Client, Config::default())
    }

    fn server(name: &str) -> Self {
        Self::new(name, Role::Server, Config::default())
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        self.session.take_outgoing(&mut sent);
        sent
    }

    /// Feeds frame `index`, which must be the peer's; left-out payloads are made up.
    fn feed(&mut self, index: usize) {
        let frame = &self.frames[index];
        assert_ne!(text(frame, "dir"), self.us);
        self.session.receive(&frame_bytes(frame), START).unwrap();
    }

    /// Our side has sent exactly the frames `indices`.
    fn expect(&mut self, indices: &[usize]) {
        let expected: Vec<u8> = indices
            .iter()
            .flat_map(|index| frame_bytes(&self.frames[*index]))
            .collect();
        assert_eq!(self.sent(), expected);
    }

    fn write(&mut self, key: StreamKey, data: &[u8]) {
        assert_eq!(self.session.write(key, data), Poll::Ready(Ok(data.len())));
    }

    fn read(&mut self, key: StreamKey) -> Vec<u8> {
        let mut buffer = [0; 64];
        match self.session.read(key, &mut buffer) {
            Poll::Ready(Ok(n)) => buffer[..n].to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

fn frame_bytes(frame: &Value) -> Vec<u8> {
    let mut all = bytes(text(frame, "header"));
    if text(frame, "type") == "data" {
        let payload = bytes(text(frame, "payload"));
        let length = usize::try_from(frame["length"].as_u64().unwrap()).unwrap();
        if payload.is_empty() {
            all.resize(all.len() + length, b'x')
        } else {
            all.extend(payload)
        }
    }
    all
}

#[test]
fn open_write_read_close_as_client() {
    let mut replay = Replay::client("open_write_read_close");
    let key = replay.session.open(START).unwrap();
    replay.expect(&[0]);
    replay.feed(1);
    replay.write(key, b"hello");
    replay.expect(&[2]);
    replay.feed(3);
    assert_eq!(replay.read(key), b"world");
    replay.session.finish(key, START);
    replay.session.finish(key, START);
    replay.expect(&[4]);
    replay.feed(5);
    assert_eq!(replay.read(key), b"");
    assert_eq!(replay.session.live_streams(), 0);
}

#[test]
fn open_write_read_close_as_server() {
    let mut replay = Replay::server("open_write_read_close");
    replay.feed(0);
    let key = replay.session.accept().unwrap();
    replay.expect(&[1]);
    replay.feed(2);
    assert_eq!(replay.read(key), b"hello");
    replay.write(key, b"world");
    replay.expect(&[3]);
    replay.feed(4);
    assert_eq!(replay.read(key), b"");
    replay.session.release(key, START);
    replay.expect(&[5]);
    assert_eq!(replay.session.live_streams(), 0);
}

#[test]
fn data_that_comes_with_the_opening_is_kept() {
    let mut replay = Replay::server("data_before_accept");
    replay.feed(0);
    replay.feed(1);
    replay.expect(&[2]);
    let key = replay.session.accept().unwrap();
    assert_eq!(replay.read(key), b"early");
}

#[test]
fn whole_window_in_one_frame_is_taken_and_granted_back_by_halves() {
    let mut replay = Replay::server("window_600KiB");
    let mut next = 0;
    let mut key = None;
    let mut reads = 0;
    while next < replay.frames.len() {
        if text(&replay.frames[next], "dir") == "client" {
            replay.feed(next);
            key = key.or_else(|| replay.session.accept());
            next += 1;
            continue;
        }
        // The recorded reader used this buffer; a grant follows as soon as half a window is free.
        let mut sent = replay.sent();
        while sent.is_empty() {
            let mut buffer = vec![0; 65_536];
            let outcome = replay.session.read(key.unwrap(), &mut buffer);
            assert!(matches!(outcome, Poll::Ready(Ok(1..))), "{outcome:?}");
            reads += 1;
            sent = replay.sent();
        }
        assert_eq!(sent, frame_bytes(&replay.frames[next]), "frame {next}");
        next += 1;
    }
    assert!(reads >= 8, "{reads}");
}

#[test]
fn half_close_still_reads() {
    let mut replay = Replay::client("half_close");
    let key = replay.session.open(START).unwrap();
    replay.expect(&[0]);
    replay.feed(1);
    replay.write(key, b"req");
    replay.session.finish(key, START);
    replay.expect(&[2, 3]);
    replay.feed(4);
    assert_eq!(replay.read(key), b"late");
    replay.feed(5);
    assert_eq!(replay.read(key), b"");
}

#[test]
fn writing_after_the_peers_end_works() {
    let mut replay = Replay::server("half_close");
    replay.feed(0);
    replay.expect(&[1]);
    replay.feed(2);
    replay.feed(3);
    let key = replay.session.accept().unwrap();
    assert_eq!(replay.read(key), b"req");
    assert_eq!(replay.read(key), b"");
    replay.write(key, b"late");
    replay.session.finish(key, START);
    replay.expect(&[4, 5]);
}

#[test]
fn server_opens_even_ids() {
    let mut replay = Replay::server("server_opens");
    replay.session.open(START).unwrap();
    replay.expect(&[0]);
    replay.feed(1);
    replay.session.open(START).unwrap();
    replay.expect(&[2]);
}

#[test]
fn pings_are_answered_and_asked_with_values_from_zero() {
    let mut replay = Replay::server("ping");
    for (asked, answered) in [(0, 1), (2, 3)] {
        replay.feed(asked);
        replay.expect(&[answered]);
    }
    let interval = Duration::from_secs(30);
    replay.session.handle_deadline(interval).unwrap();
    replay.expect(&[4]);
    replay.feed(5);
}

#[test]
fn keep_alive_without_answer_ends_the_session_within_forty_seconds() {
    let mut session = Session::new(Role::Client, Config::default());
    session.handle_deadline(Duration::from_secs(30)).unwrap();
    assert_eq!(session.next_deadline(), Some(Duration::from_secs(40)));
    assert!(session.handle_deadline(Duration::from_secs(40)).is_err());

    let keep_alive = KeepAlive {
        interval: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
    };
    let config = Config {
        keep_alive: Some(keep_alive),
        ..Config::default()
    };
    let mut session = Session::new(Role::Client, config);
    session.handle_deadline(Duration::from_secs(3)).unwrap();
    assert!(session.handle_deadline(Duration::from_secs(4)).is_err());

    let mut quiet = Session::new(
        Role::Client,
        Config {
            keep_alive: None,
            ..Config::default()
        },
    );
    assert_eq!(quiet.next_deadline(), None);
    quiet
        .handle_deadline(Duration::from_secs(1_000_000))
        .unwrap();
}

#[test]
fn go_away_stops_opening_alone() {
    let mut replay = Replay::client("go_away");
    let key = replay.session.open(START).unwrap();
    replay.sent();
    replay.feed(0);
    assert_eq!(replay.session.open(START), Err(OpenError::GoAway));
    replay.write(key, b"still");

    let mut server = Replay::server("go_away");
    server.session.go_away();
    server.session.go_away();
    server.expect(&[0]);
    // A stream opened nevertheless is reset.
    server
        .session
        .receive(&bytes("000100010000000100000000"), START)
        .unwrap();
    assert_eq!(server.sent(), bytes("000100080000000100000000"));
}

#[test]
fn stream_beyond_the_backlog_is_reset() {
    let config = Config {
        accept_backlog: 1,
        ..Config::default()
    };
    let mut replay = Replay::new("backlog_exceeded", Role::Server, config);
    replay.feed(0);
    // Ours acknowledges on arrival.
    assert_eq!(replay.sent(), bytes("000100020000000100000000"));
    replay.feed(1);
    replay.expect(&[2]);
}

#[test]
fn stream_that_the_peer_never_closes_is_reset_in_the_end() {
    let close_timeout = Duration::from_millis(100);
    let config = Config {
        close_timeout,
        ..Config::default()
    };
    let mut replay = Replay::new("close_timeout", Role::Client, config);
    let key = replay.session.open(START).unwrap();
    replay.expect(&[0]);
    replay.feed(1);
    replay.session.release(key, START);
    replay.expect(&[2]);
    let deadline = replay.session.next_deadline().unwrap();
    assert!(deadline <= close_timeout);
    replay.session.handle_deadline(close_timeout).unwrap();
    replay.expect(&[3]);
    assert_eq!(replay.session.live_streams(), 0);
}

#[test]
fn larger_window_is_announced_with_the_opening() {
    let config = Config {
        receive_window: 1024 * 1024,
        ..Config::default()
    };
    let mut replay = Replay::new("bigger_window", Role::Client, config);
    replay.session.open(START).unwrap();
    replay.expect(&[0]);
}
