//! A whole session with a plugin that misbehaves.
use std::sync::Arc;
use std::time::Duration;

use pinfold_gob::Empty;
use pinfold_rpc::broker::BrokerError;
use pinfold_rpc::netrpc::{CallError, Request, ServerConfig, Services, serve};
use pinfold_rpc::session::{DispenseError, PluginSession, SessionConfig};
use pinfold_rpc::yamux::{Config, Connection, HEADER_LEN, Role, SessionError};
use tokio::io::{AsyncReadExt, duplex};
use tokio::time::Instant;

use crate::soon;

/// A plugin whose control stream serves `services`, and that does nothing about any other.
fn plugin(services: Services) -> (tokio::io::DuplexStream, Connection) {
    let (ours, theirs) = duplex(1 << 16);
    let connection = Connection::start(theirs, Role::Server, Config::default());
    let mut incoming = connection.incoming();
    tokio::spawn(async move {
        let control = incoming.accept().await.unwrap();
        serve(control, Arc::new(services), ServerConfig::default()).await
    });
    (ours, connection)
}

#[tokio::test]
async fn first_frames_open_streams_one_three_and_five_without_data() {
    let (ours, mut theirs) = duplex(1 << 16);
    let (_session, _stdio) = PluginSession::connect(ours, SessionConfig::default())
        .await
        .unwrap();
    let mut frames = [0; 3 * HEADER_LEN];
    theirs.read_exact(&mut frames).await.unwrap();
    for (index, frame) in (0..).zip(frames.chunks(HEADER_LEN)) {
        assert_eq!(frame, [0, 1, 0, 1, 0, 0, 0, index * 2 + 1, 0, 0, 0, 0]);
    }
}

#[tokio::test]
async fn end_of_the_connection_after_quit_is_success() {
    let (ours, theirs) = duplex(1 << 16);
    let connection = Connection::start(theirs, Role::Server, Config::default());
    let mut incoming = connection.incoming();
    let plugin = tokio::spawn(async move {
        let mut control = incoming.accept().await.unwrap();
        // Gone without an answer, as a Go plugin often is.
        control.read_exact(&mut [0; 40]).await.unwrap();
        connection.close();
    });
    let (session, _stdio) = PluginSession::connect(ours, SessionConfig::default())
        .await
        .unwrap();
    session.quit(soon()).await.unwrap();
    plugin.await.unwrap();
    let cause = session.closed().await;
    assert!(
        matches!(*cause, SessionError::PeerClosed | SessionError::Closed),
        "{cause:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn plugin_that_ignores_quit_costs_only_the_deadline() {
    let services = Services::new().method("Control.Quit", |_: Request<bool>| async {
        std::future::pending::<()>().await;
        Ok(Empty)
    });
    let (ours, _connection) = plugin(services);
    let (session, _stdio) = PluginSession::connect(ours, SessionConfig::default())
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    let outcome = session.quit(deadline).await;
    assert!(matches!(outcome, Err(CallError::Deadline)), "{outcome:?}");
    assert_eq!(Instant::now(), deadline);
    assert!(matches!(*session.closed().await, SessionError::Closed));
}

#[tokio::test(start_paused = true)]
async fn dispensed_id_that_nobody_serves_is_an_error_in_time() {
    let services = Services::new().method("Dispenser.Dispense", |_: Request<String>| async {
        Ok(1_u32)
    });
    let (ours, _connection) = plugin(services);
    let (session, _stdio) = PluginSession::connect(ours, SessionConfig::default())
        .await
        .unwrap();
    let started = Instant::now();
    let error = session.dispense("peer", soon()).await.unwrap_err();
    assert!(
        matches!(
            error,
            DispenseError::Dial {
                source: BrokerError::Timeout { id: 1, .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn dropped_session_closes_what_was_dispensed_from_it() {
    let (ours, connection) = plugin(Services::new());
    let (session, _stdio) = PluginSession::connect(ours, SessionConfig::default())
        .await
        .unwrap();
    let broker = session.broker().clone();
    drop(session);
    let cause = connection.ended().await;
    assert!(matches!(*cause, SessionError::PeerClosed), "{cause:?}");
    assert!(broker.dial(1, Duration::from_secs(5)).await.is_err());
}
