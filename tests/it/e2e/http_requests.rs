//! Plugins reach servers elsewhere through the daemon, and only those that they are granted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::setup::Setup;

const ASKS: &str = "resources:
  permissions:
    - type: http
";

/// A server on an address of this machine. It answers with its own header lines and what it was
/// asked, and ends with the test's process.
struct Outside {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let outside = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            asked: Arc::default(),
        };
        let (connections, asked) = (Arc::clone(&outside.connections), Arc::clone(&outside.asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let asked = Arc::clone(&asked);
                thread::spawn(move || answer(stream.unwrap(), &asked));
            }
        });
        outside
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn was_reached(&self) -> bool {
        self.connections.load(Ordering::SeqCst) > 0
    }
}

fn answer(stream: std::net::TcpStream, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    head += &String::from_utf8(body).unwrap();
    asked.lock().unwrap().push(head);
    let reply = "HTTP/1.1 418 Teapot\r\nX-Brew: green\r\nContent-Length: 4\r\n\r\n\x00\x01hi";
    reader
        .get_mut()
        .write_all(reply.as_bytes())
        .unwrap_or_default();
}

fn request(method: &str, url: &str) -> Value {
    json!({"method": method, "url": url, "headers": null, "body": null})
}

#[test]
fn a_granted_server_answers_in_the_contracts_form_and_no_proxy_is_asked() {
    if !super::can_run() {
        return;
    }
    let (outside, proxy) = (Outside::start("127.0.0.2"), Outside::start("127.0.0.4"));
    let grant = format!(
        "[permissions]\nhttp = [{{ hosts = ['{}'], addresses = ['127.0.0.2'] }}]\n",
        outside.address
    );
    let daemon = ["g2", "g3", "g4"]
        .into_iter()
        .fold(Setup::new(), |setup, name| {
            setup
                .plugin_asking(name, &format!("goatflow-{name}"), ASKS)
                .policy(name, &grant)
        })
        .environment("http_proxy", &proxy.url(""))
        .environment("HTTP_PROXY", &proxy.url(""))
        .environment("ALL_PROXY", &proxy.url(""))
        .start();
    let headers = json!({"X-Own": "value", "Host": "evil.test", "Transfer-Encoding": "chunked"});
    let asked = json!({
        "method": "PUT", "url": outside.url("/tea?milk=no"), "headers": headers, "body": "aGVsbG8=",
    });
    let plain = json!({"status": 418, "body": "AAFoaQ=="});
    let g3 = daemon.host("g3", "http_request", &asked);
    assert_eq!(g3["result"], plain, "{g3}");
    let head = outside.asked.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("PUT /tea?milk=no HTTP/1.1\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("x-own: value\r\n"), "{head}");
    assert!(
        lower.contains(&format!("host: {}\r\n", outside.address)),
        "{head}"
    );
    assert!(
        !lower.contains("chunked") && !lower.contains("evil.test"),
        "{head}"
    );
    assert!(head.ends_with("hello"), "{head}");

    let g4 = daemon.host("g4", "http_request", &request("GET", &outside.url("/")));
    assert_eq!(
        (&g4["result"]["status"], &g4["result"]["body"]),
        (&plain["status"], &plain["body"])
    );
    assert_eq!(g4["result"]["headers"]["x-brew"], "green", "{g4}");
    assert!(!proxy.was_reached());
}

#[test]
fn what_is_not_granted_is_refused_before_it_is_reached() {
    if !super::can_run() {
        return;
    }
    let outside = Outside::start("127.0.0.2");
    let port = outside.address.port();
    let daemon = Setup::new()
        .plugin_asking("plain", "goatflow-g4", ASKS)
        .policy("plain", "")
        .plugin_asking("public", "goatflow-g4", ASKS)
        .policy("public", "[permissions]\nhttp = [{ hosts = ['*:*'] }]\n")
        .plugin("unasked", "goatflow-g4")
        .policy("unasked", "[permissions]\nhttp = [{ hosts = ['*:*'] }]\n")
        .plugin_asking("other", "goatflow-g4", ASKS)
        .policy(
            "other",
            "[permissions]\nhttp = [{ hosts = ['api.test', '*.example'] }]\n",
        )
        .start();
    let url = outside.url("/");
    for name in ["plain", "unasked"] {
        assert_eq!(
            daemon.refusal(name, "http_request", &request("GET", &url)),
            format!("plugin \"{name}\": HTTP outbound access not granted")
        );
    }
    assert_eq!(
        daemon.refusal("other", "http_request", &request("GET", &url)),
        format!(
            "plugin \"other\": HTTP access to {url:?} not permitted (allowed: [api.test *.example])"
        )
    );
    for host in [
        "127.0.0.2",
        "2130706434",
        "0x7f.2",
        "[::ffff:127.0.0.2]",
        "169.254.169.254",
    ] {
        let text = daemon.refusal(
            "public",
            "http_request",
            &request("GET", &format!("http://{host}:{port}/")),
        );
        assert!(
            text.starts_with("plugin \"public\": HTTP access to "),
            "{host}: {text}"
        );
        assert!(text.contains("not public"), "{host}: {text}");
    }
    let smuggled = daemon.refusal(
        "public",
        "http_request",
        &request("GET", "http://a:b@127.0.0.2/"),
    );
    assert_eq!(
        smuggled,
        "HTTP request failed: the URL has a user name or password"
    );
    assert!(!outside.was_reached());
}

#[test]
fn requests_have_a_rate_and_a_flood_of_them_costs_nobody_else() {
    if !super::can_run() {
        return;
    }
    let outside = Outside::start("127.0.0.2");
    let grant = format!(
        "[permissions]\nhttp = [{{ hosts = ['{}'], addresses = ['127.0.0.0/8'] }}]\n",
        outside.address
    );
    let daemon = Setup::new()
        .plugin_asking("slow", "goatflow-g4", ASKS)
        .policy(
            "slow",
            &format!("{grant}[rates]\nhttp-requests-per-minute = 3\n"),
        )
        .plugin_asking("usual", "goatflow-g4", ASKS)
        .policy("usual", &grant)
        .start();
    let many = json!({
        "method": "http_request", "args": request("GET", &outside.url("/")), "n": 500,
    });
    for (name, least, most) in [("slow", 1, 3), ("usual", 3, 70)] {
        let answered = daemon.result(name, "host_parallel", &many);
        let good = answered["good"].as_u64().unwrap();
        assert!((least..=most).contains(&good), "{name}: {answered}");
        assert_eq!(answered["failed"], 0, "{name}: {answered}");
        assert_eq!(answered["refused"], 500 - good, "{name}: {answered}");
    }
    let text = daemon.refusal("slow", "http_request", &request("GET", &outside.url("/")));
    assert_eq!(text, "plugin \"slow\": HTTP request rate limit exceeded");
    daemon.ready("usual");
}
