//! The proxy for programs that speak HTTP by themselves: what passes, what is refused and how it says
//! so, and what comes of messages that mean harm.

mod bounds;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pinfold_hostapi::{Caller, Decision, HttpConfig, Roots, SystemResolver, serve_proxy};
use pinfold_policy::Rates;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::server::{Names, Server, redirect, text};
use super::{config, granted};
use crate::world::{World, caller, caller_with};

/// A proxy for one plugin. It ends when this is dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) caller: watch::Sender<Arc<Caller>>,
    pub(super) ended: tokio::task::JoinHandle<()>,
    pub(super) stop: CancellationToken,
    _stop: DropGuard,
}

impl Proxy {
    pub(super) async fn start(world: &World, caller: Caller) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = watch::channel(Arc::new(caller));
        let stop = CancellationToken::new();
        let serving = serve_proxy(Arc::clone(&world.api), listener, receiver, stop.clone());
        Self {
            address,
            caller: sender,
            ended: tokio::spawn(serving),
            _stop: stop.clone().drop_guard(),
            stop,
        }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes, and gives all that comes back until the proxy ends the connection.
    pub(super) async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap_or_default();
        String::from_utf8(answer).unwrap()
    }

    /// One request with a whole URL.
    pub(super) async fn ask(&self, method: &str, url: &str, more: &str) -> Reply {
        let request =
            format!("{method} {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
        Reply(self.say(request.as_bytes()).await)
    }

    /// A tunnel; or what was said instead of it.
    pub(super) async fn tunnel(&self, to: &str) -> Result<TcpStream, Reply> {
        let mut stream = self.connect().await;
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8(head).unwrap();
        if head.starts_with("HTTP/1.1 200 ") {
            return Ok(stream);
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        Err(Reply(head + &String::from_utf8(body).unwrap()))
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Reply(pub(super) String);

impl Reply {
    pub(super) fn status(&self) -> u16 {
        let status = self.0.get(9..12).unwrap_or_default();
        status.parse().unwrap_or_else(|_| panic!("{:?}", self.0))
    }

    pub(super) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").unwrap().1
    }

    fn head(&self) -> String {
        self.0.split_once("\r\n\r\n").unwrap().0.to_lowercase()
    }

    pub(super) fn problem(&self) -> Value {
        assert!(
            self.head()
                .contains("content-type: application/problem+json"),
            "{}",
            self.0
        );
        serde_json::from_str(self.body()).unwrap()
    }
}

#[tokio::test]
async fn a_granted_request_passes_as_it_is_and_the_answer_comes_back() {
    let server = Server::start("127.0.0.2", |head| match head.uri.path() {
        "/moved" => redirect(302, "http://elsewhere.test/"),
        _ => {
            let mut answer = text("made");
            *answer.status_mut() = http::StatusCode::CREATED;
            let headers = answer.headers_mut();
            headers.append("set-cookie", "a=1".parse().unwrap());
            headers.append("set-cookie", "b=2".parse().unwrap());
            headers.append("connection", "x-hop".parse().unwrap());
            headers.append("x-hop", "1".parse().unwrap());
            answer
        }
    })
    .await;
    let world = World::with_http(&config(), Names::new(&["api.test=127.0.0.2"]));
    let proxy = Proxy::start(&world, granted(r#""api.test:*""#, r#""127.0.0.2""#)).await;
    let at = |path: &str| format!("http://api.test:{}{path}", server.port());
    let lines = "User-Agent: tool/1\r\nProxy-Connection: keep-alive\r\nAuthorization: Bearer x\r\n\
                 Proxy-Authorization: Basic eA==\r\nContent-Length: 4\r\n\r\nbody";
    let answer = proxy.ask("POST", &at("/a%20b?q=1"), lines).await;
    assert_eq!((answer.status(), answer.body()), (201, "made"));
    assert_eq!(
        answer.head().matches("set-cookie: ").count(),
        2,
        "{answer:?}"
    );
    assert!(!answer.head().contains("x-hop"), "{answer:?}");
    let (head, body) = server.seen.lock().unwrap().pop().unwrap();
    assert_eq!(
        (head.method.as_str(), head.uri.to_string(), body.as_str()),
        ("POST", "/a%20b?q=1".to_owned(), "body")
    );
    assert_eq!(head.headers["host"], format!("api.test:{}", server.port()));
    let mut names: Vec<_> = head.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    // Nothing of the proxy's: neither what it was told nor a word of itself.
    assert_eq!(
        names,
        ["authorization", "content-length", "host", "user-agent"]
    );
    let record = world.last_record();
    assert_eq!(
        (
            record.service,
            record.method,
            record.decision,
            record.subject
        ),
        (
            "http",
            "forward",
            Decision::Allow,
            format!("POST http://api.test:{}", server.port())
        )
    );

    // Chunked, in two pieces, by a client that waits for a word first.
    let chunked =
        "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n";
    let answer = proxy.ask("PUT", &at("/"), chunked).await;
    assert!(answer.0.contains("HTTP/1.1 201 "), "{answer:?}");
    assert_eq!(server.seen.lock().unwrap().pop().unwrap().1, "body");

    // A redirect is an answer, for the client to follow.
    let moved = proxy.ask("GET", &at("/moved"), "").await;
    assert_eq!(moved.status(), 302);
    assert!(moved.head().contains("location: http://elsewhere.test/"));

    // The answer to HEAD says how long it would be, and has no body.
    let head = proxy.ask("HEAD", &at("/"), "").await;
    assert_eq!((head.status(), head.body()), (201, ""));
    assert!(head.head().contains("content-length: 4"), "{head:?}");
}

#[tokio::test]
async fn what_is_not_granted_is_refused_with_what_would_permit_it() {
    let server = Server::start("127.0.0.2", |_| text("no")).await;
    let names = Names::new(&["api.test=127.0.0.2", "in.test=127.0.0.2"]);
    let world = World::with_http(&config(), names.clone());
    let port = server.port();
    let plugin = caller(
        "p",
        &format!(
            r#"{{ "http": [{{ "hosts": ["api.test:{port}", "in.test:{port}"], "methods": ["GET"] }}] }}"#
        ),
    );
    let proxy = Proxy::start(&world, plugin).await;
    for (method, url, permission, grant) in [
        (
            "GET",
            format!("http://other.test:{port}/x?secret"),
            format!("http:GET:other.test:{port}"),
            format!("hosts = [\"other.test:{port}\"], with the method GET"),
        ),
        (
            "POST",
            format!("http://api.test:{port}/"),
            format!("http:POST:api.test:{port}"),
            "with the method POST".to_owned(),
        ),
        (
            "GET",
            format!("http://api.test:{port}/"),
            "http:address".to_owned(),
            "addresses".to_owned(),
        ),
    ] {
        let refused = proxy.ask(method, &url, "Content-Length: 0\r\n").await;
        assert_eq!(refused.status(), 403, "{refused:?}");
        let problem = refused.problem();
        assert_eq!(problem["code"], "hostapi.refused");
        assert_eq!(problem["permission"], permission);
        assert!(
            problem["grant"].as_str().unwrap().contains(&grant),
            "{problem}"
        );
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("HTTP access to")
        );
        assert!(refused.head().contains("proxy-status: pinfold; error="));
        assert!(!refused.0.contains("127.0.0.2"), "{refused:?}");
        let record = world.last_record();
        assert_eq!(
            (record.method, record.decision),
            ("forward", Decision::Deny)
        );
        assert!(record.permission.unwrap().starts_with("http:"));
    }
    // A tunnel would hide the method.
    let refused = proxy.tunnel(&format!("api.test:{port}")).await.unwrap_err();
    assert_eq!(refused.status(), 403);
    let line = refused.0.lines().next().unwrap().to_owned();
    assert_eq!(
        line,
        format!("HTTP/1.1 403 Forbidden: http:CONNECT:api.test:{port} is not granted")
    );
    let problem = refused.problem();
    assert!(
        problem["grant"].as_str().unwrap().contains("tunnel = true"),
        "{problem}"
    );
    let record = world.last_record();
    assert_eq!(
        (record.method, record.decision, record.subject),
        ("tunnel", Decision::Deny, format!("CONNECT api.test:{port}"))
    );
    assert!(!server.was_reached());

    // Nothing is granted or asked for: not even that is looked at.
    let nothing = Proxy::start(&world, caller("q", "{}")).await;
    let refused = nothing.ask("GET", "http://api.test/", "").await;
    assert_eq!(refused.problem()["permission"], "http");
    // Until it is.
    nothing
        .caller
        .send_replace(Arc::new(granted(r#""api.test:*""#, r#""127.0.0.2""#)));
    let url = format!("http://api.test:{port}/");
    assert_eq!(nothing.ask("GET", &url, "").await.status(), 200);
}

#[tokio::test]
async fn no_way_of_writing_it_leads_to_this_machine_or_the_metadata() {
    let here = Server::start("127.0.0.1", |_| text("secret")).await;
    let world = World::with_http(&config(), Arc::new(SystemResolver::default()));
    let port = here.port();
    let rates = Rates {
        http_requests_per_minute: Some(1_000),
        ..Rates::default()
    };
    let anywhere = caller_with("p", r#"{ "http": [{ "hosts": ["*:*"] }] }"#, &rates);
    let proxy = Proxy::start(&world, anywhere).await;
    for host in [
        "localhost",
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "0",
        "[::]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
    ] {
        let url = format!("http://{host}:{port}/");
        let refused = proxy.ask("GET", &url, "").await;
        assert_eq!(refused.status(), 403, "{host}: {refused:?}");
        assert_eq!(refused.problem()["permission"], "http:address", "{host}");
        let refused = proxy.tunnel(&format!("{host}:{port}")).await.unwrap_err();
        assert_eq!(refused.status(), 403, "{host}: {refused:?}");
        assert_eq!(refused.problem()["permission"], "http:address", "{host}");
    }
    assert!(!here.was_reached());
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_vetted_each_time() {
    let good = Server::start("127.0.0.2", |_| text("good")).await;
    let evil = Server::with("127.0.0.3", |_, _| Box::pin(async {})).await;
    let names = Names::new(&[
        "one.test=127.0.0.2;127.0.0.3",
        "two.test=127.0.0.2;127.0.0.3",
    ]);
    let world = World::with_http(&config(), names.clone());
    let proxy = Proxy::start(&world, granted(r#""*:*""#, r#""127.0.0.2""#)).await;
    let url = format!("http://one.test:{}/", good.port());
    assert_eq!(proxy.ask("GET", &url, "").await.body(), "good");
    let again = format!("http://one.test:{}/", evil.port());
    assert_eq!(proxy.ask("GET", &again, "").await.status(), 403);
    drop(
        proxy
            .tunnel(&format!("two.test:{}", good.port()))
            .await
            .unwrap(),
    );
    let to = format!("two.test:{}", evil.port());
    assert_eq!(proxy.tunnel(&to).await.unwrap_err().status(), 403);
    assert_eq!(names.lookups.load(Ordering::SeqCst), 4, "once for each");
    assert!(!evil.was_reached());
}

#[tokio::test]
async fn messages_that_can_be_read_in_two_ways_reach_nobody_twice() {
    let server = Server::start("127.0.0.2", |_| text("ok")).await;
    let secret = Server::start("127.0.0.3", |_| text("secret")).await;
    let world = World::with_http(
        &config(),
        Names::new(&["api.test=127.0.0.2", "secret.test=127.0.0.3"]),
    );
    let proxy = Proxy::start(&world, granted(r#""api.test:*""#, r#""127.0.0.0/8""#)).await;
    let (port, hidden) = (server.port(), secret.port());
    let smuggled =
        format!("GET http://secret.test:{hidden}/ HTTP/1.1\r\nHost: secret.test\r\n\r\n");
    let url = format!("http://api.test:{port}/");
    let line = format!("POST {url} HTTP/1.1\r\nHost: api.test:{port}\r\n");

    // Refused whole, whatever would come after.
    for lines in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n folded\r\n",
        " X: a\r\n",
        "X\0: a\r\n",
        "no colon\r\n",
    ] {
        let answer = proxy
            .say(format!("{line}{lines}\r\n{smuggled}").as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{lines:?}: {answer}"
        );
    }
    let old = format!("POST {url} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(proxy.say(old.as_bytes()).await.starts_with("HTTP/1.1 400 "));
    assert!(!server.was_reached());

    // A length beside chunks does not count. What follows the last chunk is the next request, and is
    // judged like any other; the server never sees it.
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 400\r\n",
    ] {
        let request = format!("{line}{lines}\r\n0\r\n\r\n{smuggled}");
        let answer = proxy.say(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // Where the connection goes on at all.
        let more = answer.matches("HTTP/1.1 ").count() - 1;
        assert_eq!(answer.matches("HTTP/1.1 403 ").count(), more, "{answer}");
        let (head, body) = server.seen.lock().unwrap().pop().unwrap();
        assert_eq!(body, "");
        assert!(!head.headers.contains_key("transfer-encoding"), "{head:?}");
        assert_eq!(head.headers["content-length"], "0");
        assert!(server.seen.lock().unwrap().is_empty());
    }

    // The URL counts, whatever Host says, and however often it says it.
    let host = format!(
        "GET {url} HTTP/1.1\r\nHost: secret.test\r\nHost: third.test\r\nConnection: close\r\n\r\n"
    );
    assert!(
        proxy
            .say(host.as_bytes())
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let (head, _) = server.seen.lock().unwrap().pop().unwrap();
    assert_eq!(head.headers.get_all("host").iter().count(), 1);
    assert_eq!(head.headers["host"], format!("api.test:{port}"));
    let turned = format!(
        "GET http://secret.test:{hidden}/ HTTP/1.1\r\nHost: api.test:{port}\r\nConnection: close\r\n\r\n"
    );
    assert!(
        proxy
            .say(turned.as_bytes())
            .await
            .starts_with("HTTP/1.1 403 ")
    );

    // No request for a proxy at all.
    for target in [
        "/".to_owned(),
        "*".to_owned(),
        format!("//api.test:{port}/"),
        format!("api.test:{port}"),
        format!("http://u:p@api.test:{port}/"),
        format!("ftp://api.test:{port}/"),
        format!("http://api.test:{port}\\@secret.test/"),
    ] {
        let answer = proxy.ask("GET", &target, "").await;
        assert_eq!(answer.status(), 400, "{target}: {answer:?}");
    }
    for target in [
        "api.test",
        "u@api.test:80",
        "http://api.test:80/",
        "/",
        "api.test:0",
    ] {
        let answer = proxy.ask("CONNECT", target, "").await;
        assert_eq!(answer.status(), 400, "{target}: {answer:?}");
    }
    assert!(!secret.was_reached());
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn absolute_https_is_asked_for_with_a_certificate_that_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_tls("127.0.0.2", "api.test", dir.path(), |_| text("safe")).await;
    let trusting = HttpConfig {
        roots: Roots::None,
        extra_roots: Some(dir.path().join("api.test.pem")),
        ..HttpConfig::default()
    };
    let names = Names::new(&["api.test=127.0.0.2", "wrong.test=127.0.0.2"]);
    let world = World::with_http(&trusting, names);
    let plugin = caller(
        "p",
        r#"{ "http": [{ "hosts": ["*.test:*"], "methods": ["GET"], "addresses": ["127.0.0.2"] }] }"#,
    );
    let proxy = Proxy::start(&world, plugin).await;
    let at = |host: &str| format!("https://{host}:{}/", server.port());
    let answer = proxy.ask("GET", &at("api.test"), "").await;
    assert_eq!((answer.status(), answer.body()), (200, "safe"));
    assert_eq!(proxy.ask("POST", &at("api.test"), "").await.status(), 403);
    let wrong = proxy.ask("GET", &at("wrong.test"), "").await;
    assert_eq!(wrong.problem()["code"], "hostapi.http.tls");
}
