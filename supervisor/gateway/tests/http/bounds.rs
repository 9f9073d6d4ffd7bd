//! Clients that send too much, too slowly, too often or nonsense.

use std::time::Duration;

use pinfold_gateway::Decision;

use crate::neighbours::{Event, USER, World};

#[tokio::test]
async fn body_over_the_limit_is_refused_however_it_is_sent() {
    let mut world = World::with(|config| config.body_limit_bytes = 1000, |_| {}).await;
    let reply = world.ask("POST /do/echo", &[], &"x".repeat(1000)).await;
    assert_eq!(
        (reply.status, reply.json()["body"].as_str().unwrap().len()),
        (200, 1000)
    );
    assert_eq!(world.events.recv().await, Some(Event::Called));

    let reply = world.ask("POST /do/echo", &[], &"x".repeat(1001)).await;
    assert_eq!(
        (reply.status, reply.error().as_str()),
        (413, "request body has more than 1000 bytes")
    );

    let mut client = world.client().await;
    client
        .send("POST /do/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..3 {
        client
            .send(format!("190\r\n{}\r\n", "y".repeat(0x190)))
            .await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.reply(false).await.unwrap().status, 413);

    let mut client = world.client().await;
    client
        .send("POST /do/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.send("2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n").await;
    assert_eq!(client.reply(false).await.unwrap().json()["body"], "abcde");

    let mut client = world.client().await;
    let length = 1_u64 << 40;
    client
        .send(format!("POST /do/echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"))
        .await;
    assert_eq!(client.reply(false).await.unwrap().status, 413);

    assert_eq!(world.events.recv().await, Some(Event::Called));
    assert!(
        world.events.try_recv().is_err(),
        "refused bodies never reach the plugin"
    );
}

#[tokio::test]
async fn refused_client_reads_its_answer_though_it_was_still_sending() {
    let world = World::new().await;
    // More than the sockets' buffers hold, and more than a body may have.
    let body = "x".repeat(5_000_000);
    assert_eq!(world.ask("POST /mine", &[], &body).await.status, 401);
    assert_eq!(world.ask("POST /do/echo", &[], &body).await.status, 413);
}

#[tokio::test]
async fn bodies_together_have_a_budget() {
    let budget = 1 << 20;
    let mut world = World::with(
        |config| {
            config.body_limit_bytes = budget;
            config.body_budget_bytes = budget;
        },
        |_| {},
    )
    .await;
    let mut holder = world.client().await;
    let body = "x".repeat(600 << 10);
    holder
        .send(format!(
            "POST /do/wait HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!(world.events.recv().await, Some(Event::Called));
    let reply = world.ask("POST /do/echo", &[], &body).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("1"))
    );
    world.gate.add_permits(1);
    assert_eq!(holder.reply(false).await.unwrap().status, 200);
    assert_eq!(world.ask("POST /do/echo", &[], &body).await.status, 200);
}

#[tokio::test]
async fn answers_that_nobody_reads_have_a_budget() {
    // Room for one of the answers, not for two.
    let world = World::with(|config| config.answer_budget_bytes = 40 << 20, |_| {}).await;
    let mut holder = world.client().await;
    holder
        .send("GET /do/large HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(holder.reply(true).await.unwrap().status, 200);
    let reply = world.get("/do/large").await;
    // The plugin was called: nobody is told to send it again.
    assert_eq!((reply.status, reply.header("retry-after")), (503, None));
    assert!(reply.error().contains("yet to read"), "{reply:?}");
    assert_eq!(world.get("/items/1").await.status, 200);
    drop(holder);
    // That it is gone is found by the next write to it.
    let freed = async { while world.get("/do/large").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(60), freed)
        .await
        .expect("the share of a client that is gone is given back");
}

#[tokio::test]
async fn a_body_that_does_not_come_holds_no_place() {
    let mut world = World::with(|config| config.max_in_flight_per_plugin = 1, |_| {}).await;
    let mut slow = world.client().await;
    slow.send(
        "POST /do/echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
    )
    .await;
    // It is waited for now.
    assert_eq!(slow.reply(false).await.unwrap().status, 100);
    assert_eq!(world.get("/items/1").await.status, 200);
    assert_eq!(world.events.recv().await, Some(Event::Called));

    let mut waiting = world.client().await;
    waiting
        .send("GET /do/wait HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(world.events.recv().await, Some(Event::Called));
    slow.send("ab").await;
    let reply = slow.reply(false).await.unwrap();
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(
        world.audit.0.lock().unwrap().last().unwrap().decision,
        Decision::Deny {
            code: "gateway.in_flight"
        }
    );
    // One whose place is taken when it comes is refused before its body is read.
    let head =
        "POST /do/echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let mut late = world.client().await;
    late.send(head).await;
    assert_eq!(late.reply(false).await.unwrap().status, 503);
    world.gate.add_permits(1);
    assert_eq!(waiting.reply(false).await.unwrap().body, "waited");
    assert_eq!(world.ask("POST /do/echo", &[], "ab").await.status, 200);
}

#[tokio::test]
async fn slow_head_is_cut_off() {
    let short = Duration::from_millis(300);
    let world = World::with(|config| config.header_read_time_out = short, |_| {}).await;
    for start in ["", "GET /items/1 HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut client = world.client().await;
        client.send(start).await;
        client.closed().await;
    }
    assert_eq!(world.get("/items/1").await.status, 200);
}

#[tokio::test]
async fn slow_body_is_cut_off() {
    let short = Duration::from_millis(50);
    let mut world = World::with(|config| config.request_time_out = short, |_| {}).await;
    let mut client = world.client().await;
    client
        .send("POST /do/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nab")
        .await;
    assert_eq!(client.reply(false).await.unwrap().status, 408);
    assert!(world.events.try_recv().is_err());
}

#[tokio::test]
async fn client_that_reads_nothing_is_cut_off() {
    let short = Duration::from_millis(50);
    let world = World::with(
        |config| {
            config.write_time_out = short;
            config.max_connections = 1;
        },
        |_| {},
    )
    .await;
    let mut client = world.client().await;
    client
        .send("GET /do/large HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    // The only place is free again although this client still has its connection open.
    assert_eq!(world.get("/items/1").await.status, 200);
    drop(client);
}

#[tokio::test]
async fn head_over_its_limits_is_refused() {
    let world = World::with(
        |config| {
            config.header_limit_bytes = 8192;
            config.header_count = 20;
        },
        |_| {},
    )
    .await;
    let long = format!("x-long: {}", "a".repeat(9000));
    assert_eq!(world.ask("GET /items/1", &[&long], "").await.status, 431);
    let many: Vec<_> = (0..21).map(|n| format!("x-{n}: 1")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(world.ask("GET /items/1", &many, "").await.status, 431);
    assert_eq!(world.ask("GET /items/1", &many[..15], "").await.status, 200);
    let world = World::new().await;
    let path = format!("GET /items/{}", "a".repeat(17 << 10));
    assert_eq!(world.ask(&path, &[], "").await.status, 414);
}

#[tokio::test]
async fn nonsense_is_refused_and_harms_nobody() {
    let mut world = World::new().await;
    for (bytes, status) in [
        ("GET /items/%zz HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET /items/%00 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET /items/%ff HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET /files/../admin HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET /files/%2e%2e/admin HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("TRACE /items/1 HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        ("GET /items/1 HTTP/1.1\r\nbad header\r\n\r\n", 400),
        ("GET /items/1 HTTP/9.9\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", 400),
        (
            "POST /do/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
        ),
        (
            "POST /do/echo HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
            400,
        ),
        (
            "POST /do/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
            400,
        ),
        (
            "POST /do/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
    ] {
        let mut client = world.client().await;
        client.send(bytes).await;
        let reply = client.reply(false).await;
        assert_eq!(reply.map(|reply| reply.status), Some(status), "{bytes:?}");
    }
    assert!(world.events.try_recv().is_err());
    assert_eq!(world.get("/items/1").await.status, 200);
}

#[tokio::test]
async fn content_length_beside_chunked_smuggles_nothing() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    client
        .send(
            "POST /do/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
             0\r\n\r\nGET /do/echo HTTP/1.1\r\nhost: x\r\n\r\n",
        )
        .await;
    // Either it is refused, or the body is the chunked one and the rest a request of its own.
    let first = client.reply(false).await.unwrap();
    if first.status == 200 {
        assert_eq!(first.json()["body"], "");
        assert_eq!(world.events.recv().await, Some(Event::Called));
    } else {
        assert_eq!(first.status, 400);
        client.closed().await;
        assert!(world.events.try_recv().is_err());
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new().await;
    let mut client = world.client().await;
    let text: String = (0..20)
        .map(|n| {
            format!("POST /do/echo?n={n} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{n:02}")
        })
        .collect();
    client.send(text).await;
    for n in 0..20 {
        let reply = client.reply(false).await.unwrap().json();
        assert_eq!(reply["query"], format!("n={n}"));
        assert_eq!(reply["body"], format!("{n:02}"));
    }
}

#[tokio::test]
async fn calls_over_the_rate_wait_and_are_told_how_long() {
    let world = World::with(|_| {}, |entry| entry.calls_per_second = Some(1)).await;
    assert_eq!(world.get("/items/1").await.status, 200);
    let mut refused = world.get("/items/1").await;
    while refused.status == 200 {
        refused = world.get("/items/1").await;
    }
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(refused.error(), "too many requests");
    assert_eq!(
        world.audit.0.lock().unwrap().last().unwrap().decision,
        Decision::Deny {
            code: "gateway.rate"
        }
    );
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn requests_under_way_are_bounded_for_each_plugin() {
    let mut world = World::with(|config| config.max_in_flight_per_plugin = 2, |_| {}).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = world.client().await;
        client
            .send("GET /do/wait HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        assert_eq!(world.events.recv().await, Some(Event::Called));
        waiting.push(client);
    }
    let reply = world.get("/items/1").await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("1"))
    );
    world.gate.add_permits(2);
    for client in &mut waiting {
        assert_eq!(client.reply(false).await.unwrap().body, "waited");
    }
    assert_eq!(world.get("/items/1").await.status, 200);
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let world = World::with(|config| config.max_connections = 1, |_| {}).await;
    let mut first = world.client().await;
    assert_eq!(first.ask("GET /items/1", &[], "").await.status, 200);
    let mut second = world.client().await;
    second
        .send("GET /items/2 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(first.ask("GET /items/3", &[USER], "").await.status, 200);
    drop(first);
    assert_eq!(second.reply(false).await.unwrap().status, 200);
}

#[tokio::test]
async fn call_without_an_answer_ends_at_its_deadline() {
    let short = Duration::from_millis(20);
    let mut world = World::with(|_| {}, |entry| entry.call_timeout = short).await;
    let reply = world.get("/do/hang").await;
    assert_eq!(reply.status, 504);
    assert_eq!(world.events.recv().await, Some(Event::Called));
    assert_eq!(world.events.recv().await, Some(Event::Dropped));
}
