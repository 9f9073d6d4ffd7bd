//! The answering side, called by our own client and by bytes.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pinfold_gob::{Decoder, Encoder, GobType, Limits, Schema, Type, Value, gob_struct};
use pinfold_rpc::netrpc::{
    CallError, Client, ClientConfig, End, Request, ServerConfig, Services, serve, serve_until,
};
use serde::{Deserialize, Serialize, Serializer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::soon;

fn connect(services: Services, config: ServerConfig) -> (Client, JoinHandle<End>) {
    let (ours, theirs) = duplex(1 << 16);
    let server = tokio::spawn(serve(theirs, Arc::new(services), config));
    (Client::start(ours, ClientConfig::default()), server)
}

/// Says it is a string and is none.
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(5)
    }
}

impl GobType for Unencodable {
    fn gob_type() -> Type {
        Type::string()
    }
}

/// As a peer sends it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Header {
    service_method: &'static str,
    seq: u64,
}

gob_struct!(Header as "Request" { "ServiceMethod": String, "Seq": u64 });

/// What a peer is answered, without the reply.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    error: String,
}

/// A request with the argument `true`.
fn request(encoder: &mut Encoder, service_method: &'static str, seq: u64) -> Vec<u8> {
    let mut request = Vec::new();
    let header = Header {
        service_method,
        seq,
    };
    encoder
        .encode(&Schema::of::<Header>(), &header, &mut request)
        .unwrap();
    encoder
        .encode(&Schema::bool(), &true, &mut request)
        .unwrap();
    request
}

fn remote(outcome: Result<impl std::fmt::Debug, CallError>) -> String {
    let Err(CallError::Remote { text }) = outcome else {
        panic!("{outcome:?}")
    };
    text
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_told_and_the_stream_lives_on() {
    let services = Services::new()
        .method("Plugin.Double", |request: Request<i64>| async move {
            Ok(request.arg * 2)
        })
        .method("Plugin.Unencodable", |_: Request<i64>| async {
            Ok(Unencodable)
        })
        .method("Plugin.Silent", |_: Request<i64>| async {
            Err::<i64, _>(String::new())
        });
    let (client, _server) = connect(services, ServerConfig::default());
    let call = |method: &'static str| client.call::<_, i64>(method, &4_i64, soon());
    // The very first reply is the one that fails: nothing of it may count as announced.
    assert!(remote(call("Plugin.Unencodable").await).starts_with("gob: "));
    assert_eq!(call("Plugin.Double").await.unwrap(), 8);
    assert!(remote(call("Plugin.Unencodable").await).starts_with("gob: "));
    assert_eq!(
        remote(call("Plugin.Nope").await),
        "rpc: can't find method Plugin.Nope"
    );
    assert_eq!(
        remote(call("Nope.Double").await),
        "rpc: can't find service Nope.Double"
    );
    assert_eq!(
        remote(call("Double").await),
        "rpc: service/method request ill-formed: Double"
    );
    // An error without text would read as success.
    assert!(!remote(call("Plugin.Silent").await).is_empty());
    let nothing = Value::Interface(None);
    let outcome = client
        .call_value("Plugin.Nope", (&Schema::interface(), &nothing), soon())
        .await;
    assert_eq!(remote(outcome), "rpc: can't find method Plugin.Nope");
    let outcome = client.call::<_, i64>("Plugin.Double", "four", soon()).await;
    assert!(remote(outcome).starts_with("gob: "));
    assert_eq!(call("Plugin.Double").await.unwrap(), 8);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_not_read() {
    let gate = Arc::new(Semaphore::new(0));
    let running = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let services = {
        let (gate, running, peak) = (Arc::clone(&gate), running, Arc::clone(&peak));
        Services::new().method("Plugin.Wait", move |_: Request<bool>| {
            let (gate, running, peak) =
                (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&peak));
            async move {
                peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _permit = gate.acquire().await.map_err(|error| error.to_string())?;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(true)
            }
        })
    };
    let config = ServerConfig {
        max_concurrent: 4,
        ..ServerConfig::default()
    };
    let (client, _server) = connect(services, config);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call::<_, bool>("Plugin.Wait", &true, soon()).await })
        })
        .collect();
    while peak.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    for call in calls {
        assert!(call.await.unwrap().unwrap());
    }
    assert_eq!(peak.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_refused_too_often_is_read_no_faster_than_that() {
    let services = || {
        Services::new()
            .method("Plugin.Good", |_: Request<bool>| async { Ok(true) })
            .method("Plugin.Bad", |_: Request<bool>| async {
                Err::<bool, _>(String::from("no"))
            })
            .method("Plugin.Said", |request: Request<bool>| async move {
                request.place.refused();
                Ok(false)
            })
    };
    let config = ServerConfig {
        refusals_per_second: Some(10),
        ..ServerConfig::default()
    };
    for refused in ["Plugin.Bad", "Plugin.Said", "Plugin.Absent"] {
        let (client, _server) = connect(services(), config.clone());
        let begin = tokio::time::Instant::now();
        for _ in 0..1000 {
            let good = client.call::<_, bool>("Plugin.Good", &true, soon()).await;
            assert!(good.unwrap(), "what is not refused is not counted");
        }
        for _ in 0..10 {
            drop(client.call::<_, bool>(refused, &true, soon()).await);
        }
        assert_eq!(begin.elapsed(), Duration::ZERO, "{refused}");
        for _ in 0..11 {
            drop(client.call::<_, bool>(refused, &true, soon()).await);
        }
        assert!(begin.elapsed() >= Duration::from_secs(1), "{refused}");
        let good = client.call::<_, bool>("Plugin.Good", &true, soon()).await;
        assert!(good.unwrap(), "it is answered again");
    }
}

#[tokio::test]
async fn requests_under_way_are_answered_after_the_peers_end() {
    let services = Services::new().method("Plugin.Slow", |_: Request<bool>| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(String::from("done"))
    });
    let (mut ours, theirs) = duplex(1 << 16);
    let server = tokio::spawn(serve(theirs, Arc::new(services), ServerConfig::default()));
    // Header type, header `Plugin.Slow` with number 0, argument true: as Go writes it.
    let hex = "2e7f030101075265717565737401ff80000102010d536572766963654d6574686f64010c0001035365710106000000\
               10ff80010b506c7567696e2e536c6f770003020001";
    let hex: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let request: Vec<u8> = hex.chunks(2).map(byte).collect();
    ours.write_all(&request).await.unwrap();
    ours.shutdown().await.unwrap();
    let mut reply = Vec::new();
    ours.read_to_end(&mut reply).await.unwrap();
    assert!(reply.ends_with(b"done"), "{reply:?}");
    assert!(matches!(server.await.unwrap(), End::PeerClosed));
}

