//! The calling side.
use std::time::Duration;

use pinfold_gob::{DecodeError, Decoder, Empty, Encoder, GobType, Limits, Schema, gob_struct};
use pinfold_rpc::netrpc::{CallError, Client, ClientConfig, End};
use pinfold_rpc::yamux::{self, Connection, Role, Stream};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

use crate::soon;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RequestHeader {
    service_method: String,
    seq: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResponseHeader {
    service_method: String,
    seq: u64,
    error: String,
}

gob_struct!(ResponseHeader as "Response" { "ServiceMethod": String, "Seq": u64, "Error": String });

/// A server in the test's hands.
struct Peer {
    _connections: [Connection; 2],
    stream: Stream,
    decoder: Decoder,
    encoder: Encoder,
}

impl Peer {
    async fn connect(config: ClientConfig) -> (Client, Self) {
        let (client, server) = duplex(1 << 20);
        let start = |socket, role| Connection::start(socket, role, yamux::Config::default());
        let (client, server) = (start(client, Role::Client), start(server, Role::Server));
        let ours = client.open().await.unwrap();
        let stream = server.incoming().accept().await.unwrap();
        let decoder = Decoder::new(Limits::default());
        (
            Client::start_direct(ours, config),
            Self {
                _connections: [client, server],
                stream,
                decoder,
                encoder: Encoder::new(),
            },
        )
    }

    /// The next request, whose argument is a number.
    async fn request(&mut self) -> (u64, i64) {
        let header: RequestHeader = self.next().await;
        assert_eq!(header.service_method, "Plugin.Echo");
        (header.seq, self.next().await)
    }

    async fn next<T: serde::de::DeserializeOwned>(&mut self) -> T {
        loop {
            if let Some(value) = self.decoder.decode().unwrap() {
                return value;
            }
            let mut buffer = vec![0; 1 << 16];
            let n = self.stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "the client is gone");
            self.decoder.push(&buffer[..n]);
        }
    }

    async fn respond<R: Serialize + GobType>(&mut self, seq: u64, error: &str, reply: R) {
        let service_method = "Plugin.Echo".to_owned();
        let header = ResponseHeader {
            service_method,
            seq,
            error: error.to_owned(),
        };
        let mut out = Vec::new();
        self.encoder
            .encode(&Schema::of::<ResponseHeader>(), &header, &mut out)
            .unwrap();
        self.encoder
            .encode(&Schema::of::<R>(), &reply, &mut out)
            .unwrap();
        self.stream.write_all(&out).await.unwrap();
    }
}

async fn echo(client: &Client, number: i64, deadline: Instant) -> Result<i64, CallError> {
    client.call("Plugin.Echo", &number, deadline).await
}

#[tokio::test]
async fn thousand_concurrent_calls_are_matched_in_reverse_order() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let calls: Vec<_> = (0..1000)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { echo(&client, number, soon()).await })
        })
        .collect();
    let mut requests = Vec::new();
    for seq in 0..1000 {
        let request = peer.request().await;
        assert_eq!(request.0, seq);
        requests.push(request);
    }
    for (seq, number) in requests.into_iter().rev() {
        peer.respond(seq, "", number).await;
    }
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), number);
    }
}

