//! Connections over in-memory sockets.
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use pinfold_rpc::yamux::{
    Config, Connection, Consumer, Incoming, OpenError, Role, SessionError, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn pair() -> (Connection, Connection) {
    let (client, server) = duplex(64 * 1024);
    let start = |socket, role| Connection::start(socket, role, Config::default());
    (start(client, Role::Client), start(server, Role::Server))
}

async fn stream_pair(client: &Connection, incoming: &mut Incoming) -> (Stream, Stream) {
    (
        client.open().await.unwrap(),
        incoming.accept().await.unwrap(),
    )
}

#[tokio::test]
async fn long_transfer_passes_one_window_at_a_time() {
    const PIECE: usize = 1 << 20;
    // A gibibyte where the code is optimised.
    const PIECES: usize = if cfg!(debug_assertions) { 64 } else { 1024 };
    let (client, server) = pair();
    let (mut ours, mut theirs) = stream_pair(&client, &mut server.incoming()).await;
    let writer = tokio::spawn(async move {
        let piece: Vec<u8> = (0..PIECE)
            .map(|place| u8::try_from(place % 251).unwrap())
            .collect();
        for _ in 0..PIECES {
            ours.write_all(&piece).await.unwrap();
        }
        ours.shutdown().await.unwrap();
        ours
    });
    let mut total = 0;
    let mut buffer = vec![0; 100_000];
    loop {
        let n = theirs.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        for (place, byte) in buffer[..n].iter().enumerate() {
            assert_eq!(usize::from(*byte), (total + place) % PIECE % 251);
        }
        total += n;
    }
    assert_eq!(total, PIECE * PIECES);
    writer.await.unwrap();
}

#[tokio::test]
async fn unread_stream_does_not_hold_up_another() {
    let (client, server) = pair();
    let mut incoming = server.incoming();
    let (mut stuck, _unread) = stream_pair(&client, &mut incoming).await;
    let (mut ours, mut theirs) = stream_pair(&client, &mut incoming).await;
    let stuck = tokio::spawn(async move { stuck.write_all(&vec![0; 1 << 20]).await });
    for _ in 0..50 {
        ours.write_all(&[7; 50_000]).await.unwrap();
        let mut back = vec![0; 50_000];
        theirs.read_exact(&mut back).await.unwrap();
    }
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test]
async fn data_before_a_drop_arrives() {
    let (client, server) = pair();
    let mut incoming = server.incoming();
    let (mut ours, mut theirs) = stream_pair(&client, &mut incoming).await;
    ours.write_all(b"last words").await.unwrap();
    drop(ours);
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"last words");
}