#[tokio::test]
async fn whoever_stops_it_finds_no_request_under_way() {
    struct UnderWay(Arc<AtomicUsize>);
    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let running = Arc::new(AtomicUsize::new(0));
    let services = {
        let running = Arc::clone(&running);
        Services::new().method("Plugin.Hang", move |_: Request<bool>| {
            running.fetch_add(1, Ordering::SeqCst);
            let under_way = UnderWay(Arc::clone(&running));
            async move {
                let _under_way = under_way;
                std::future::pending::<Result<bool, String>>().await
            }
        })
    };
    let (ours, theirs) = duplex(1 << 16);
    let client = Client::start(ours, ClientConfig::default());
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call::<_, bool>("Plugin.Hang", &true, soon()).await })
        })
        .collect();
    let stop = CancellationToken::new();
    let config = ServerConfig::default();
    // Not a task of its own: the others would have their turn before its end is seen.
    let serving = serve_until(theirs, Arc::new(services), config, stop.cancelled());
    let (end, ()) = tokio::join!(serving, async {
        while running.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    });
    assert_eq!(running.load(Ordering::SeqCst), 0);
    assert!(matches!(end, End::Closed), "{end:?}");
    for call in calls {
        let outcome = call.await.unwrap();
        assert!(
            matches!(outcome, Err(CallError::Closed { .. })),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn unreadable_header_ends_the_conversation_without_answer() {
    let (mut ours, theirs) = duplex(1 << 16);
    let server = tokio::spawn(serve(
        theirs,
        Arc::new(Services::new()),
        ServerConfig::default(),
    ));
    ours.write_all(&[3, 6, 0, 1]).await.unwrap();
    let end = server.await.unwrap();
    assert!(matches!(end, End::Decode { .. }), "{end:?}");
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn large_arguments_and_replies_pass() {
    let services = Services::new().method("Plugin.Double", |request: Request<String>| async move {
        Ok(request.arg.repeat(2))
    });
    let (client, _server) = connect(services, ServerConfig::default());
    let text = "x".repeat(3_000_000);
    let doubled: String = client
        .call("Plugin.Double", text.as_str(), soon())
        .await
        .unwrap();
    assert_eq!(doubled.len(), 6_000_000);
}

#[tokio::test]
async fn an_argument_above_the_limit_is_refused_and_the_stream_lives_on() {
    let services = Services::new().method("Plugin.Length", |request: Request<String>| async move {
        Ok(request.arg.len())
    });
    let config = ServerConfig {
        limits: Limits::default().with_message_bytes(1000),
        ..ServerConfig::default()
    };
    let (client, _server) = connect(services, config);
    let large = "x".repeat(2_000_000);
    let call = |text| client.call::<str, u64>("Plugin.Length", text, soon());
    assert_eq!(
        remote(call(&large).await),
        "gob: message of 2000006 bytes exceeds the limit of 1000"
    );
    assert_eq!(call("four").await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn peer_that_asks_and_never_reads_is_not_read_any_more() {
    let (mut ours, theirs) = duplex(1 << 10);
    let _server = tokio::spawn(serve(
        theirs,
        Arc::new(Services::new()),
        ServerConfig::default(),
    ));
    let mut encoder = Encoder::new();
    let mut sent = 0;
    for seq in 0..1_000_000 {
        let request = request(&mut encoder, "Nope.Nope", seq);
        sent += request.len();
        let written = timeout(Duration::from_secs(1), ours.write_all(&request)).await;
        if written.is_err() {
            assert!(sent < 4 << 20);
            return;
        }
    }
    panic!("{sent} bytes were taken");
}

#[tokio::test]
async fn replies_without_a_place_are_given_up_where_too_many_are_unread() {
    const REPLIES: usize = 8;
    let gate = Arc::new(Semaphore::new(0));
    let (begun, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let services = {
        let (gate, begun, done) = (Arc::clone(&gate), Arc::clone(&begun), Arc::clone(&done));
        Services::new().method("Plugin.Large", move |request: Request<bool>| {
            let (gate, begun, done) = (Arc::clone(&gate), Arc::clone(&begun), Arc::clone(&done));
            async move {
                request.place.leave();
                begun.fetch_add(1, Ordering::SeqCst);
                let _permit = gate.acquire().await.map_err(|error| error.to_string())?;
                done.fetch_add(1, Ordering::SeqCst);
                Ok("x".repeat(1 << 20))
            }
        })
    };
    let config = ServerConfig {
        max_concurrent: 1,
        max_unread: 2 << 20,
        ..ServerConfig::default()
    };
    let (mut ours, theirs) = duplex(1 << 10);
    let _server = tokio::spawn(serve(theirs, Arc::new(services), config));
    let mut encoder = Encoder::new();
    for seq in (0..).take(REPLIES) {
        let request = request(&mut encoder, "Plugin.Large", seq);
        ours.write_all(&request).await.unwrap();
    }
    while begun.load(Ordering::SeqCst) < REPLIES {
        tokio::task::yield_now().await;
    }
    // Each is sent in the same turn in which it is done.
    gate.add_permits(REPLIES);
    while done.load(Ordering::SeqCst) < REPLIES {
        tokio::task::yield_now().await;
    }

    let mut decoder = Decoder::new(Limits::default());
    let mut bytes = vec![0; 1 << 16];
    let (mut answers, mut is_header) = (Vec::new(), true);
    while answers.len() < REPLIES || !is_header {
        let read = if is_header {
            let header = decoder.decode::<Answer>().unwrap();
            header.map(|answer| answers.push(answer.error))
        } else {
            decoder.skip().unwrap()
        };
        if read.is_some() {
            is_header = !is_header;
        } else {
            let length = ours.read(&mut bytes).await.unwrap();
            assert!(length > 0, "{answers:?}");
            decoder.push(&bytes[..length]);
        }
    }
    let whole = answers.iter().filter(|error| error.is_empty()).count();
    assert!((2..=3).contains(&whole), "{answers:?}");
    assert!(
        answers[whole..]
            .iter()
            .all(|error| error.contains("has not been read"))
    );
}
