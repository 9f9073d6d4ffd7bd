//! One HTTP request and its answer, for what is asked beside the load: the administration socket,
//! and which version of a plugin answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Longest wait for any byte of an answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Server {
    /// At an address.
    Tcp(SocketAddr),
    /// At a path.
    Unix(PathBuf),
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Server {
    /// Sends one request on a connection of its own, with a bearer token and with JSON where there
    /// is one.
    ///
    /// # Errors
    /// Where there is no whole answer with a length.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n");
        if let Some(token) = token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body.map(Value::to_string) {
            let length = body.len();
            request += "content-type: application/json\r\n";
            request += &format!("content-length: {length}\r\n\r\n{body}");
        } else {
            request += "\r\n";
        }
        let mut stream = self.connect().with_context(|| format!("{self:?}"))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            // A server may keep the connection all the same.
            if let Some(answer) = Answer::parse(&answer) {
                return Ok(answer);
            }
            let count = stream.read(&mut buffer)?;
            ensure!(
                count > 0,
                "no whole answer to {method} {path}: {:?}",
                String::from_utf8_lossy(&answer)
            );
            answer.extend(buffer.get(..count).unwrap_or_default());
        }
    }

    /// [`Self::send`] with nothing but a path.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, None, None)
    }

    /// [`Self::send`] with JSON.
    ///
    /// # Errors
    /// As there.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send("POST", path, None, Some(body))
    }

    fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(LIMIT))?;
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(LIMIT))?;
                Box::new(stream)
            }
        })
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = bytes.split_at_checked(end + 4)?;
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.trim().parse::<usize>().ok())?
        })?;
        let body = body.get(..length)?.to_vec();
        Some(Self { status, body })
    }

    /// The JSON of a 2xx.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn json(&self) -> anyhow::Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!(
            (200..300).contains(&self.status),
            "answered {}: {text}",
            self.status
        );
        serde_json::from_slice(&self.body).with_context(|| format!("answered {text:?}"))
    }
}
