//! A client that sends what it is told and reads one answer, over TCP or a Unix socket. No library:
//! some of these requests no library would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(super) enum Server {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Server {
    /// A connection whose reads and writes fail after [`pinfold_tests::LIMIT`].
    pub(super) fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let limit = Some(pinfold_tests::LIMIT);
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)?;
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)?;
                Box::new(stream)
            }
        })
    }

    pub(super) fn get(&self, path: &str) -> Request<'_> {
        self.request("GET", path)
    }

    pub(super) fn post(&self, path: &str) -> Request<'_> {
        self.request("POST", path)
    }

    pub(super) fn request(&self, method: &str, path: &str) -> Request<'_> {
        Request {
            server: self,
            head: format!("{method} {path} HTTP/1.1\r\nhost: pinfold\r\nconnection: close\r\n"),
            body: Vec::new(),
            is_chunked: false,
        }
    }
}

/// Either kind of socket.
pub(super) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// One request on a connection of its own.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    server: &'a Server,
    head: String,
    body: Vec<u8>,
    is_chunked: bool,
}

impl Request<'_> {
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    pub(super) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(super) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    pub(super) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sends the body in chunks of at most 1000 bytes, without its length.
    pub(super) fn chunked(mut self) -> Self {
        self.is_chunked = true;
        self
    }

    pub(super) fn send(self) -> Answer {
        let what = self.head.lines().next().unwrap_or_default().to_owned();
        self.try_send()
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Fails where the connection does.
    pub(super) fn try_send(self) -> io::Result<Answer> {
        let mut stream = self.server.connect()?;
        let mut text = self.head.into_bytes();
        if self.is_chunked {
            text.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in self.body.chunks(1000) {
                text.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
        } else {
            if !self.body.is_empty() {
                text.extend(format!("content-length: {}\r\n", self.body.len()).into_bytes());
            }
            text.extend(b"\r\n");
            text.extend(self.body);
        }
        let sent = stream.write_all(&text);
        // A server may answer before it has read everything: the answer counts.
        let mut answer = Vec::new();
        let received = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            sent?;
            received?;
        }
        Answer::parse(&answer).ok_or_else(|| {
            let text = String::from_utf8_lossy(&answer).into_owned();
            io::Error::other(format!("no whole answer: {text:?}"))
        })
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(": ")?;
                Some((name.to_ascii_lowercase(), value.to_owned()))
            })
            .collect::<Option<Vec<_>>>()?;
        let answer = Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        };
        let length = answer.header("content-length").map(str::parse::<usize>);
        let is_whole = length.is_none_or(|length| length == Ok(answer.body.len()));
        is_whole.then_some(answer)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the text of `{"error": text}`.
    pub(super) fn error(&self) -> (u16, String) {
        let text = self.json()["error"].as_str().map(str::to_owned);
        (self.status, text.unwrap_or_else(|| panic!("{self:?}")))
    }

    /// The JSON of a 200.
    #[track_caller]
    pub(super) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}
