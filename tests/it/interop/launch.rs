//! Starting: environment, handshake line, what goes wrong before there is a session.
use pinfold_rpc::handshake::{FirstLineError, PortRange, Protocol, environment};
use pinfold_rpc::session::SessionConfig;
use std::path::PathBuf;
use tokio::net::UnixStream;

use super::peer::{Peer, Process, soon};

for_each_release!(
    every_release_is_started_and_answers,
    plugin_without_cookie_exits_before_any_line,
    plugin_offered_only_versions_it_lacks_is_refused_by_the_host,
    plugin_survives_a_connection_without_data_and_serves_several_sessions,
);

async fn every_release_is_started_and_answers(binary: PathBuf) {
    let peer = Peer::start(&binary).await;
    let line = peer.process.line();
    assert_eq!((line.version, line.protocol), (1, Protocol::NetRpc));
    assert_eq!((&line.certificate, line.multiplex), (&None, false));
    peer.session.ping(soon()).await.unwrap();
    let info: std::collections::BTreeMap<String, String> = peer
        .dispense()
        .await
        .call("Plugin.Info", &true, soon())
        .await
        .unwrap();
    println!("{} {}", info["go"], info["github.com/hashicorp/go-plugin"]);
}

async fn plugin_without_cookie_exits_before_any_line(binary: PathBuf) {
    let outcome = Process::try_start(&binary, Vec::new()).await;
    let Err((error, status)) = outcome else {
        panic!("it has started")
    };
    assert_eq!(error, FirstLineError::NoLine);
    assert_eq!(status.code(), Some(1));
}

async fn plugin_offered_only_versions_it_lacks_is_refused_by_the_host(binary: PathBuf) {
    use pinfold_rpc::handshake::{Expectation, HandshakeError, HandshakeLine};
    let variables = environment("PINFOLD_PEER", "peer", &[7], PortRange::default());
    // It answers with its own version all the same, so that the comparison is the host's.
    let process = Process::try_start(&binary, variables).await.unwrap();
    let line = format!(
        "1|{}|unix|{}|netrpc|",
        process.line().version,
        process.socket().display()
    );
    let outcome = HandshakeLine::parse(line.as_bytes(), &Expectation::net_rpc([7]));
    assert!(
        matches!(outcome, Err(HandshakeError::Version { version: 1, .. })),
        "{outcome:?}"
    );
}

async fn plugin_survives_a_connection_without_data_and_serves_several_sessions(binary: PathBuf) {
    let process = Process::start(&binary).await;
    drop(UnixStream::connect(process.socket()).await.unwrap());
    let (first, _stdio) = process.connect(SessionConfig::default()).await;
    let (second, _stdio) = process.connect(SessionConfig::default()).await;
    first.ping(soon()).await.unwrap();
    drop(first);
    second.ping(soon()).await.unwrap();
}

#[tokio::test]
async fn sessions_leave_no_task_behind() {
    let Some(binary) = super::newest() else {
        return;
    };
    let process = Process::start(&binary).await;
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = alive();
    for _ in 0..200 {
        let (session, _stdio) = process.connect(SessionConfig::default()).await;
        let peer = session.dispense("peer", soon()).await.unwrap();
        assert_eq!(
            peer.call::<_, i64>("Plugin.Sleep", &0_i64, soon())
                .await
                .unwrap(),
            0
        );
    }
    let deadline = soon();
    while alive() > before {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} tasks are left",
            alive() - before
        );
        tokio::task::yield_now().await;
    }
}
