//! How things end: clients that go away, and a gateway that is told to stop.

use std::sync::Arc;
use std::time::Duration;

use pinfold_gateway::{Drained, Gateway, GatewayConfig, OUTCOMES, ServeError};

use crate::neighbours::{Event, World, id};

#[tokio::test]
async fn client_that_goes_away_cancels_its_call() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    client
        .send("GET /do/hang HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(world.events.recv().await, Some(Event::Called));
    let entry = Arc::clone(world.table.load().entry(&id("hello")).unwrap());
    assert_eq!(entry.meter.in_flight(), 1);
    drop(client);
    assert_eq!(world.events.recv().await, Some(Event::Dropped));
    // Nothing else runs between the end of the call and that of its request.
    assert_eq!(entry.meter.in_flight(), 0);
    let counts = entry.meter.counts();
    assert_eq!((counts.calls(), counts.failures()), (1, 0));
    assert_eq!(
        OUTCOMES[counts.outcomes.iter().position(|n| *n == 1).unwrap()],
        "cancelled"
    );
}

#[tokio::test]
async fn drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut world = World::new().await;
    let mut idle = world.client().await;
    assert_eq!(idle.ask("GET /items/1", &[], "").await.status, 200);
    assert_eq!(world.events.recv().await, Some(Event::Called));
    let mut fresh = world.client().await;
    let mut busy = world.client().await;
    busy.send("GET /do/wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(world.events.recv().await, Some(Event::Called));
    world.stop.cancel();
    idle.closed().await;
    fresh.closed().await;
    assert!(!world.serving.is_finished());
    world.gate.add_permits(1);
    let reply = busy.reply(false).await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "waited"));
    assert_eq!(reply.header("connection"), Some("close"));
    busy.closed().await;
    assert_eq!(world.serving.await.unwrap(), Drained { abandoned: 0 });
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_comes_on_an_idle_connection_at_the_end_is_answered() {
    let mut world = World::new().await;
    let mut fresh = world.client().await;
    let mut idle = world.client().await;
    assert_eq!(idle.ask("GET /items/1", &[], "").await.status, 200);
    assert_eq!(world.events.recv().await, Some(Event::Called));
    world.stop.cancel();
    for client in [&mut idle, &mut fresh] {
        let reply = client.ask("GET /items/1", &[], "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("connection"), Some("close"));
        client.closed().await;
    }
    assert_eq!(world.serving.await.unwrap(), Drained { abandoned: 0 });
}

#[tokio::test]
async fn drain_is_bounded() {
    let short = Duration::from_millis(50);
    let mut world = World::with(|config| config.drain_time = short, |_| {}).await;
    let mut busy = world.client().await;
    busy.send("GET /do/hang HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(world.events.recv().await, Some(Event::Called));
    world.stop.cancel();
    assert_eq!(world.serving.await.unwrap(), Drained { abandoned: 1 });
    assert_eq!(world.events.recv().await, Some(Event::Dropped));
    busy.closed().await;
}

#[tokio::test]
async fn socket_off_loopback_is_refused_whatever_the_settings_say() {
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let gateway = Gateway::new(
        GatewayConfig::default(),
        world.table.clone(),
        Arc::new(crate::neighbours::FewTokens),
        world.daemon.clone(),
        world.audit.clone(),
    );
    let error = gateway
        .serve(listener, world.stop.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, ServeError::Config(_)));
    assert!(error.to_string().contains("behind-proxy = true"), "{error}");
}
