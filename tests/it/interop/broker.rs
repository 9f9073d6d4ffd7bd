//! Brokered streams in both directions.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pinfold_gob::{GobType, Type, gob_struct};
use pinfold_rpc::netrpc::{
    CallError, Client, ClientConfig, End, Request, ServerConfig, Services, serve,
};
use pinfold_rpc::session::PluginSession;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::peer::{Peer, soon};

for_each_release!(
    plugin_calls_the_host_while_its_own_call_is_outstanding,
    number_never_given_out_is_refused_to_the_plugin,
    host_dials_what_the_plugin_accepts,
    three_hundred_streams_at_once_are_all_accepted,
    brokered_stream_is_a_raw_pipe_to_its_end,
    stream_that_is_not_read_holds_up_no_call,
);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CallBackArgs {
    #[serde(rename = "ID")]
    id: u32,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
    times: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PipeArgs {
    #[serde(rename = "ID")]
    id: u32,
    bytes: i64,
}

gob_struct!(CallBackArgs as "CallBackArgs" { "ID": u32, "Data": Vec<u8>, "Times": i64 });
gob_struct!(PipeArgs as "PipeArgs" { "ID": u32, "Bytes": i64 });

/// A byte slice as a whole argument or reply.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Bytes(#[serde(with = "serde_bytes")] Vec<u8>);

impl GobType for Bytes {
    fn gob_type() -> Type {
        Type::bytes()
    }
}

/// Serves `Plugin.Echo` on the next number of the session's broker.
fn serve_echo(session: &PluginSession) -> (u32, JoinHandle<End>) {
    let offer = session.broker().offer().unwrap();
    let id = offer.id();
    let services = Services::new().method("Plugin.Echo", |request: Request<Bytes>| async move {
        Ok(request.arg)
    });
    let server = tokio::spawn(async move {
        let stream = offer.accept().await.unwrap();
        serve(stream, Arc::new(services), ServerConfig::default()).await
    });
    (id, server)
}

async fn call_back(client: &Client, id: u32, bytes: usize, times: i64) -> Result<i64, CallError> {
    let args = CallBackArgs {
        id,
        data: vec![7; bytes],
        times,
    };
    client.call("Plugin.CallBack", &args, soon()).await
}

async fn plugin_calls_the_host_while_its_own_call_is_outstanding(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let (id, server) = serve_echo(&peer.session);
    assert_eq!(call_back(&client, id, 1000, 20).await.unwrap(), 20);
    assert!(matches!(server.await.unwrap(), End::PeerClosed));
    // Several at once, with more than a window each.
    let mut calls = Vec::new();
    for _ in 0..4 {
        let (id, server) = serve_echo(&peer.session);
        let client = client.clone();
        calls.push(tokio::spawn(async move {
            assert_eq!(call_back(&client, id, 700_000, 3).await.unwrap(), 3);
            server.await.unwrap();
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
}

async fn number_never_given_out_is_refused_to_the_plugin(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let error = call_back(&client, 4711, 1, 1).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Remote { text } if text.starts_with("dial the host")),
        "{error:?}"
    );
    peer.session.ping(soon()).await.unwrap();
}

async fn host_dials_what_the_plugin_accepts(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let id: u32 = client.call("Plugin.Open", &true, soon()).await.unwrap();
    let stream = peer
        .session
        .broker()
        .dial(id, Duration::from_secs(5))
        .await
        .unwrap();
    let second = Client::start(stream, ClientConfig::default());
    let echoed: Bytes = second
        .call("Plugin.Echo", &Bytes(b"two".to_vec()), soon())
        .await
        .unwrap();
    assert_eq!(echoed.0, b"two");
}

async fn three_hundred_streams_at_once_are_all_accepted(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let mut calls = Vec::new();
    for _ in 0..300 {
        let (client, broker) = (client.clone(), peer.session.broker().clone());
        calls.push(tokio::spawn(async move {
            let id: u32 = client.call("Plugin.Open", &true, soon()).await.unwrap();
            let stream = broker.dial(id, Duration::from_secs(30)).await.unwrap();
            let client = Client::start(stream, ClientConfig::default());
            client
                .call::<_, i64>("Plugin.Sleep", &0_i64, soon())
                .await
                .unwrap();
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
}

async fn brokered_stream_is_a_raw_pipe_to_its_end(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let bytes = if cfg!(debug_assertions) {
        40 << 20
    } else {
        1 << 30
    };

    let offer = peer.session.broker().offer().unwrap();
    let args = PipeArgs {
        id: offer.id(),
        bytes,
    };
    let poured = async {
        let mut stream = offer.accept().await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .unwrap()
    };
    let (told, poured) = tokio::join!(client.call::<_, i64>("Plugin.Pour", &args, soon()), poured);
    assert_eq!(
        (told.unwrap(), i64::try_from(poured).unwrap()),
        (bytes, bytes)
    );

    let offer = peer.session.broker().offer().unwrap();
    let args = PipeArgs {
        id: offer.id(),
        bytes: 0,
    };
    let drained = async {
        let mut stream = offer.accept().await.unwrap();
        let source = tokio::io::repeat(5).take(bytes.unsigned_abs());
        tokio::io::copy(&mut { source }, &mut stream).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (told, ()) = tokio::join!(
        client.call::<_, i64>("Plugin.Drain", &args, soon()),
        drained
    );
    assert_eq!(told.unwrap(), bytes);
}

async fn stream_that_is_not_read_holds_up_no_call(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let offer = peer.session.broker().offer().unwrap();
    let args = PipeArgs {
        id: offer.id(),
        bytes: 10 << 20,
    };
    let pouring = {
        let client = client.clone();
        tokio::spawn(async move { client.call::<_, i64>("Plugin.Pour", &args, soon()).await })
    };
    let unread = offer.accept().await.unwrap();
    for number in 0..100_i64 {
        let slept: i64 = client
            .call("Plugin.Sleep", &(number % 2), soon())
            .await
            .unwrap();
        assert_eq!(slept, number % 2);
    }
    assert!(!pouring.is_finished());
    unread.reset();
    // The plugin's writes fail at once.
    let outcome = pouring.await.unwrap();
    assert!(
        matches!(outcome, Err(CallError::Remote { .. })),
        "{outcome:?}"
    );
}
