//! Bytes that a Go server session was fed, and what it made of them.
use std::time::Duration;

use pinfold_rpc::yamux::{Config, Flags, FrameType, HEADER_LEN, Header, Role, Session};

use crate::vectors::{bytes, cases, text};

/// Our session acknowledges a stream when it arrives, the recorded one when the application accepts it: those frames
/// are left out of the comparison.
fn without_acknowledgements(reply: &[u8]) -> Vec<u8> {
    let headers = reply
        .chunks(HEADER_LEN)
        .map(|chunk| chunk.try_into().unwrap());
    headers
        .filter(|header: &[u8; HEADER_LEN]| {
            let header = Header::parse(*header).unwrap();
            header.kind != FrameType::WindowUpdate || header.flags != Flags::ACK
        })
        .flatten()
        .collect()
}

#[test]
fn every_case_gives_the_recorded_reply_and_closure() {
    for case in cases("yamux.json", "raw") {
        let name = text(&case, "name");
        let input = bytes(text(&case, "input"));
        for piece_length in [1, 5, input.len()] {
            let mut session = Session::new(Role::Server, Config::default());
            let outcome = input
                .chunks(piece_length)
                .try_for_each(|piece| session.receive(piece, Duration::ZERO));
            assert_eq!(
                outcome.is_err(),
                case["session_closed"] == true,
                "{name}: {outcome:?}"
            );
            if outcome.is_ok() {
                let mut reply = Vec::new();
                session.take_outgoing(&mut reply);
                assert_eq!(
                    without_acknowledgements(&reply),
                    bytes(text(&case, "reply")),
                    "{name}"
                );
            }
            let pending = case["streams_pending"].as_u64().unwrap();
            assert_eq!(session.live_streams() as u64, pending, "{name}");
        }
    }
}
