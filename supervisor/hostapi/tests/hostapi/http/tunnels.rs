//! Tunnels through the proxy: what they carry, and what they may take.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use pinfold_hostapi::{Decision, HttpConfig};
use pinfold_policy::{ByteSize, Rates, Span};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::proxy::Proxy;
use super::server::{Names, Server};
use super::{config, granted};
use crate::world::{World, caller, caller_with};

/// Gives back what it is sent.
async fn echo() -> Server {
    Server::with("127.0.0.2", |mut stream: TcpStream, _| {
        async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to)
                .await
                .unwrap_or_default();
        }
        .boxed()
    })
    .await
}

async fn proxy_with(config: &HttpConfig) -> (World, Proxy, Server, String) {
    let server = echo().await;
    let world = World::with_http(config, Names::new(&["api.test=127.0.0.2"]));
    let proxy = Proxy::start(&world, granted(r#""api.test:*""#, r#""127.0.0.2""#)).await;
    let to = format!("api.test:{}", server.port());
    (world, proxy, server, to)
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_and_ends_when_both_sides_have() {
    let (world, proxy, _server, to) = proxy_with(&config()).await;
    let mut tunnel = proxy.tunnel(&to).await.unwrap();
    let sent = vec![b'x'; 1 << 20];
    let (mut read, mut write) = tunnel.split();
    let mut came = Vec::new();
    let (written, count) = tokio::join!(
        async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await
        },
        read.read_to_end(&mut came)
    );
    written.unwrap();
    assert_eq!(count.unwrap(), sent.len());
    let record = world.last_record();
    assert_eq!(
        (
            record.service,
            record.method,
            record.decision,
            record.subject
        ),
        ("http", "tunnel", Decision::Allow, format!("CONNECT {to}"))
    );
    // What a client sends without waiting for the answer is the server's, not the proxy's.
    let early = format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\nearly");
    let mut stream = proxy.connect().await;
    stream.write_all(early.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nearly"), "{answer}");
    // An older client.
    let old = format!("CONNECT {to} HTTP/1.0\r\n\r\nearly");
    let mut stream = proxy.connect().await;
    stream.write_all(old.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.contains(" 200 ") && answer.ends_with("early"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_limited_grant_permits_tunnels_where_it_says_so() {
    let server = echo().await;
    let world = World::with_http(&config(), Names::new(&["api.test=127.0.0.2"]));
    let to = format!("api.test:{}", server.port());
    // What limits it, by what name, and a request that stays refused with tunnels permitted.
    for (limit, named, method, path) in [
        (r#""methods": ["GET"]"#, "limited to methods", "POST", "/"),
        (r#""paths": ["/**"]"#, "limited to paths", "GET", "/a%2fb"),
    ] {
        for permitted in [false, true] {
            let grant = format!(
                r#"{{ "http": [{{ "hosts": ["api.test:*"], {limit}, "tunnel": {permitted},
                    "addresses": ["127.0.0.2"] }}] }}"#
            );
            let proxy = Proxy::start(&world, caller("p", &grant)).await;
            match proxy.tunnel(&to).await {
                Ok(_) => assert!(permitted, "{limit}"),
                Err(refused) => {
                    assert!(!permitted, "{refused:?}");
                    assert_eq!(refused.status(), 403);
                    let problem = refused.problem();
                    assert_eq!(problem["permission"], format!("http:CONNECT:{to}"));
                    let detail = problem["detail"].as_str().unwrap();
                    assert!(detail.contains(named), "{detail}");
                }
            }
            let url = format!("http://{to}{path}");
            assert_eq!(proxy.ask(method, &url, "").await.status(), 403, "{limit}");
        }
    }
}

#[tokio::test]
async fn tunnels_have_a_number_for_each_plugin_and_give_it_back() {
    let server = echo().await;
    let few = HttpConfig {
        tunnels_per_plugin: 3,
        ..config()
    };
    let world = World::with_http(&few, Names::new(&["api.test=127.0.0.2"]));
    let rates = Rates {
        http_requests_per_minute: Some(10_000),
        ..Rates::default()
    };
    let grant = r#"{ "http": [{ "hosts": ["api.test:*"], "addresses": ["127.0.0.2"] }] }"#;
    let to = format!("api.test:{}", server.port());
    let greedy = Proxy::start(&world, caller_with("greedy", grant, &rates)).await;
    let modest = Proxy::start(&world, caller_with("modest", grant, &rates)).await;
    let all = join_all((0..50).map(|_| greedy.tunnel(&to))).await;
    let (open, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(open.len(), 3);
    for one in refused {
        let refused = one.unwrap_err();
        assert_eq!(refused.status(), 429);
        assert_eq!(
            refused.problem()["detail"],
            "more than 3 tunnels are under way"
        );
    }
    // A plain request has places of its own, and another plugin too.
    assert_eq!(
        modest.tunnel(&to).await.unwrap().write(b"x").await.unwrap(),
        1
    );
    drop(open);
    let again = async {
        while greedy.tunnel(&to).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .expect("the places come back");
}

/// What is left to read of a tunnel that the proxy ends.
async fn end(mut tunnel: TcpStream) -> usize {
    let mut rest = Vec::new();
    tunnel.read_to_end(&mut rest).await.unwrap_or_default();
    rest.len()
}

#[tokio::test]
async fn a_tunnel_ends_over_its_bytes() {
    let (_world, proxy, _server, to) = proxy_with(&HttpConfig {
        tunnel_limit: ByteSize(10_000),
        ..config()
    })
    .await;
    let mut tunnel = proxy.tunnel(&to).await.unwrap();
    tunnel.write_all(&[b'x'; 4_000]).await.unwrap();
    let mut back = [0; 4_000];
    tunnel.read_exact(&mut back).await.unwrap();
    tunnel.write_all(&[b'x'; 4_000]).await.unwrap_or_default();
    assert!(end(tunnel).await < 4_000);
}

#[tokio::test]
async fn a_tunnel_ends_when_it_is_idle_and_when_its_time_is_over() {
    let short = Span(Duration::from_millis(300));
    for limits in [
        HttpConfig {
            tunnel_idle: short,
            ..config()
        },
        HttpConfig {
            tunnel_time: short,
            ..config()
        },
    ] {
        let (_world, proxy, _server, to) = proxy_with(&limits).await;
        let mut tunnel = proxy.tunnel(&to).await.unwrap();
        tunnel.write_all(b"x").await.unwrap();
        assert_eq!(end(tunnel).await, 1);
    }
}

#[tokio::test]
async fn stopping_cuts_what_is_under_way() {
    let (_world, proxy, _server, to) = proxy_with(&config()).await;
    let tunnel = proxy.tunnel(&to).await.unwrap();
    let waiting = proxy.connect().await;
    proxy.stop.cancel();
    assert_eq!(end(tunnel).await, 0);
    assert_eq!(end(waiting).await, 0);
    proxy.ended.await.unwrap();
    assert!(TcpStream::connect(proxy.address).await.is_err());
}
