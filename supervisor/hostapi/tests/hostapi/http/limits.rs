//! Servers that are slow, endless or no servers at all, and plugins that ask too often.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use http::Response;
use http_body_util::Full;
use pinfold_hostapi::{Caller, HttpConfig, Retry};
use pinfold_policy::{ByteSize, Rates, Span};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::server::{Names, Server, text};
use super::{config, get, granted, send};
use crate::world::{World, caller_with};

fn small() -> HttpConfig {
    HttpConfig {
        response_limit: ByteSize(64 * 1024),
        request_limit: ByteSize(16),
        timeout: Span(Duration::from_millis(1_500)),
        ..config()
    }
}

/// A server that sends `head` and then `piece` over and over, with `pause` in between, until
/// nobody listens.
async fn endless(head: &'static str, piece: &'static [u8], pause: Duration) -> Server {
    Server::with("127.0.0.2", move |mut stream: TcpStream, _| {
        async move {
            let mut request = vec![0; 4096];
            let asked = stream.read(&mut request).await;
            let mut going = asked.is_ok() && stream.write_all(head.as_bytes()).await.is_ok();
            while going {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                going = stream.write_all(piece).await.is_ok();
            }
        }
        .boxed()
    })
    .await
}

fn world_and_plugin() -> (World, Caller) {
    let world = World::with_http(&small(), Names::new(&["a.test=127.0.0.2"]));
    (world, granted(r#""a.test:*""#, r#""127.0.0.2""#))
}

async fn outcome(server: &Server) -> String {
    let (world, plugin) = world_and_plugin();
    let url = format!("http://a.test:{}/", server.port());
    get(&world, &plugin, &url).await.unwrap_err().chain()
}

#[tokio::test]
async fn servers_that_misbehave_cost_a_bounded_time_and_size() {
    const NONE: Duration = Duration::ZERO;
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let too_large = "HTTP response body is larger than 65536 bytes";
    let deadline = "HTTP request failed: deadline exceeded";
    let unusable = "HTTP request failed: the response is not usable HTTP";
    let slow = Duration::from_millis(20);
    let big = &[b'x'; 0x1000][..];
    let small: &[u8] = b"8\r\nxxxxxxxx\r\n";
    let chunk: &[u8] = Box::leak([b"1000\r\n", big, b"\r\n"].concat().into_boxed_slice());
    for (head, piece, pause, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", big, NONE, too_large),
        (CHUNKED, chunk, NONE, too_large),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            big,
            NONE,
            too_large,
        ),
        (CHUNKED, small, slow, deadline),
        ("", b"", slow, deadline),
        ("HTTP/1.1 200 OK\r\n", b"x", slow, deadline),
        ("HTTP/1.1 200 OK\r\nx: ", big, NONE, unusable),
        ("HTTP/1.1 200 OK\r\n", b"x-header: y\r\n", NONE, unusable),
        ("SSH-2.0-x\r\n", b"\r\n", NONE, unusable),
        (
            "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            b"x",
            NONE,
            unusable,
        ),
    ] {
        let server = endless(head, piece, pause).await;
        assert_eq!(outcome(&server).await, expected, "{head:?}");
    }
    // One that hangs up, and one that is not there.
    let gone = Server::with("127.0.0.2", |stream, _| async move { drop(stream) }.boxed()).await;
    assert_eq!(
        outcome(&gone).await,
        "HTTP request failed: the connection ended before the response"
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (world, plugin) = world_and_plugin();
    let refused = get(&world, &plugin, &format!("http://a.test:{port}/")).await;
    assert_eq!(
        refused.unwrap_err().chain(),
        "HTTP request failed: cannot connect: connection refused"
    );
}

#[tokio::test]
async fn bodies_of_just_the_limit_pass() {
    let server = Server::start("127.0.0.2", |_| {
        Response::new(Full::new(Bytes::from(vec![b'x'; 64 * 1024])))
    })
    .await;
    let (world, plugin) = world_and_plugin();
    let url = format!("http://a.test:{}/", server.port());
    let whole = send(&world, &plugin, "POST", &url, &[], "sixteen bytes ok")
        .await
        .unwrap();
    assert_eq!(whole.body.len(), 64 * 1024);
    let refused = send(&world, &plugin, "POST", &url, &[], "seventeen bytes, no").await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "HTTP request body is larger than 16 bytes"
    );
}

#[tokio::test]
async fn requests_under_way_and_in_a_minute_are_limited() {
    let hanging = endless("", b"", Duration::from_millis(50)).await;
    let few = HttpConfig {
        in_flight_per_plugin: 2,
        ..small()
    };
    let world = World::with_http(&few, Names::new(&["a.test=127.0.0.2"]));
    let plugin = granted(r#""a.test:*""#, r#""127.0.0.2""#);
    let url = format!("http://a.test:{}/", hanging.port());
    let mut ended: Vec<_> = join_all((0..3).map(|_| get(&world, &plugin, &url)))
        .await
        .into_iter()
        .map(|one| one.unwrap_err().chain())
        .collect();
    ended.sort();
    assert_eq!(
        ended,
        [
            "HTTP request failed: deadline exceeded",
            "HTTP request failed: deadline exceeded",
            "more than 2 HTTP requests are under way"
        ]
    );

    let server = Server::start("127.0.0.2", |_| text("ok")).await;
    let url = format!("http://a.test:{}/", server.port());
    let permissions = r#"{ "http": [{ "hosts": ["a.test:*"], "addresses": ["127.0.0.2"] }] }"#;
    for (rate, passes) in [(None, 60), (Some(3), 3), (Some(0), 0)] {
        let rates = Rates {
            http_requests_per_minute: rate,
            ..Rates::default()
        };
        let plugin = caller_with("p", permissions, &rates);
        for _ in 0..passes {
            get(&world, &plugin, &url).await.unwrap();
        }
        let limited = get(&world, &plugin, &url).await.unwrap_err();
        assert_eq!(limited.to_string(), "HTTP request rate limit exceeded");
        assert_eq!(matches!(limited.retry(), Retry::After(_)), passes > 0);
    }
}
