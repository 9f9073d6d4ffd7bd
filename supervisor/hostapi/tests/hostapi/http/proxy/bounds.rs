//! What bounds those who use the proxy: sizes, rates, counts and time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use pinfold_policy::{ByteSize, Span};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;

#[tokio::test]
async fn heads_and_bodies_have_a_size() {
    let server = Server::start("127.0.0.2", |_| {
        http::Response::new(Full::new(Bytes::from(vec![b'x'; 1000])))
    })
    .await;
    let small = HttpConfig {
        request_limit: ByteSize(16),
        response_limit: ByteSize(999),
        ..config()
    };
    let world = World::with_http(&small, Names::new(&["api.test=127.0.0.2"]));
    let proxy = Proxy::start(&world, granted(r#""api.test:*""#, r#""127.0.0.2""#)).await;
    let url = format!("http://api.test:{}/", server.port());
    let long = format!("X: {}\r\n", "x".repeat(60_000));
    let many = "X: y\r\n".repeat(101);
    for lines in [&long, &many] {
        let refused = proxy.ask("GET", &url, lines).await;
        assert_eq!(refused.status(), 431, "{refused:?}");
    }
    let far = format!("{url}{}", "x".repeat(9_000));
    assert_eq!(proxy.ask("GET", &far, "").await.status(), 400);
    let body = "Content-Length: 17\r\n\r\nseventeen bytes..";
    let refused = proxy.ask("POST", &url, body).await;
    assert_eq!(refused.status(), 413);
    assert_eq!(refused.problem()["code"], "hostapi.too-large");
    assert!(!server.was_reached());
    let refused = proxy.ask("GET", &url, "").await;
    assert_eq!(refused.status(), 502);
    assert_eq!(refused.problem()["code"], "hostapi.too-large");
}

#[tokio::test]
async fn rates_and_counts_are_those_of_host_calls() {
    let server = Server::start("127.0.0.2", |_| text("ok")).await;
    let world = World::with_http(&config(), Names::new(&["api.test=127.0.0.2"]));
    let permissions = r#"{ "http": [{ "hosts": ["api.test:*"], "addresses": ["127.0.0.2"] }] }"#;
    let rates = Rates {
        http_requests_per_minute: Some(3),
        ..Rates::default()
    };
    let plugin = caller_with("p", permissions, &rates);
    let proxy = Proxy::start(&world, plugin).await;
    let url = format!("http://api.test:{}/", server.port());
    assert_eq!(proxy.ask("GET", &url, "").await.status(), 200);
    // A refused one counts too, and a tunnel.
    assert_eq!(proxy.ask("GET", "http://no.test/", "").await.status(), 403);
    drop(
        proxy
            .tunnel(&format!("api.test:{}", server.port()))
            .await
            .unwrap(),
    );
    for limited in [
        proxy.ask("GET", &url, "").await,
        proxy.tunnel("api.test:443").await.unwrap_err(),
    ] {
        assert_eq!(limited.status(), 429);
        assert!(limited.head().contains("retry-after: 20"), "{limited:?}");
        assert_eq!(world.last_record().decision, Decision::Limit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_is_cut_off() {
    let world = World::with_http(&config(), Names::new(&[]));
    let proxy = Proxy::start(&world, granted(r#""*:*""#, "")).await;
    for head in ["", "GET http://a.test/ HTTP/1.1\r\nX: "] {
        let answer = proxy.say(head.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_jail_that_is_refused_too_often_has_to_wait() {
    let world = World::with_http(&config(), Names::new(&[]));
    let proxy = Proxy::start(&world, granted(r#""a.test""#, "")).await;
    let begin = tokio::time::Instant::now();
    let (reading, mut writing) = proxy.connect().await.into_split();
    let pipelined = tokio::spawn(async move {
        for _ in 0..2500 {
            let request = b"GET http://b.test/ HTTP/1.1\r\nHost: x\r\n\r\n";
            writing.write_all(request).await.unwrap();
        }
        writing
    });
    let mut answers = BufReader::new(reading);
    for _ in 0..2500 {
        let mut answer = Vec::new();
        // Its body is a JSON object without another in it.
        answers.read_until(b'}', &mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    assert!(begin.elapsed() >= Duration::from_millis(1400));
    drop(pipelined.await.unwrap());

    // Over all its connections, whatever they bring.
    let begin = tokio::time::Instant::now();
    for bytes in [
        &b"no HTTP\r\n\r\n"[..],
        b"GET http://b.test/ HTTP/1.0\r\n\r\n",
    ] {
        for _ in 0..500 {
            proxy.say(bytes).await;
        }
    }
    for _ in 0..500 {
        let mut silent = proxy.connect().await;
        silent.shutdown().await.unwrap();
        silent.read_to_end(&mut Vec::new()).await.unwrap();
    }
    assert!(begin.elapsed() >= Duration::from_millis(1400));
}

#[tokio::test]
async fn a_body_that_never_comes_gives_its_place_back() {
    let server = Server::start("127.0.0.2", |_| text("ok")).await;
    let one = HttpConfig {
        in_flight_per_plugin: 1,
        timeout: Span(Duration::from_millis(500)),
        ..config()
    };
    let world = World::with_http(&one, Names::new(&["api.test=127.0.0.2"]));
    let proxy = Proxy::start(&world, granted(r#""api.test:*""#, r#""127.0.0.2""#)).await;
    let url = format!("http://api.test:{}/", server.port());
    let answer = proxy.ask("POST", &url, "Content-Length: 4\r\n\r\nb").await;
    assert_eq!(answer.status(), 504, "{answer:?}");
    assert!(!server.was_reached());
    assert_eq!(proxy.ask("GET", &url, "").await.status(), 200);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_counts_as_under_way_until_it_is_cut() {
    // More than the kernel takes off us for somebody who reads nothing.
    const LARGE: usize = 24 << 20;
    let server = Server::start("127.0.0.2", |_| {
        http::Response::new(Full::new(Bytes::from(vec![b'x'; LARGE])))
    })
    .await;
    let large = HttpConfig {
        in_flight_per_plugin: 1,
        response_limit: ByteSize::mebibytes(24),
        timeout: Span::seconds(3),
        ..config()
    };
    let world = World::with_http(&large, Names::new(&["api.test=127.0.0.2"]));
    let proxy = Proxy::start(&world, granted(r#""api.test:*""#, r#""127.0.0.2""#)).await;
    let url = format!("http://api.test:{}/", server.port());
    let mut dawdler = proxy.connect().await;
    let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n");
    dawdler.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    dawdler.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(proxy.ask("GET", &url, "").await.status(), 429);
    // In time its connection is cut, and the place is free.
    let freed = async {
        while proxy.ask("GET", &url, "").await.status() == 429 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), freed)
        .await
        .expect("the place comes back");
    let mut rest = Vec::new();
    let ended = dawdler.read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.len() < LARGE, "it was cut");
}
