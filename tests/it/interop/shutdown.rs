//! Ending: politely, in the middle of a call, by force.
use pinfold_rpc::netrpc::CallError;
use pinfold_rpc::yamux::SessionError;
use std::path::PathBuf;

use super::peer::{Peer, soon};

for_each_release!(
    plugin_asked_to_quit_exits_by_itself_and_removes_its_socket,
    plugin_that_dies_in_a_call_fails_that_call_with_its_cause,
    killed_plugin_fails_every_call_and_ends_the_session,
);

async fn plugin_asked_to_quit_exits_by_itself_and_removes_its_socket(binary: PathBuf) {
    for _ in 0..10 {
        let mut peer = Peer::start(&binary).await;
        let socket = peer.process.socket().to_owned();
        // Its answer may be lost in its own exit: success all the same.
        peer.session.quit(soon()).await.unwrap();
        assert_eq!(peer.process.exit().await.code(), Some(0));
        assert!(!socket.exists());
    }
}

async fn plugin_that_dies_in_a_call_fails_that_call_with_its_cause(binary: PathBuf) {
    let mut peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let outcome = client.call::<_, bool>("Plugin.Exit", &7_i64, soon()).await;
    assert!(
        matches!(outcome, Err(CallError::Closed { .. })),
        "{outcome:?}"
    );
    let cause = peer.session.closed().await;
    assert!(matches!(*cause, SessionError::PeerClosed), "{cause:?}");
    assert_eq!(peer.process.exit().await.code(), Some(7));
    let outcome = peer.session.ping(soon()).await;
    assert!(
        matches!(outcome, Err(CallError::Closed { .. })),
        "{outcome:?}"
    );
}

async fn killed_plugin_fails_every_call_and_ends_the_session(binary: PathBuf) {
    let mut peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                client
                    .call::<_, i64>("Plugin.Sleep", &60_000_i64, soon())
                    .await
            })
        })
        .collect();
    peer.session.ping(soon()).await.unwrap();
    peer.process.kill().await;
    for call in calls {
        let outcome = call.await.unwrap();
        assert!(
            matches!(outcome, Err(CallError::Closed { .. })),
            "{outcome:?}"
        );
    }
    let cause = peer.session.closed().await;
    assert!(matches!(*cause, SessionError::PeerClosed), "{cause:?}");
}
