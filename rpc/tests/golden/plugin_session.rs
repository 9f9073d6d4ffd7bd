//! One recorded plugin session, with our host in the place of Go's.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pinfold_gob::{Decoder, GobType, Limits, Type, Value, gob_struct};
use pinfold_rpc::netrpc::{Request, ServerConfig, Services, serve};
use pinfold_rpc::session::{PluginSession, SessionConfig};
use pinfold_rpc::yamux::{Flags, FrameType, HEADER_LEN, Header};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use crate::vectors::{bytes, load, text};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutArgs {
    key: String,
    #[serde(with = "serde_bytes")]
    value: Vec<u8>,
    meta: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct SumArgs {
    a: i64,
    b: i64,
}

gob_struct!(PutArgs as "PutArgs" { "Key": String, "Value": Vec<u8>, "Meta": BTreeMap<String, String> });

impl GobType for SumArgs {
    fn gob_type() -> Type {
        Type::structure("SumArgs", [("A", Type::int()), ("B", Type::int())])
    }
}

/// What one side said on one stream: the flags of its frames in order, and its payload.
#[derive(Debug, Default, PartialEq)]
struct Said {
    flags: Vec<Flags>,
    payload: Vec<u8>,
}

fn by_stream(frames: impl Iterator<Item = (Header, Vec<u8>)>) -> BTreeMap<u32, Said> {
    let mut streams: BTreeMap<u32, Said> = BTreeMap::new();
    for (header, payload) in frames {
        let said = streams.entry(header.stream).or_default();
        if header.flags != Flags::NONE {
            said.flags.push(header.flags);
        }
        said.payload.extend(payload);
    }
    streams
}

fn recorded(frame: &Json) -> (Header, Vec<u8>) {
    let header = bytes(text(frame, "header")).try_into().unwrap();
    (
        Header::parse(header).unwrap(),
        bytes(text(frame, "payload")),
    )
}

async fn read_frame(stream: &mut DuplexStream) -> (Header, Vec<u8>) {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.unwrap();
    let header = Header::parse(header).unwrap();
    let length = if header.kind == FrameType::Data {
        header.length
    } else {
        0
    };
    let mut payload = vec![0; length.try_into().unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    (header, payload)
}

/// Plays the recorded plugin: says its part of each step as recorded, after hearing as many frames of the host as came
/// before. Gives back what it heard.
async fn play_plugin(mut stream: DuplexStream, steps: Vec<Json>) -> Vec<(Header, Vec<u8>)> {
    let mut heard: Vec<(Header, Vec<u8>)> = Vec::new();
    let mut expected = 0;
    for frame in steps
        .iter()
        .flat_map(|step| step["frames"].as_array().unwrap())
    {
        if text(frame, "from") == "host" {
            expected += 1;
            continue;
        }
        while heard.len() < expected {
            heard.push(read_frame(&mut stream).await);
        }
        let (header, payload) = recorded(frame);
        stream.write_all(&header.encode()).await.unwrap();
        stream.write_all(&payload).await.unwrap();
    }
    while heard.len() < expected {
        heard.push(read_frame(&mut stream).await);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    heard
}

fn decode_all(payload: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(payload);
    let mut values = Vec::new();
    while let Some(value) = decoder.decode_value().unwrap() {
        values.push(value);
    }
    assert!(decoder.is_clean_end());
    values
}

#[tokio::test]
async fn host_says_what_a_go_host_says() {
    let file = load("netrpc-session.json");
    let steps = file["steps"].as_array().unwrap().clone();
    let (ours, theirs) = duplex(1 << 16);
    let plugin = tokio::spawn(play_plugin(theirs, steps.clone()));

    let (session, mut stdio) = PluginSession::connect(ours, SessionConfig::default())
        .await
        .unwrap();
    session.ping(soon()).await.unwrap();
    let lab = session.dispense("lab", soon()).await.unwrap();
    let put = PutArgs {
        key: "k1".to_owned(),
        value: b"hello".to_vec(),
        meta: [("a".to_owned(), "b".to_owned())].into(),
    };
    assert!(
        lab.call::<_, bool>("Plugin.Put", &put, soon())
            .await
            .unwrap()
    );
    let mut line = [0; 7];
    stdio.stdout.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"out:k1\n");
    stdio.stderr.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"err:k1\n");
    let got: serde_bytes::ByteBuf = lab.call("Plugin.Get", "k1", soon()).await.unwrap();
    assert_eq!(got.as_ref(), b"v:k1");

    let offer = session.broker().offer().unwrap();
    let id = offer.id();
    let services = Services::new().method("Plugin.Sum", |request: Request<SumArgs>| async move {
        assert_eq!(request.arg_type.name(), "SumArgs");
        assert!(request.arg_type.has_field("B") && !request.arg_type.has_field("CallToken"));
        Ok(request.arg.a + request.arg.b)
    });
    let served = tokio::spawn(async move {
        let stream = offer.accept().await.unwrap();
        serve(stream, Arc::new(services), ServerConfig::default()).await
    });
    let sum: i64 = lab.call("Plugin.CallBack", &id, soon()).await.unwrap();
    assert_eq!(sum, 42);
    served.await.unwrap();
    drop(lab);
    session.quit(soon()).await.unwrap();

    let heard = by_stream(plugin.await.unwrap().into_iter());
    let all = steps
        .iter()
        .flat_map(|step| step["frames"].as_array().unwrap());
    let host = all
        .filter(|frame| text(frame, "from") == "host")
        .map(recorded);
    let expected = by_stream(host);
    assert_eq!(
        heard.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (stream, expected) in &expected {
        let heard = &heard[stream];
        assert_eq!(heard.flags, expected.flags, "stream {stream}");
        if *stream == 2 {
            // Go numbers its types per process and so has another number for the response here.
            assert_eq!(heard.payload[..4], expected.payload[..4]);
            assert_eq!(
                decode_all(&heard.payload[4..]),
                decode_all(&expected.payload[4..])
            );
        } else {
            assert_eq!(heard.payload, expected.payload, "stream {stream}");
        }
    }
}