#[tokio::test(start_paused = true)]
async fn call_without_reply_ends_at_its_deadline_and_the_late_reply_is_dropped() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let deadline = Instant::now() + Duration::from_secs(3);
    let outcome = echo(&client, 1, deadline).await;
    assert!(matches!(outcome, Err(CallError::Deadline)), "{outcome:?}");
    assert_eq!(Instant::now(), deadline);
    let (first, _) = peer.request().await;
    peer.respond(first, "", 1).await;
    let answered = async {
        let (seq, number) = peer.request().await;
        peer.respond(seq, "", number).await;
    };
    let (second, ()) = tokio::join!(echo(&client, 2, soon()), answered);
    assert_eq!(second.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn peer_that_leaves_too_many_calls_unanswered_is_given_up() {
    let config = ClientConfig {
        max_given_up: 3,
        ..ClientConfig::default()
    };
    let (client, _peer) = Peer::connect(config).await;
    for number in 0..4 {
        let outcome = echo(&client, number, Instant::now() + Duration::from_millis(1)).await;
        assert!(matches!(outcome, Err(CallError::Deadline)), "{outcome:?}");
    }
    let outcome = echo(&client, 5, soon()).await;
    let Err(CallError::Closed { cause }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(matches!(*cause, End::Stuck { limit: 3 }), "{cause:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_callers_give_up_end_nothing_and_leave_no_room_until_they_are_answered() {
    let config = ClientConfig {
        max_given_up: 3,
        ..ClientConfig::default()
    };
    let (client, mut peer) = Peer::connect(config).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut unanswered = Vec::new();
    for number in 0..4 {
        let call = echo(&client, number, deadline);
        tokio::select! {
            biased;
            outcome = call => panic!("{outcome:?}"),
            request = peer.request() => unanswered.push(request),
        }
    }
    let refused = echo(&client, 4, deadline).await;
    assert!(
        matches!(refused, Err(CallError::Busy { unanswered: 4 })),
        "{refused:?}"
    );
    for (seq, number) in unanswered {
        peer.respond(seq, "", number).await;
    }
    let answered = async {
        let (seq, number) = peer.request().await;
        peer.respond(seq, "", number).await;
    };
    // The answers are read before the call is let through.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (outcome, ()) = tokio::join!(echo(&client, 5, deadline), answered);
    assert_eq!(outcome.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn calls_given_up_count_against_a_silent_peer_once_they_are_overdue() {
    let config = ClientConfig {
        max_given_up: 1,
        ..ClientConfig::default()
    };
    let (client, mut peer) = Peer::connect(config).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    for number in 0..2 {
        tokio::select! {
            biased;
            outcome = echo(&client, number, deadline) => panic!("{outcome:?}"),
            _ = peer.request() => {}
        }
    }
    let later = deadline + Duration::from_secs(30);
    let early = echo(&client, 2, later).await;
    assert!(matches!(early, Err(CallError::Busy { .. })), "{early:?}");
    tokio::time::sleep_until(deadline).await;
    let late = echo(&client, 3, later).await;
    let Err(CallError::Closed { cause }) = late else {
        panic!("{late:?}")
    };
    assert!(matches!(*cause, End::Stuck { limit: 1 }), "{cause:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_wait_within_their_deadline() {
    let config = ClientConfig {
        max_in_flight: 1,
        ..ClientConfig::default()
    };
    let (client, mut peer) = Peer::connect(config).await;
    let first = {
        let client = client.clone();
        tokio::spawn(async move { echo(&client, 1, soon()).await })
    };
    let (seq, _) = peer.request().await;
    let outcome = echo(&client, 2, Instant::now() + Duration::from_secs(1)).await;
    assert!(matches!(outcome, Err(CallError::Deadline)), "{outcome:?}");
    peer.respond(seq, "", 1).await;
    assert_eq!(first.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn error_text_passes_unchanged_and_its_placeholder_is_consumed() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let answered = async {
        let (seq, _) = peer.request().await;
        peer.respond(seq, "  nicht gut\n", Empty).await;
        let (seq, number) = peer.request().await;
        peer.respond(seq, "", number).await;
    };
    let calls = async {
        let failed = echo(&client, 1, soon()).await;
        let Err(CallError::Remote { text }) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(text, "  nicht gut\n");
        assert_eq!(echo(&client, 2, soon()).await.unwrap(), 2);
    };
    tokio::join!(answered, calls);
}

#[tokio::test]
async fn reply_with_an_unknown_number_is_passed_over() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let answered = async {
        let (seq, number) = peer.request().await;
        peer.respond(seq + 7, "", "who asked?".to_owned()).await;
        peer.respond(seq, "", number).await;
    };
    let (outcome, ()) = tokio::join!(echo(&client, 1, soon()), answered);
    assert_eq!(outcome.unwrap(), 1);
}

#[tokio::test]
async fn a_flood_of_replies_that_answer_nothing_ends_the_conversation() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let flood = async {
        let (seq, number) = peer.request().await;
        for unasked in 0..1000 {
            peer.respond(seq + 1000 + unasked, "", 7_i64).await;
        }
        peer.respond(seq, "", number).await;
        peer.request().await;
        // To a call that has its reply.
        peer.respond(seq, "", number).await;
    };
    let calls = async {
        assert_eq!(echo(&client, 1, soon()).await.unwrap(), 1);
        echo(&client, 2, soon()).await
    };
    let (outcome, ()) = tokio::join!(calls, flood);
    let Err(CallError::Closed { cause }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(matches!(*cause, End::Unasked { limit: 1000 }), "{cause:?}");
}

#[tokio::test(start_paused = true)]
async fn late_replies_to_calls_that_were_given_up_end_nothing() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    for number in 0..3000 {
        let outcome = echo(&client, number, Instant::now() + Duration::from_millis(1)).await;
        assert!(matches!(outcome, Err(CallError::Deadline)), "{outcome:?}");
        let (seq, number) = peer.request().await;
        peer.respond(seq, "", number).await;
    }
    let answered = async {
        let (seq, number) = peer.request().await;
        peer.respond(seq, "", number).await;
    };
    let (outcome, ()) = tokio::join!(echo(&client, 1, soon()), answered);
    assert_eq!(outcome.unwrap(), 1);
}

#[tokio::test]
async fn argument_that_cannot_be_encoded_sends_nothing() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    // A map whose encoder is told that it is a number.
    let wrong = std::collections::BTreeMap::from([(1_i64, 2_i64)]);
    let schema = Schema::int();
    let outcome = client
        .call_with("Plugin.Echo", (&schema, &wrong), soon(), |body| {
            body.decode::<i64>()
        })
        .await;
    assert!(
        matches!(outcome, Err(CallError::Encode { .. })),
        "{outcome:?}"
    );
    let answered = async {
        let (seq, number) = peer.request().await;
        assert_eq!(seq, 0);
        peer.respond(seq, "", number).await;
    };
    let (outcome, ()) = tokio::join!(echo(&client, 1, soon()), answered);
    assert_eq!(outcome.unwrap(), 1);
}

#[tokio::test]
async fn end_of_the_stream_fails_pending_calls_with_its_cause() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let gone = async {
        peer.request().await;
        // Half a message.
        peer.stream.write_all(&[5, 1]).await.unwrap();
        peer.stream.shutdown().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(echo(&client, 1, soon()), gone);
    let Err(CallError::Closed { cause }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(matches!(*cause, End::Truncated), "{cause:?}");
    let outcome = echo(&client, 2, soon()).await;
    assert!(
        matches!(outcome, Err(CallError::Closed { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn unreadable_reply_ends_the_conversation_and_every_call() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let garbage = async {
        peer.request().await;
        peer.stream.write_all(&[0xff; 300]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(echo(&client, 1, soon()), garbage);
    let Err(CallError::Closed { cause }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(matches!(*cause, End::Decode { .. }), "{cause:?}");
}

#[tokio::test]
async fn reply_above_the_limit_fails_its_call_alone() {
    let limits = Limits::default().with_message_bytes(1000);
    let (client, mut peer) = Peer::connect(ClientConfig {
        limits,
        ..ClientConfig::default()
    })
    .await;
    let answered = async {
        let (seq, _) = peer.request().await;
        peer.respond(seq, "", "x".repeat(2_000_000)).await;
        let (seq, number) = peer.request().await;
        peer.respond(seq, "", number).await;
    };
    let calls = async {
        let outcome = client
            .call::<_, String>("Plugin.Echo", &1_i64, soon())
            .await;
        let Err(CallError::Decode { source }) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            matches!(source, DecodeError::MessageTooLarge { limit: 1000, .. }),
            "{source:?}"
        );
        assert_eq!(echo(&client, 7, soon()).await.unwrap(), 7);
    };
    tokio::join!(calls, answered);
}

#[tokio::test]
async fn dropping_the_client_closes_its_stream() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    drop(client);
    assert_eq!(peer.stream.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn reply_of_either_type_is_told_apart() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let answered = async {
        let (seq, _) = peer.request().await;
        peer.respond(seq, "", vec![String::from("a")]).await;
        let (seq, _) = peer.request().await;
        peer.respond(seq, "", String::from("b")).await;
    };
    let schema = Schema::int();
    let either = || {
        client.call_with(
            "Plugin.Echo",
            (&schema, &1_i64),
            soon(),
            |mut body| match body.wire_type()?.kind() {
                pinfold_gob::Kind::String => body.decode::<String>().map(|text| vec![text]),
                _ => body.decode::<Vec<String>>(),
            },
        )
    };
    let calls = async {
        assert_eq!(either().await.unwrap(), ["a"]);
        assert_eq!(either().await.unwrap(), ["b"]);
    };
    tokio::join!(answered, calls);
}

#[tokio::test]
async fn callers_that_wait_for_room_are_served_in_the_order_they_came() {
    let (client, mut peer) = Peer::connect(ClientConfig::default()).await;
    let mut calls = Vec::new();
    for number in 0..12 {
        let client = client.clone();
        // More than is buffered: the second waits already.
        let mut text = "x".repeat(1 << 20);
        text.push_str(&number.to_string());
        calls.push(tokio::spawn(async move {
            client.call::<_, i64>("Plugin.Echo", &text, soon()).await
        }));
        tokio::task::yield_now().await;
    }
    for number in 0..12 {
        let header: RequestHeader = peer.next().await;
        let text: String = peer.next().await;
        assert_eq!(text.trim_start_matches('x'), number.to_string());
        peer.respond(header.seq, "", number).await;
    }
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), number);
    }
}
