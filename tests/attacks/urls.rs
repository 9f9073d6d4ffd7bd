//! Requests to the host itself, spelled oddly, by redirect, and by a name that changes: through the
//! broker, and by a client that looks at nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pinfold_tests::stretched;
use serde_json::json;

use super::attempt::{Attempt, Seen};
use super::bait::{Bait, TRUDY, own_address};
use super::{Daemon, Results};

/// The one address at which the server may be reached.
const GRANTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A client that looks a name up, is content with what it finds, and then connects to the name.
const CHECK_THEN_CONNECT: &str = "mount --bind \"$0\" /etc/resolv.conf
    exec < /dev/null; getent ahostsv4 \"$1\" | grep -q 127.0.0.3 || exit 1
    exec 3<>\"/dev/tcp/$1/$2\" && printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3 && read -r -t 5 _ <&3";

/// A server at every address of this machine. It ends with the test's process.
struct Victim {
    port: u16,
    reached: Arc<AtomicUsize>,
}

impl Victim {
    fn start() -> Self {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let victim = Self {
            port: listener.local_addr().unwrap().port(),
            reached: Arc::default(),
        };
        let reached = Arc::clone(&victim.reached);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &reached);
            }
        });
        victim
    }

    /// How often somebody came by another address than the granted one.
    fn count(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

fn answer(stream: TcpStream, reached: &AtomicUsize) {
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    if stream.local_addr().unwrap().ip().to_canonical() != GRANTED {
        reached.fetch_add(1, Ordering::SeqCst);
    }
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.find(String::is_empty);
    let path = first.split(' ').nth(1).unwrap_or_default();
    let head = match path.strip_prefix("/to/") {
        Some(to) => format!("302 Found\r\nLocation: {to}"),
        None => "200 OK".to_owned(),
    };
    let reply = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    (&stream).write_all(reply.as_bytes()).ok();
}

pub(super) fn run(daemon: &Daemon, bait: &Bait, attempts: &[&Attempt]) -> Results {
    let victim = Victim::start();
    let mut results = Results::new();
    for attempt in attempts {
        let (inside, outside) = match attempt.id {
            "url-rebinding" => rebinding(daemon, bait, &victim, attempt),
            _ => {
                let url = url(attempt, &victim, "");
                (
                    through_broker(daemon, &victim, &url),
                    plainly(&victim, &url),
                )
            }
        };
        results.insert(attempt.id, Seen { inside, outside });
    }
    results
}

/// The URL that an attempt is described by.
fn url(attempt: &Attempt, victim: &Victim, side: &str) -> String {
    let url = attempt.tries.split('`').nth(1).unwrap();
    url.replace("{port}", &victim.port.to_string())
        .replace("{address}", &own_address())
        .replace("{side}", side)
}

fn through_broker(daemon: &Daemon, victim: &Victim, url: &str) -> String {
    let before = victim.count();
    let request = json!({"method": "GET", "url": url, "headers": null, "body": null});
    let answer = daemon.host(TRUDY, "http_request", &request);
    match answer["error"].as_str() {
        _ if victim.count() != before => "ok".to_owned(),
        Some(refusal) if !refusal.is_empty() => refusal.to_owned(),
        _ => "the granted address alone was reached".to_owned(),
    }
}

/// A granted address at the first look-up, and the host's own afterwards.
fn rebinding(daemon: &Daemon, bait: &Bait, victim: &Victim, attempt: &Attempt) -> (String, String) {
    let url_inside = url(attempt, victim, "inside");
    let first = through_broker(daemon, victim, &url_inside);
    let inside = match first.as_str() {
        "ok" => first,
        _ => through_broker(daemon, victim, &url_inside),
    };
    let before = victim.count();
    let [program, arguments @ ..] = bait.with_names(CHECK_THEN_CONNECT);
    let ended = Command::new(program)
        .args(arguments)
        .args(["rebind-outside.test", &victim.port.to_string()])
        .output()
        .unwrap();
    let outside = match victim.count() != before {
        true => "ok".to_owned(),
        false => String::from_utf8_lossy(&ended.stderr).into_owned(),
    };
    (inside, outside)
}

/// What comes of it for a client that goes wherever it is sent.
fn plainly(victim: &Victim, url: &str) -> String {
    let before = victim.count();
    let outcome = get(url);
    match outcome {
        _ if victim.count() != before => "ok".to_owned(),
        Ok(()) => "nothing came of it".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn get(url: &str) -> std::io::Result<()> {
    let mut url = url.to_owned();
    for _ in 0..3 {
        let (host, path) = url["http://".len()..].split_once('/').unwrap();
        let host = host.rsplit('@').next().unwrap();
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().unwrap()),
            _ => (host, 80),
        };
        let name = name.trim_matches(['[', ']']);
        let address = (name, port).to_socket_addrs()?.next();
        let address = address.ok_or(std::io::ErrorKind::NotFound)?;
        let patience = stretched(1);
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        match lines.find_map(|line| line.strip_prefix("Location: ").map(str::to_owned)) {
            Some(to) => url = to,
            None => return Ok(()),
        }
    }
    Ok(())
}
