//! Streams whose incoming direction a consumer takes.
use std::ops::ControlFlow;
use std::time::Duration;

use pinfold_rpc::yamux::{Config, Connection, Consumer, KeepAlive, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::mpsc;

/// What a consumer was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Bytes(Vec<u8>),
    Idle,
    Reset,
    Dropped,
}

struct Telling {
    tell: mpsc::Sender<Told>,
    breaks_at: u8,
}

impl Consumer for Telling {
    fn consume(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        self.tell.try_send(Told::Bytes(bytes.to_vec())).unwrap();
        if bytes.contains(&self.breaks_at) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn reset(&mut self) {
        self.tell.try_send(Told::Reset).ok();
    }

    fn idle(&mut self) {
        self.tell.try_send(Told::Idle).ok();
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.tell.try_send(Told::Dropped).ok();
    }
}

/// A byte that ends a consumer's interest.
const BREAK: u8 = b'!';

fn telling() -> (Box<dyn Consumer>, mpsc::Receiver<Told>) {
    let (tell, told) = mpsc::channel(100_000);
    let breaks_at = BREAK;
    (Box::new(Telling { tell, breaks_at }), told)
}

fn pair(config: &Config) -> (Connection, Connection) {
    let (client, server) = duplex(64 * 1024);
    let start = |socket, role| Connection::start(socket, role, config.clone());
    (start(client, Role::Client), start(server, Role::Server))
}

/// All bytes until the consumer is dropped.
async fn bytes_until_dropped(told: &mut mpsc::Receiver<Told>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match told.recv().await.unwrap() {
            Told::Bytes(bytes) => all.extend(bytes),
            Told::Idle | Told::Reset => {}
            Told::Dropped => return all,
        }
    }
}

#[tokio::test]
async fn what_came_before_and_after_is_consumed_in_order_up_to_the_end() {
    let (client, server) = pair(&Config::default());
    let ours = client.open().await.unwrap();
    let mut theirs = server.incoming().accept().await.unwrap();
    theirs.write_all(b"before ").await.unwrap();
    // Written on the same connection later, so read later: the first stream's bytes are there then.
    let mut second = client.open().await.unwrap();
    let mut mark = server.incoming().accept().await.unwrap();
    mark.write_all(b"x").await.unwrap();
    second.read_exact(&mut [0]).await.unwrap();

    let (consumer, mut told) = telling();
    ours.inbound().consume(consumer);
    theirs.write_all(b"after").await.unwrap();
    theirs.shutdown().await.unwrap();
    assert_eq!(bytes_until_dropped(&mut told).await, b"before after");
}

#[tokio::test]
async fn a_consumer_of_more_than_a_window_is_granted_all_of_it_while_the_stream_is_written() {
    static PIECE: [u8; 100_000] = [7; 100_000];
    let (client, server) = pair(&Config::default());
    let mut ours = client.open().await.unwrap();
    let mut theirs = server.incoming().accept().await.unwrap();
    let (consumer, mut told) = telling();
    ours.inbound().consume(consumer);
    ours.write_all(b"go").await.unwrap();
    let sending = tokio::spawn(async move {
        theirs.read_exact(&mut [0; 2]).await.unwrap();
        for _ in 0..40 {
            theirs.write_all(&PIECE).await.unwrap();
        }
    });
    assert_eq!(bytes_until_dropped(&mut told).await.len(), 4_000_000);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_consumer_is_dropped_with_its_stream_at_the_sessions_end_and_after_it() {
    let (client, server) = pair(&Config::default());
    let (dropped, ended) = (client.open().await.unwrap(), client.open().await.unwrap());
    let (consumer, mut told) = telling();
    dropped.inbound().consume(consumer);
    drop(dropped);
    assert_eq!(told.recv().await, Some(Told::Dropped));

    let (consumer, mut told) = telling();
    ended.inbound().consume(consumer);
    drop(server);
    assert_eq!(told.recv().await, Some(Told::Dropped));
    client.ended().await;
    let (consumer, mut told) = telling();
    ended.inbound().consume(consumer);
    assert_eq!(told.recv().await, Some(Told::Dropped));
}

#[tokio::test]
async fn a_consumer_is_told_of_a_reset_before_it_is_dropped() {
    let (client, server) = pair(&Config::default());
    let ours = client.open().await.unwrap();
    let theirs = server.incoming().accept().await.unwrap();
    let (consumer, mut told) = telling();
    ours.inbound().consume(consumer);
    theirs.reset();
    assert_eq!(told.recv().await, Some(Told::Reset));
    assert_eq!(told.recv().await, Some(Told::Dropped));
}

#[tokio::test]
async fn a_consumer_that_breaks_off_is_shown_nothing_more_and_holds_up_nobody() {
    let (client, server) = pair(&Config::default());
    let mut incoming = server.incoming();
    let broken = client.open().await.unwrap();
    let mut theirs = incoming.accept().await.unwrap();
    let (consumer, mut told) = telling();
    broken.inbound().consume(consumer);
    theirs.write_all(&[BREAK]).await.unwrap();
    assert_eq!(bytes_until_dropped(&mut told).await, [BREAK]);
    theirs.write_all(&vec![1; 1 << 20]).await.unwrap();

    let mut other = client.open().await.unwrap();
    let mut their_other = incoming.accept().await.unwrap();
    their_other.write_all(b"y").await.unwrap();
    other.read_exact(&mut [0]).await.unwrap();
    assert!(told.try_recv().is_err(), "shown more after it broke off");
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_nothing_but_pings_tells_its_consumers_that_it_is_idle() {
    let config = Config {
        keep_alive: Some(KeepAlive {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
        }),
        ..Config::default()
    };
    let (client, _server) = pair(&config);
    let ours = client.open().await.unwrap();
    let (consumer, mut told) = telling();
    ours.inbound().consume(consumer);
    let within = Duration::from_secs(90);
    let first = tokio::time::timeout(within, told.recv()).await;
    assert_eq!(first, Ok(Some(Told::Idle)));
}
