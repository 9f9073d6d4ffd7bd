//! Bytes that no friend sends: whatever comes, the session stays within its bounds and gives an error or goes on.
use std::path::Path;
use std::time::Duration;

use pinfold_rpc::yamux::{Config, Event, Role, Session, SessionError};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMITS: fn() -> Config = || Config {
    accept_backlog: 8,
    max_streams: 16,
    max_buffered: 300_000,
    ..Config::default()
};

/// The body of the fuzz target: feeds the bytes in pieces, does a little of everything in between, and checks the bounds.
fn feed(data: &[u8]) {
    let (first, data) = data.split_first().unwrap_or((&0, &[]));
    let role = if first & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let mut session = Session::new(role, LIMITS());
    let piece_length = usize::from(first >> 1) + 1;
    let mut held = Vec::new();
    let mut now = Duration::ZERO;
    for (index, piece) in data.chunks(piece_length).enumerate() {
        now += Duration::from_millis(700);
        let outcome = session
            .receive(piece, now)
            .and_then(|()| session.handle_deadline(now));
        assert!(session.buffered_bytes() <= 300_000 + piece.len());
        assert!(session.live_streams() <= 16);
        let mut sent = Vec::new();
        session.take_outgoing(&mut sent);
        // No answer is longer than what it answers; a ping and the resets of old streams come on their own.
        assert!(
            sent.len() <= piece.len() + 12 + 17 * 12 + 4096,
            "{} for {}",
            sent.len(),
            piece.len()
        );
        if outcome.is_err() {
            session.open(now).unwrap_err();
            return;
        }
        held.extend(session.accept());
        let events: Vec<Event> = session.drain_events().collect();
        assert!(events.len() <= 8 * (piece.len() + 16));
        if let Some(key) = held.get(index % 3).copied() {
            let mut buffer = [0; 100];
            let _ready = session.read(key, &mut buffer);
            let _taken = session.write(key, &buffer);
            if index % 7 == 0 {
                session.release(key, now);
                held.retain(|other| *other != key);
            }
        }
        if index % 11 == 0 {
            held.extend(session.open(now).ok());
        }
    }
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![9 => 0..6_u32, 1 => any::<u32>()];
    let length = prop_oneof![6 => 0..40_u32, 2 => 0..300_000_u32, 1 => any::<u32>()];
    let flags =
        prop_oneof![5 => Just(0_u16), 3 => Just(1), 1 => Just(4), 1 => Just(8), 1 => 0..16_u16];
    (0..4_u8, flags, stream, length, 0..64_usize).prop_map(
        |(kind, flags, stream, length, extra)| {
            let mut bytes = vec![0, kind];
            bytes.extend(flags.to_be_bytes());
            bytes.extend(stream.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            // Payload of about the announced length, so that later frames are often in place.
            let payload = if kind == 0 {
                usize::try_from(length.min(1000)).unwrap()
            } else {
                0
            };
            bytes.resize(bytes.len() + if extra == 0 { extra } else { payload }, b'p');
            bytes
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_keep_the_bounds(data in vec(any::<u8>(), 0..2000)) {
        feed(&data);
    }

    #[test]
    fn any_frames_keep_the_bounds(first in any::<u8>(), frames in vec(frame(), 0..200)) {
        let mut data = vec![first];
        data.extend(frames.concat());
        feed(&data);
    }
}

#[test]
fn saved_inputs_keep_the_bounds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/yamux.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for case in file["raw"].as_array().unwrap() {
        let hex = case["input"].as_str().unwrap().as_bytes();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let input: Vec<u8> = hex.chunks(2).map(byte).collect();
        for first in [0, 1, 8, 254] {
            feed(&[&[first], &input[..]].concat());
            feed(&[&[first][..], &input.repeat(50)].concat());
        }
    }
}

fn syn(stream: u32) -> Vec<u8> {
    [&[0, 1, 0, 1][..], &stream.to_be_bytes(), &[0; 4]].concat()
}

#[test]
fn streams_beyond_the_limits_are_reset() {
    let mut session = Session::new(Role::Server, LIMITS());
    for index in 0..100 {
        session
            .receive(&syn(index * 2 + 1), Duration::ZERO)
            .unwrap();
        if index % 2 == 0 {
            let _accepted = session.accept();
        }
    }
    assert_eq!(session.live_streams(), 16);
}

#[test]
fn unread_data_beyond_the_limit_ends_the_session() {
    let mut session = Session::new(Role::Server, LIMITS());
    let mut outcome = Ok(());
    for index in 0..3_u32 {
        let stream = index * 2 + 1;
        session.receive(&syn(stream), Duration::ZERO).unwrap();
        let mut data = [
            &[0, 0, 0, 0][..],
            &stream.to_be_bytes(),
            &200_000_u32.to_be_bytes(),
        ]
        .concat();
        data.resize(data.len() + 200_000, 0);
        outcome = session.receive(&data, Duration::ZERO);
        if outcome.is_err() {
            break;
        }
    }
    assert!(
        matches!(
            outcome,
            Err(SessionError::BufferedTooMuch { limit: 300_000 })
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_peer_that_has_sent_all_it_may_goes_on_when_nobody_reads_its_stream_any_more() {
    let window = Config::default().receive_window;
    let mut session = Session::new(Role::Server, LIMITS());
    session.receive(&syn(1), Duration::ZERO).unwrap();
    let key = session.accept().unwrap();
    let mut data = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &window.to_be_bytes()].concat();
    data.resize(data.len() + usize::try_from(window).unwrap(), 0);
    session.receive(&data, Duration::ZERO).unwrap();
    let mut sent = Vec::new();
    session.take_outgoing(&mut sent);
    sent.clear();
    session.release(key, Duration::ZERO);
    session.take_outgoing(&mut sent);
    let end = [0, 1, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0];
    let granted = [&[0, 1, 0, 0, 0, 0, 0, 1][..], &window.to_be_bytes()].concat();
    assert_eq!(sent, [&end[..], &granted].concat());
}

#[test]
fn peer_that_sends_pings_and_reads_nothing_is_not_read_any_more() {
    let mut session = Session::new(Role::Server, Config::default());
    let ping = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1].repeat(1000);
    let mut taken = 0;
    while session.wants_input() {
        session.receive(&ping, Duration::ZERO).unwrap();
        taken += ping.len();
        assert!(taken < 2 * 1024 * 1024, "no end of reading");
    }
    session.write_blocked(Duration::ZERO);
    let late = Duration::from_secs(10);
    let outcome = session.handle_deadline(late);
    assert!(
        matches!(outcome, Err(SessionError::WriteStalled { .. })),
        "{outcome:?}"
    );
}

#[test]
fn stream_never_acknowledged_ends_the_session() {
    let mut session = Session::new(
        Role::Client,
        Config {
            keep_alive: None,
            ..Config::default()
        },
    );
    session.open(Duration::ZERO).unwrap();
    let (outcome, now) = loop {
        let now = session.next_deadline().unwrap();
        if let Err(error) = session.handle_deadline(now) {
            break (error, now);
        }
        assert!(now < Duration::from_secs(80));
    };
    assert!(
        matches!(outcome, SessionError::OpenTimeout { stream: 1, .. }),
        "{outcome:?}"
    );
    assert!(now >= Duration::from_secs(75));
}

#[test]
fn a_flood_of_frames_without_data_is_read_no_faster_than_any_purpose_needs() {
    let ping = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    let grant = [0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1];
    let nowhere = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0xff];
    for frame in [&ping[..], &grant, &nowhere] {
        let mut session = Session::new(Role::Client, Config::default());
        let (chunk, second) = (frame.repeat(1000), Duration::from_secs(1));
        let mut now = Duration::ZERO;
        let mut taken = 0;
        while now < 10 * second {
            if session.wants_input() {
                session.receive(&chunk, now).unwrap();
                session.take_outgoing(&mut Vec::new());
                taken += 1;
            } else {
                // It is its own deadline that lets it go on.
                now = session.next_deadline().unwrap();
                session.handle_deadline(now).unwrap();
            }
        }
        // Ten thousand a second, as many at once in the beginning, and the last chunk.
        assert!((100..=112).contains(&taken), "{taken} thousand in 10 s");
    }
}

/// The first stream of a client, with all that arrives on it handed on at once, and a thousand frames for it.
fn handed_over(bytes: u32) -> (Session, Vec<u8>) {
    let mut session = Session::new(Role::Client, Config::default());
    let key = session.open(Duration::ZERO).unwrap();
    session.hand_over(key);
    let mut frame = [&[0; 4][..], &1_u32.to_be_bytes(), &bytes.to_be_bytes()].concat();
    frame.resize(frame.len() + usize::try_from(bytes).unwrap(), 7);
    (session, frame.repeat(1000))
}

fn take(session: &mut Session, frames: &[u8], now: Duration) {
    session.receive(frames, now).unwrap();
    session.take_outgoing(&mut Vec::new());
    let mut handed = Vec::new();
    session.take_handed(&mut handed);
    assert_eq!((handed.len(), session.take_frames()), (1000, 1000));
}

#[test]
fn a_flood_of_frames_with_next_to_no_data_has_to_wait() {
    let (mut session, frames) = handed_over(1);
    let mut now = Duration::ZERO;
    let mut taken = 0;
    while now < Duration::from_secs(1) {
        if session.wants_input() {
            take(&mut session, &frames, now);
            taken += 1;
        } else {
            now = session.next_deadline().unwrap();
            session.handle_deadline(now).unwrap();
        }
    }
    // A million a second, and as many at once in the beginning.
    assert!((1900..=2110).contains(&taken), "{taken} thousand in 1 s");
}

#[test]
fn more_small_replies_than_a_daemon_can_ask_for_never_wait() {
    let (mut session, frames) = handed_over(100);
    // Half a million a second.
    for turn in 0..1500 {
        take(&mut session, &frames, Duration::from_millis(2) * turn);
        assert!(session.wants_input());
    }
}
