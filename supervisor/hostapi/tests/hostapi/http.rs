//! Outgoing HTTP against real servers on this host: where it may go, and what it bears.

mod limits;
mod paths;
mod proxy;
mod redirects;
mod server;
mod tls;
mod tunnels;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pinfold_hostapi::{
    Caller, Decision, HostCall, HostError, HostReply, HttpConfig, HttpRequest, HttpResponse, Roots,
    SystemResolver,
};

use self::server::{Names, Server, text};
use crate::world::{World, caller, context};

/// A configuration that trusts nobody: the system's certificates take a while to read.
fn config() -> HttpConfig {
    HttpConfig {
        roots: Roots::None,
        ..HttpConfig::default()
    }
}

/// A plugin that may reach these hosts on any port, in these networks.
fn granted(hosts: &str, networks: &str) -> Caller {
    caller(
        "p",
        &format!(r#"{{ "http": [{{ "hosts": [{hosts}], "addresses": [{networks}] }}] }}"#),
    )
}

async fn send(
    world: &World,
    caller: &Caller,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Result<HttpResponse, HostError> {
    let line = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let call = HostCall::HttpRequest(HttpRequest {
        method: method.into(),
        url: url.into(),
        headers: headers.iter().map(line).collect(),
        body: Bytes::from_static(body.as_bytes()),
    });
    match world.api.call(caller, call, &context(10_000)).await? {
        HostReply::Http(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

async fn get(world: &World, caller: &Caller, url: &str) -> Result<HttpResponse, HostError> {
    send(world, caller, "GET", url, &[], "").await
}

#[tokio::test]
async fn a_granted_host_is_reached_and_answers_whole() {
    const LINES: [(&str, &str); 4] = [
        ("x-a", "1"),
        ("x-a", "2"),
        ("set-cookie", "a=1; expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        ("content-type", "text/x"),
    ];
    let server = Server::start("127.0.0.2", |_| {
        let mut answer = text("made");
        *answer.status_mut() = http::StatusCode::CREATED;
        for (name, value) in LINES {
            answer.headers_mut().append(name, value.parse().unwrap());
        }
        answer
    })
    .await;
    let world = World::with_http(&config(), Names::new(&["api.test=127.0.0.2"]));
    let plugin = granted(r#""api.test:*""#, r#""127.0.0.2""#);
    let url = format!("http://api.test:{}/a%20b?q=1#part", server.port());
    let headers = [
        ("X-Own", "v"),
        ("Host", "evil.test"),
        ("Content-Length", "99"),
    ];
    let answer = send(&world, &plugin, "post", &url, &headers, "body")
        .await
        .unwrap();
    assert_eq!((answer.status, &answer.body[..]), (201, &b"made"[..]));
    // Lines of one name stay apart: those of Set-Cookie cannot be joined.
    for (name, _) in LINES {
        let sent = LINES.iter().filter(|line| line.0 == name).copied();
        let lines = answer.headers.iter().filter(|line| line.0 == name);
        let received = lines.map(|(name, value)| (name.as_str(), value.as_str()));
        assert!(sent.eq(received), "{:?}", answer.headers);
    }
    let (head, body) = server.seen.lock().unwrap().pop().unwrap();
    assert_eq!(
        (head.method.as_str(), head.uri.to_string(), body.as_str()),
        ("POST", "/a%20b?q=1".to_owned(), "body")
    );
    assert_eq!(head.headers["host"], format!("api.test:{}", server.port()));
    assert_eq!(head.headers["x-own"], "v");
    assert_eq!(head.headers["content-length"], "4");
    // A compressed answer would be the plugin's to undo: none is asked for.
    assert!(!head.headers.contains_key("accept-encoding"));
    let record = world.last_record();
    assert_eq!(
        (record.service, record.decision, record.subject),
        (
            "http",
            Decision::Allow,
            format!("POST http://api.test:{}", server.port())
        )
    );
}

#[tokio::test]
async fn hosts_ports_and_methods_that_are_not_granted_are_refused() {
    let server = Server::start("127.0.0.2", |_| text("no")).await;
    let names = Names::new(&["api.test=127.0.0.2", "other.test=127.0.0.2"]);
    let world = World::with_http(&config(), names.clone());
    let port = server.port();
    let plugin = caller(
        "p",
        &format!(
            r#"{{ "http": [{{ "hosts": ["api.test:{port}", "other.test"], "methods": ["GET"],
                "addresses": ["127.0.0.0/8"] }}] }}"#
        ),
    );
    for (method, url) in [
        ("GET", format!("http://third.test:{port}/")),
        ("GET", format!("http://api.test.evil.test:{port}/")),
        ("GET", format!("http://api.test.:{port}/")),
        ("GET", format!("http://127.0.0.2:{port}/")),
        // Without a port in the grant only the scheme's own.
        ("GET", format!("http://other.test:{port}/")),
        ("POST", format!("http://api.test:{port}/")),
    ] {
        let refused = send(&world, &plugin, method, &url, &[], "")
            .await
            .unwrap_err();
        let expected =
            format!("HTTP access to {url:?} not permitted (allowed: [api.test:{port} other.test])");
        assert_eq!(refused.to_string(), expected);
        assert_eq!(world.last_record().decision, Decision::Deny);
    }
    let nothing = get(&world, &caller("p", "{}"), "http://api.test/")
        .await
        .unwrap_err();
    assert_eq!(nothing.to_string(), "HTTP outbound access not granted");
    assert_eq!(
        names.lookups.load(Ordering::SeqCst),
        0,
        "names are not even looked up"
    );
    assert!(!server.was_reached());
}

#[tokio::test]
async fn no_way_of_writing_it_reaches_a_loopback_that_is_not_granted() {
    let here = Server::start("127.0.0.1", |_| text("secret")).await;
    let world = World::with_http(&config(), Arc::new(SystemResolver::default()));
    let anywhere = granted(r#""*:*""#, "");
    let port = here.port();
    for host in [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "0",
        "[::]",
        "%31%32%37.0.0.1",
        "127。0。0。1",
    ] {
        let refused = get(&world, &anywhere, &format!("http://{host}:{port}/")).await;
        let refused = refused.unwrap_err();
        assert_eq!(
            refused.code(),
            "hostapi.refused",
            "{host}: {}",
            refused.chain()
        );
        assert!(
            refused.to_string().contains("not public"),
            "{host}: {refused}"
        );
    }
    assert!(!here.was_reached());
    // The same is reached where it is granted: the refusals above are not for want of a server.
    let here_too = granted(r#""*:*""#, r#""127.0.0.1""#);
    for host in ["127.0.0.1", "2130706433", "localhost", "[::ffff:127.0.0.1]"] {
        let answer = get(&world, &here_too, &format!("http://{host}:{port}/")).await;
        assert_eq!(answer.unwrap().body, "secret", "{host}");
    }
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_only_vetted_addresses_are_connected_to() {
    let good = Server::start("127.0.0.2", |_| text("good")).await;
    let evil = Server::with("127.0.0.3", |_, _| Box::pin(async {})).await;
    // What answers first is what was vetted; by the second look-up it would be another.
    let names = Names::new(&[
        "rebind.test=127.0.0.2;127.0.0.3",
        "both.test=127.0.0.3,127.0.0.2",
        "inside.test=127.0.0.3",
        "nowhere.test=0.0.0.0",
    ]);
    let world = World::with_http(&config(), names.clone());
    let plugin = granted(r#""*:*""#, r#""127.0.0.2""#);
    let at = |host: &str| format!("http://{host}:{}/", good.port());
    assert_eq!(
        get(&world, &plugin, &at("rebind.test")).await.unwrap().body,
        "good"
    );
    assert_eq!(names.lookups.load(Ordering::SeqCst), 1);
    let again = get(&world, &plugin, &at("rebind.test")).await.unwrap_err();
    assert_eq!(again.code(), "hostapi.refused");
    assert_eq!(
        get(&world, &plugin, &at("both.test")).await.unwrap().body,
        "good"
    );
    for host in ["inside.test", "nowhere.test"] {
        let url = format!("http://{host}:{}/", evil.port());
        let refused = get(&world, &plugin, &url).await.unwrap_err();
        assert!(!refused.to_string().contains("127.0.0.3"), "{refused}");
        let missing = world.last_record().permission.unwrap();
        assert!(missing.starts_with("http:address:"), "{missing}");
    }
    assert!(!evil.was_reached());
    let unknown = get(&world, &plugin, &at("unknown.test")).await.unwrap_err();
    assert_eq!(
        unknown.chain(),
        "HTTP request failed: the host is not found"
    );
}
