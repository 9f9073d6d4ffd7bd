//! Brokered streams, with the other side in the test's hands.
use std::time::Duration;

use pinfold_rpc::broker::{Broker, BrokerConfig, BrokerError};
use pinfold_rpc::yamux::{Config, Connection, Incoming, Role, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

struct Peer {
    connection: Connection,
    incoming: Incoming,
}

fn connect(config: BrokerConfig) -> (Broker, Peer) {
    let (ours, theirs) = duplex(1 << 16);
    let ours = Connection::start(ours, Role::Client, Config::default());
    let connection = Connection::start(theirs, Role::Server, Config::default());
    let incoming = connection.incoming();
    (
        Broker::start(ours, config),
        Peer {
            connection,
            incoming,
        },
    )
}

impl Peer {
    async fn dial(&self, id: u32) -> Stream {
        let mut stream = self.connection.open().await.unwrap();
        stream.write_all(&id.to_le_bytes()).await.unwrap();
        stream
    }
}

async fn confirmation(stream: &mut Stream) -> Option<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(u32::from_le_bytes(bytes))
}

#[tokio::test]
async fn stream_before_and_after_accept_is_confirmed() {
    let (broker, peer) = connect(BrokerConfig::default());
    for expected in 1..4 {
        let offer = broker.offer().unwrap();
        assert_eq!(offer.id(), expected);
        let mut theirs = peer.dial(expected).await;
        let mut ours = offer.accept().await.unwrap();
        assert_eq!(confirmation(&mut theirs).await, Some(expected));
        theirs.write_all(b"raw").await.unwrap();
        let mut raw = [0; 3];
        ours.read_exact(&mut raw).await.unwrap();
        assert_eq!(&raw, b"raw");
    }
    let offer = broker.offer().unwrap();
    let id = offer.id();
    let (accepted, mut theirs) = tokio::join!(offer.accept(), peer.dial(id));
    accepted.unwrap();
    assert_eq!(confirmation(&mut theirs).await, Some(id));
}

#[tokio::test]
async fn id_never_given_out_used_twice_or_taken_back_is_closed() {
    let (broker, peer) = connect(BrokerConfig::default());
    let mut stranger = peer.dial(77).await;
    assert_eq!(confirmation(&mut stranger).await, None);

    let offer = broker.offer().unwrap();
    let id = offer.id();
    let (accepted, mut first) = tokio::join!(offer.accept(), peer.dial(id));
    accepted.unwrap();
    assert_eq!(confirmation(&mut first).await, Some(id));
    let mut second = peer.dial(id).await;
    assert_eq!(confirmation(&mut second).await, None);

    let taken_back = broker.offer().unwrap().id();
    let mut late = peer.dial(taken_back).await;
    assert_eq!(confirmation(&mut late).await, None);
}

#[tokio::test(start_paused = true)]
async fn stream_that_never_says_its_id_blocks_no_other_and_is_closed() {
    let (broker, peer) = connect(BrokerConfig::default());
    let mut silent = peer.connection.open().await.unwrap();
    let mut slow = peer.connection.open().await.unwrap();
    slow.write_all(&[1, 0]).await.unwrap();
    let offer = broker.offer().unwrap();
    let id = offer.id();
    let (accepted, mut theirs) = tokio::join!(offer.accept(), peer.dial(id));
    accepted.unwrap();
    assert_eq!(confirmation(&mut theirs).await, Some(id));
    let started = tokio::time::Instant::now();
    assert_eq!(silent.read(&mut [0; 4]).await.unwrap(), 0);
    assert_eq!(slow.read(&mut [0; 4]).await.unwrap(), 0);
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn unidentified_streams_are_bounded() {
    let config = BrokerConfig {
        max_unidentified: 2,
        ..BrokerConfig::default()
    };
    let (_broker, peer) = connect(config);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(peer.connection.open().await.unwrap());
    }
    let started = tokio::time::Instant::now();
    assert_eq!(streams[2].read(&mut [0; 4]).await.unwrap(), 0);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn dial_sends_the_id_little_endian_and_wants_it_back() {
    let (broker, mut peer) = connect(BrokerConfig::default());
    let within = Duration::from_secs(5);
    for (answer, good) in [([4, 3, 2, 1], true), ([1, 2, 3, 4], false)] {
        let answering = async {
            let mut stream = peer.incoming.accept().await.unwrap();
            let mut id = [0; 4];
            stream.read_exact(&mut id).await.unwrap();
            assert_eq!(id, [4, 3, 2, 1]);
            stream.write_all(&answer).await.unwrap();
            stream
        };
        let (dialled, mut stream) = tokio::join!(broker.dial(0x0102_0304, within), answering);
        if good {
            dialled.unwrap();
        } else {
            let error = dialled.unwrap_err();
            let confirmed = 0x0403_0201;
            assert!(
                matches!(error, BrokerError::WrongConfirmation { id: 0x0102_0304, confirmed: c } if c == confirmed),
                "{error:?}"
            );
            assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dial_without_confirmation_ends_in_time() {
    let (broker, _peer) = connect(BrokerConfig::default());
    let error = broker.dial(1, Duration::from_secs(5)).await.unwrap_err();
    assert!(
        matches!(error, BrokerError::Timeout { id: 1, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn end_of_the_session_ends_who_waits() {
    let (broker, peer) = connect(BrokerConfig::default());
    let offer = broker.offer().unwrap();
    drop(peer);
    let error = offer.accept().await.unwrap_err();
    assert!(
        matches!(error, BrokerError::SessionEnded { .. }),
        "{error:?}"
    );
    let error = broker.offer().unwrap_err();
    assert!(
        matches!(error, BrokerError::SessionEnded { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn ids_given_out_are_bounded() {
    let config = BrokerConfig {
        max_offers: 2,
        ..BrokerConfig::default()
    };
    let (broker, _peer) = connect(config);
    let offers = [broker.offer().unwrap(), broker.offer().unwrap()];
    let error = broker.offer().unwrap_err();
    assert!(
        matches!(error, BrokerError::TooManyOffers { limit: 2 }),
        "{error:?}"
    );
    drop(offers);
    broker.offer().unwrap();
}
