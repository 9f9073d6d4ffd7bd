//! A client that sends exactly what it is told and reads HTTP/1.1 answers by hand.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One connection.
pub(crate) struct Client<T> {
    io: T,
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Text of a `{"error": text}` answer.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub(crate) fn new(io: T) -> Self {
        Self {
            io,
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request with this line, header lines and body, and reads the answer.
    pub(crate) async fn ask(&mut self, line: &str, headers: &[&str], body: &str) -> Reply {
        let mut text = format!("{line} HTTP/1.1\r\nhost: gateway\r\n");
        for header in headers {
            text += header;
            text += "\r\n";
        }
        if !body.is_empty() {
            text += &format!("content-length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += body;
        self.send(text).await;
        self.reply(line.starts_with("HEAD "))
            .await
            .expect("the connection is open")
    }

    /// Reads one answer; `None` where the connection has ended before its first byte.
    pub(crate) async fn reply(&mut self, without_body: bool) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await {
                assert!(self.read.is_empty(), "answer is cut: {:?}", self.read);
                return None;
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply {
            status,
            headers,
            body: String::new(),
        };
        let length: usize = reply
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        if !without_body && status != 304 {
            while self.read.len() < length {
                assert!(self.fill().await, "body is cut");
            }
            reply.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        }
        Some(reply)
    }

    /// Reads until this text has come, and gives what came by then.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        loop {
            let read = String::from_utf8_lossy(&self.read).into_owned();
            if read.contains(text) {
                return read;
            }
            assert!(self.fill().await, "ended without {text}: {read}");
        }
    }

    /// Waits until the other side has closed, dropping what comes before that.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await {}
    }

    async fn fill(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let count = self.io.read(&mut buffer).await.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..count]);
        count > 0
    }
}
