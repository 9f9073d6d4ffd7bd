//! yamux: headers by themselves, and a stream's data through two sessions.

use std::hint::black_box;

use pinfold_rpc::yamux::{Config, Connection, Flags, FrameType, Header, Role, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::messages::payload;
use crate::runtime::{DUPLEX_BYTES, one_thread};
use crate::work_load::Prepared;

/// One header of each type.
const HEADERS: [Header; 4] = [
    header(FrameType::Data, Flags::NONE, 1, 100),
    header(FrameType::WindowUpdate, Flags::ACK, 3, 65_536),
    header(FrameType::Ping, Flags::SYN, 0, 7),
    header(FrameType::GoAway, Flags::NONE, 0, 0),
];

const fn header(kind: FrameType, flags: Flags, stream: u32, length: u32) -> Header {
    Header {
        kind,
        flags,
        stream,
        length,
    }
}

/// Four headers to bytes.
pub(crate) fn encode_frames() -> Prepared {
    Box::new(|times| {
        for _ in 0..times {
            for header in HEADERS {
                black_box(black_box(header).encode());
            }
        }
    })
}

/// Four headers from bytes.
pub(crate) fn parse_frames() -> Prepared {
    let encoded = HEADERS.map(Header::encode);
    Box::new(move |times| {
        for _ in 0..times {
            for bytes in encoded {
                black_box(Header::parse(black_box(bytes)).expect("our own header"));
            }
        }
    })
}

/// A payload to the other side of a stream, and back.
pub(crate) fn echo(bytes: usize) -> Prepared {
    let runtime = one_thread();
    let (sessions, mut stream, other) = runtime.block_on(connect());
    // Ends with the stream, or with the runtime.
    runtime.spawn(send_back(other));
    let sent = payload(bytes);
    let mut received = vec![0; bytes];
    Box::new(move |times| {
        let _last = &sessions;
        runtime.block_on(async {
            for _ in 0..times {
                stream.write_all(&sent).await.expect("the session lasts");
                stream
                    .read_exact(&mut received)
                    .await
                    .expect("the other side sends all of it back");
            }
        });
        assert_eq!(received, sent);
    })
}

async fn send_back(mut stream: Stream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let Some(piece) = buffer.get(..n) else { return };
        if stream.write_all(piece).await.is_err() {
            return;
        }
    }
}

/// Either end's session: it lasts as long as this.
pub(crate) type Sessions = [Connection; 2];

/// Two sessions on a pipe, and both ends of a stream between them.
pub(crate) async fn connect() -> (Sessions, Stream, Stream) {
    let (near, far) = duplex(DUPLEX_BYTES);
    // No question between: when it is asked depends on the clock.
    let config = || Config {
        keep_alive: None,
        ..Config::default()
    };
    let ours = Connection::start(near, Role::Client, config());
    let theirs = Connection::start(far, Role::Server, config());
    let stream = ours.open().await.expect("a fresh session has room");
    let mut incoming = theirs.incoming();
    let other = incoming.accept().await.expect("it was opened");
    ([ours, theirs], stream, other)
}
