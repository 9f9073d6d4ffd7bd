//! Redirects: each goes through every check again.

use std::sync::atomic::Ordering;

use pinfold_policy::Rates;

use super::server::{Names, Server, redirect, text};
use super::{config, get, granted, send};
use crate::world::{World, caller_with};

#[tokio::test]
async fn a_chain_is_followed_and_what_is_secret_stays_with_its_origin() {
    let last = Server::start("127.0.0.3", |_| text("here")).await;
    let to = format!("http://b.test:{}/end", last.port());
    let first = Server::start("127.0.0.2", move |head| match head.uri.path() {
        "/start" => redirect(302, "next"),
        "/next" => redirect(307, &to),
        path => panic!("{path}"),
    })
    .await;
    let names = Names::new(&["a.test=127.0.0.2", "b.test=127.0.0.3"]);
    let world = World::with_http(&config(), names);
    let plugin = granted(r#""*.test:*""#, r#""127.0.0.0/8""#);
    let headers = [
        ("authorization", "Bearer hunter2"),
        ("cookie", "a=b"),
        ("content-type", "text/x"),
        ("x-plain", "1"),
    ];
    let url = format!("http://a.test:{}/start", first.port());
    let answer = send(&world, &plugin, "POST", &url, &headers, "body")
        .await
        .unwrap();
    assert_eq!(answer.body, "here");
    let seen = std::mem::take(&mut *first.seen.lock().unwrap());
    let [(start, sent), (next, then)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((start.method.as_str(), sent.as_str()), ("POST", "body"));
    assert_eq!((next.method.as_str(), then.as_str()), ("GET", ""));
    assert!(
        next.headers.contains_key("authorization") && !next.headers.contains_key("content-type")
    );
    let (end, _) = last.seen.lock().unwrap().pop().unwrap();
    assert!(end.headers.contains_key("x-plain"));
    for name in ["authorization", "cookie", "referer"] {
        assert!(!end.headers.contains_key(name), "{name}");
    }
    let subject = world.last_record().subject;
    assert!(
        subject.ends_with(&format!(" -> GET http://b.test:{}", last.port())),
        "{subject}"
    );
}

#[tokio::test]
async fn the_record_has_every_request_of_a_chain_however_long_it_is() {
    let long = format!("{}.test", vec!["x".repeat(58); 4].join("."));
    let last = Server::start("127.0.0.3", |_| text("here")).await;
    let end = last.port();
    let first = Server::start("127.0.0.2", move |head| {
        match head.uri.path().trim_start_matches('/') {
            "9" => redirect(302, &format!("http://b.test:{end}/")),
            number => redirect(302, &format!("/{}", number.parse::<u8>().unwrap() + 1)),
        }
    })
    .await;
    let named = format!("{long}=127.0.0.2");
    let names = Names::new(&[named.as_str(), "b.test=127.0.0.3"]);
    let world = World::with_http(&config(), names);
    let plugin = granted(r#""*.test:*""#, r#""127.0.0.0/8""#);
    let place = format!("http://{long}:{}", first.port());
    let answer = get(&world, &plugin, &format!("{place}/0")).await.unwrap();
    assert_eq!(answer.body, "here");
    let mut chain = vec![format!("GET {place}"); 10];
    chain.push(format!("GET http://b.test:{}", last.port()));
    assert_eq!(world.last_record().subject, chain.join(" -> "));
}

#[tokio::test]
async fn a_redirect_reaches_nothing_that_a_request_could_not() {
    let inside = Server::start("127.0.0.3", |_| text("secret")).await;
    let port = inside.port();
    let targets = [
        format!("http://127.0.0.3:{port}/"),
        format!("http://inside.test:{port}/"),
        format!("//inside.test:{port}/"),
        format!("http://other.example:{port}/"),
        "file:///etc/passwd".to_owned(),
        format!("http://a.test@inside.test:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "gopher://inside.test/".to_owned(),
        "http://[::1]:1/".to_owned(),
    ];
    let count = targets.len();
    let public = Server::start("127.0.0.2", move |head| {
        let number: usize = head.uri.path().trim_start_matches('/').parse().unwrap();
        redirect(
            301 + u16::try_from(number % 2).unwrap() * 6,
            &targets[number],
        )
    })
    .await;
    let names = Names::new(&["a.test=127.0.0.2", "inside.test=127.0.0.3"]);
    let world = World::with_http(&config(), names);
    // Every host, but only the first server's address beside public ones.
    let plugin = granted(
        r#""*.test:*", "127.0.0.3:*", "169.254.169.254", "[::1]:*""#,
        r#""127.0.0.2""#,
    );
    for number in 0..count {
        let url = format!("http://a.test:{}/{number}", public.port());
        let refused = get(&world, &plugin, &url).await.unwrap_err();
        let code = refused.code();
        assert!(
            matches!(code, "hostapi.refused" | "hostapi.http.request"),
            "{number}: {}",
            refused.chain()
        );
    }
    assert!(!inside.was_reached());
}

#[tokio::test]
async fn a_chain_without_end_is_given_up() {
    let server = Server::start("127.0.0.2", |_| redirect(302, "/again")).await;
    let world = World::with_http(&config(), Names::new(&["a.test=127.0.0.2"]));
    let plugin = granted(r#""a.test:*""#, r#""127.0.0.2""#);
    let url = format!("http://a.test:{}/", server.port());
    let given_up = get(&world, &plugin, &url).await.unwrap_err();
    assert_eq!(
        given_up.chain(),
        "HTTP request failed: stopped after 10 redirects"
    );
    assert_eq!(server.connections.load(Ordering::SeqCst), 11);
}

#[tokio::test]
async fn each_redirect_counts_as_a_request() {
    let server = Server::start("127.0.0.2", |_| redirect(302, "/again")).await;
    let world = World::with_http(&config(), Names::new(&["a.test=127.0.0.2"]));
    let rates = Rates {
        http_requests_per_minute: Some(3),
        ..Rates::default()
    };
    let granted = r#"{ "http": [{ "hosts": ["a.test:*"], "addresses": ["127.0.0.2"] }] }"#;
    let plugin = caller_with("p", granted, &rates);
    let url = format!("http://a.test:{}/", server.port());
    let limited = get(&world, &plugin, &url).await.unwrap_err();
    // Not as one that may be sent again: the first request was carried out.
    assert_eq!(limited.code(), "hostapi.http.redirect");
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
}