#[tokio::test]
async fn reset_fails_reading_and_writing_at_once() {
    let (client, server) = pair();
    let mut incoming = server.incoming();
    let (ours, mut theirs) = stream_pair(&client, &mut incoming).await;
    ours.reset();
    let error = theirs.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let error = theirs.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn half_closed_stream_still_reads() {
    let (client, server) = pair();
    let (mut ours, mut theirs) = stream_pair(&client, &mut server.incoming()).await;
    ours.shutdown().await.unwrap();
    assert_eq!(theirs.read(&mut [0; 10]).await.unwrap(), 0);
    theirs.write_all(b"late").await.unwrap();
    drop(theirs);
    let mut all = Vec::new();
    ours.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"late");
    assert_eq!(
        ours.write(b"x").await.unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn last_handle_closes_the_session_on_both_sides() {
    let (client, server) = pair();
    let mut incoming = server.incoming();
    let (mut ours, mut theirs) = stream_pair(&client, &mut incoming).await;
    ours.write_all(b"kept").await.unwrap();
    drop(client);
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"kept");
    assert!(matches!(*server.ended().await, SessionError::PeerClosed));
    assert!(matches!(
        *incoming.accept().await.unwrap_err(),
        SessionError::PeerClosed
    ));
    assert_eq!(server.open().await.unwrap_err(), OpenError::SessionEnded);
    assert_eq!(ours.read(&mut [0; 10]).await.unwrap(), 0);
    assert!(ours.write(b"x").await.is_err());
}

#[tokio::test]
async fn go_away_stops_new_streams_alone() {
    let (client, server) = pair();
    let mut incoming = server.incoming();
    let (mut ours, mut theirs) = stream_pair(&client, &mut incoming).await;
    server.go_away();
    theirs.write_all(b"x").await.unwrap();
    ours.read_exact(&mut [0]).await.unwrap();
    assert_eq!(client.open().await.unwrap_err(), OpenError::GoAway);
    ours.write_all(b"y").await.unwrap();
    theirs.read_exact(&mut [0]).await.unwrap();
}

#[tokio::test]
async fn malformed_frame_ends_the_session_with_its_reason() {
    let (ours, mut theirs) = duplex(1000);
    let connection = Connection::start(ours, Role::Client, Config::default());
    let mut stream = connection.open().await.unwrap();
    theirs
        .write_all(b"HTTP/1.1 400 Bad Request\r\n")
        .await
        .unwrap();
    let cause = connection.ended().await;
    assert!(matches!(*cause, SessionError::Header { .. }), "{cause:?}");
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
}

/// A peer that acknowledges nothing and answers nothing.
fn silent() -> (Connection, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    (
        Connection::start(ours, Role::Client, Config::default()),
        theirs,
    )
}

#[tokio::test(start_paused = true)]
async fn silent_peer_is_given_up_after_forty_seconds() {
    let (connection, _peer) = silent();
    let started = tokio::time::Instant::now();
    let cause = connection.ended().await;
    assert!(
        matches!(*cause, SessionError::KeepAlive { .. }),
        "{cause:?}"
    );
    assert_eq!(started.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn open_waits_for_room_in_the_backlog() {
    let (connection, mut peer) = silent();
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(connection.open().await.unwrap());
    }
    let opening = tokio::time::timeout(Duration::from_secs(1), connection.open()).await;
    assert!(opening.is_err());
    let acknowledged = async {
        peer.write_all(&[0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0])
            .await
            .unwrap();
    };
    let (opened, ()) = tokio::join!(connection.open(), acknowledged);
    opened.unwrap();
}

#[tokio::test(start_paused = true)]
async fn peers_that_ping_each_other_stay_connected() {
    let (client, server) = pair();
    let (mut ours, mut theirs) = stream_pair(&client, &mut server.incoming()).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    ours.write_all(b"x").await.unwrap();
    theirs.read_exact(&mut [0]).await.unwrap();
    assert!(client.end().is_none() && server.end().is_none());
}

#[tokio::test]
async fn a_long_write_on_a_stream_that_the_peer_has_dropped_comes_to_its_end() {
    let (client, server) = pair();
    let (mut ours, theirs) = stream_pair(&client, &mut server.incoming()).await;
    drop(theirs);
    // Many windows, none of which anybody reads.
    ours.write_all(&vec![0; 4 << 20]).await.unwrap();
    let mut nothing = Vec::new();
    ours.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
}

/// Counts what it is shown.
struct Counting(Arc<AtomicUsize>);

impl Consumer for Counting {
    fn consume(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        ControlFlow::Continue(())
    }

    fn reset(&mut self) {}

    fn idle(&mut self) {}
}

#[tokio::test]
async fn other_tasks_have_their_turn_among_frames_of_one_byte_however_many_have_come() {
    const FLOOD: usize = 80_000;
    let (ours, mut theirs) = duplex(4 << 20);
    let client = Connection::start(ours, Role::Client, Config::default());
    let stream = client.open().await.unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    stream.inbound().consume(Box::new(Counting(seen.clone())));
    let frame = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 7];
    theirs.write_all(&frame.repeat(FLOOD)).await.unwrap();
    let (mut before, mut most) = (0, 0);
    let other = poll_fn(move |cx| {
        let now = seen.load(Ordering::Relaxed);
        most = most.max(now - before);
        before = now;
        if now == FLOOD {
            return Poll::Ready(most);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    let most = tokio::spawn(other).await.unwrap();
    // What one read brings: that alone is more frames than are taken in a row.
    assert!(most <= 70 * 1024 / frame.len(), "{most} in one turn");
}
