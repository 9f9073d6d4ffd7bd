//! Bytes that no friend sends, and friends' bytes that end too early.
use std::path::Path;
use std::sync::Arc;

use pinfold_rpc::handshake::{Expectation, FirstLine, HandshakeLine};
use pinfold_rpc::log::{LogReader, MAX_PIECE};
use pinfold_rpc::netrpc::{Client, ClientConfig, Request, ServerConfig, Services, serve};
use pinfold_rpc::session::{PluginSession, SessionConfig};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;

use crate::soon;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #[test]
    fn any_first_line_is_read_or_refused(pieces in vec(vec(any::<u8>(), 0..50), 0..10)) {
        let mut first = FirstLine::new();
        for piece in &pieces {
            if let Ok(Some(line)) = first.push(piece) {
                let _outcome = HandshakeLine::parse(&line, &Expectation::net_rpc([1]));
            }
        }
    }

    #[test]
    fn any_fields_are_read_or_refused(fields in vec("[0-9a-z+/:@\\[\\]|é-]{0,80}", 4..8)) {
        let mut expectation = Expectation::net_rpc([1]);
        expectation.certificate = true;
        let _outcome = HandshakeLine::parse(format!("1|1|tcp|{}", fields.join("|")).as_bytes(), &expectation);
    }

    #[test]
    fn any_output_becomes_bounded_records(pieces in vec(vec(any::<u8>(), 0..3000), 0..10)) {
        let mut reader = LogReader::new();
        let mut length = 0;
        for piece in &pieces {
            reader.push(piece, |piece, _| {
                assert!(piece.text.len() <= MAX_PIECE);
                length += piece.text.len();
            });
        }
        reader.finish(|piece, _| length += piece.text.len());
        prop_assert!(length <= pieces.iter().map(Vec::len).sum());
    }

    #[test]
    fn any_bytes_end_a_client_or_are_waited_on(bytes in vec(any::<u8>(), 0..300)) {
        runtime().block_on(async {
            let (ours, mut theirs) = duplex(1 << 16);
            let client = Client::start(ours, ClientConfig::default());
            theirs.write_all(&bytes).await.ok();
            theirs.shutdown().await.ok();
            assert!(client.call::<_, i64>("Plugin.Echo", &1_i64, soon()).await.is_err());
        });
    }

    #[test]
    fn any_bytes_end_a_server(bytes in vec(any::<u8>(), 0..300)) {
        runtime().block_on(async {
            let (ours, mut theirs) = duplex(1 << 16);
            let services = Services::new()
                .method("Plugin.Echo", |request: Request<i64>| async move { Ok(request.arg) });
            let server = tokio::spawn(serve(ours, Arc::new(services), ServerConfig::default()));
            theirs.write_all(&bytes).await.ok();
            theirs.shutdown().await.ok();
            theirs.read_to_end(&mut Vec::new()).await.ok();
            server.await.unwrap();
        });
    }
}

#[tokio::test]
async fn plugin_that_stops_at_any_byte_fails_what_is_waited_for() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/netrpc-session.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let hex = file["plugin_bytes"].as_str().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let recorded: Vec<u8> = hex.chunks(2).map(byte).collect();
    for cut in 0..recorded.len() {
        let (ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(&recorded[..cut]).await.unwrap();
        theirs.shutdown().await.unwrap();
        let (session, _stdio) = PluginSession::connect(ours, SessionConfig::default())
            .await
            .unwrap();
        // The recorded answers come before the questions, and are in no order that helps: whatever is made of them,
        // nothing is waited for after the end.
        session.ping(soon()).await.ok();
        session.dispense("lab", soon()).await.unwrap_err();
        session.closed().await;
    }
}
