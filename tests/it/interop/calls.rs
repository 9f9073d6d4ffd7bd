//! Calls from host to plugin.
use std::path::PathBuf;
use std::time::Duration;

use pinfold_gob::{Limits, Schema, Value};
use pinfold_rpc::netrpc::{CallError, Client, ClientConfig};
use pinfold_rpc::session::{DispenseError, SessionConfig};
use serde_bytes::{ByteBuf, Bytes};
use tokio::time::Instant;

use super::newest;
use super::peer::{Peer, soon};

for_each_release!(
    what_go_makes_comes_back_from_go_the_same,
    nil_interfaces_pass_both_ways,
    unknown_names_fail_with_the_texts_of_go,
    error_texts_pass_unchanged_and_the_next_call_works,
    slow_call_does_not_hold_up_others_and_ends_at_its_deadline,
    thousand_concurrent_calls_on_one_stream_all_come_back,
    megabytes_pass_both_ways_with_every_release,
);

async fn echo(client: &Client, data: &[u8]) -> Result<ByteBuf, CallError> {
    let schema = Schema::bytes();
    client
        .call_with("Plugin.Echo", (&schema, Bytes::new(data)), soon(), |body| {
            body.decode()
        })
        .await
}

async fn what_go_makes_comes_back_from_go_the_same(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let schema = Schema::bool();
    let (element, samples) = client
        .call_with("Plugin.Samples", (&schema, &true), soon(), |mut body| {
            let element = body.wire_type()?.schema().element();
            Ok((element, body.value()?))
        })
        .await
        .unwrap();
    let Value::Slice(samples) = samples else {
        panic!("{samples:?}")
    };
    assert_eq!(samples.len(), 2);
    for sample in samples {
        let argument = (element.as_ref().unwrap(), &sample);
        let back = client
            .call_value("Plugin.Record", argument, soon())
            .await
            .unwrap();
        assert_eq!(back, sample);
    }
}

async fn nil_interfaces_pass_both_ways(binary: PathBuf) {
    let client = Peer::start(&binary).await;
    let client = client.dispense().await;
    let () = client.call("Plugin.Nothing", &(), soon()).await.unwrap();
    let () = client.call("Plugin.Nothing", &(), soon()).await.unwrap();
}

async fn unknown_names_fail_with_the_texts_of_go(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    for (name, expected) in [
        ("nope", "unknown plugin type: nope"),
        ("broken", "broken by design"),
    ] {
        let error = peer.session.dispense(name, soon()).await.unwrap_err();
        let DispenseError::Call {
            source: CallError::Remote { text },
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(text, expected);
    }
    let client = peer.dispense().await;
    for (method, expected) in [
        ("Plugin.Nope", "rpc: can't find method Plugin.Nope"),
        ("Nope.Echo", "rpc: can't find service Nope.Echo"),
        ("NoDot", "rpc: service/method request ill-formed: NoDot"),
    ] {
        let error = client
            .call::<_, bool>(method, &true, soon())
            .await
            .unwrap_err();
        let CallError::Remote { text } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(text, expected);
    }
    // An argument of the wrong kind is refused in the decoder's words, and the stream lives on.
    let error = client
        .call::<_, bool>("Plugin.Echo", &5_i64, soon())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, CallError::Remote { text } if text.starts_with("gob: ")),
        "{error:?}"
    );
    assert_eq!(echo(&client, b"on").await.unwrap().as_ref(), b"on");
}

async fn error_texts_pass_unchanged_and_the_next_call_works(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    for text in ["boom", " Grüße\nzwei ", "%s\u{0}"] {
        let error = client
            .call::<_, bool>("Plugin.Fail", text, soon())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, CallError::Remote { text: found } if found == text),
            "{error:?}"
        );
    }
    // Without text an error is none.
    assert!(
        !client
            .call::<_, bool>("Plugin.Fail", "", soon())
            .await
            .unwrap()
    );
    assert_eq!(echo(&client, b"on").await.unwrap().as_ref(), b"on");
}

async fn slow_call_does_not_hold_up_others_and_ends_at_its_deadline(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let slow = {
        let client = client.clone();
        tokio::spawn(async move {
            client
                .call::<_, i64>("Plugin.Sleep", &300_i64, soon())
                .await
        })
    };
    for number in 0..50_u8 {
        assert_eq!(echo(&client, &[number]).await.unwrap().as_ref(), [number]);
    }
    assert!(!slow.is_finished());
    let deadline = Instant::now() + Duration::from_millis(20);
    let outcome = client
        .call::<_, i64>("Plugin.Sleep", &100_i64, deadline)
        .await;
    assert!(matches!(outcome, Err(CallError::Deadline)), "{outcome:?}");
    // The late reply arrives while this one is waited for, and is dropped.
    assert_eq!(
        client
            .call::<_, i64>("Plugin.Sleep", &200_i64, soon())
            .await
            .unwrap(),
        200
    );
    assert_eq!(slow.await.unwrap().unwrap(), 300);
}

async fn thousand_concurrent_calls_on_one_stream_all_come_back(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let calls: Vec<_> = (0..1000_u32)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let data = number.to_be_bytes().repeat(100);
                assert_eq!(echo(&client, &data).await.unwrap().as_ref(), data);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn hundred_mebibytes_pass_both_ways() {
    let Some(binary) = newest() else { return };
    let size = 100 << 20;
    let limits = Limits::default().with_message_bytes(size + 1000);
    let client = ClientConfig {
        limits,
        ..ClientConfig::default()
    };
    let config = SessionConfig {
        client,
        ..SessionConfig::default()
    };
    let peer = Peer::start_with(&binary, config).await;
    let client = peer.dispense().await;
    let data: Vec<u8> = (0..size)
        .map(|place| (place % 253).to_le_bytes()[0])
        .collect();
    assert!(echo(&client, &data).await.unwrap().as_ref() == data);
}

async fn megabytes_pass_both_ways_with_every_release(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let size = 3_000_001;
    let big: ByteBuf = client
        .call("Plugin.Big", &i64::from(size), soon())
        .await
        .unwrap();
    assert_eq!(big.len(), usize::try_from(size).unwrap());
    assert!(
        big.iter()
            .enumerate()
            .all(|(place, byte)| place.to_le_bytes()[0] == *byte)
    );
    assert!(echo(&client, &big).await.unwrap() == big);
}

#[tokio::test]
async fn reply_of_another_type_or_size_fails_that_call() {
    let Some(binary) = newest() else { return };
    let limits = Limits::default().with_message_bytes(100_000);
    let client = ClientConfig {
        limits,
        ..ClientConfig::default()
    };
    let config = SessionConfig {
        client,
        ..SessionConfig::default()
    };
    let peer = Peer::start_with(&binary, config).await;
    let client = peer.dispense().await;
    let outcome = client
        .call::<_, String>("Plugin.Sleep", &0_i64, soon())
        .await;
    assert!(
        matches!(outcome, Err(CallError::Decode { .. })),
        "{outcome:?}"
    );
    assert_eq!(
        client
            .call::<_, i64>("Plugin.Sleep", &0_i64, soon())
            .await
            .unwrap(),
        0
    );
    let outcome = client
        .call::<_, ByteBuf>("Plugin.Big", &200_000_i64, soon())
        .await;
    assert!(
        matches!(outcome, Err(CallError::Decode { .. })),
        "{outcome:?}"
    );
    assert_eq!(echo(&client, b"on").await.unwrap().as_ref(), b"on");
}
