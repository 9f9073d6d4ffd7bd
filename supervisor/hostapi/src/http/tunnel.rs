//! Tunnels: bytes to and from a vetted address, which nobody looks into.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use http::uri::Authority;
use pinfold_policy::HttpTarget;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::config::HttpConfig;
use super::request::{Hop, parse_url};
use super::{HttpClient, HttpError, Places, connect, enter};
use crate::{Caller, HostError};

/// Tunnels of all plugins together: bounds memory and sockets.
const TUNNELS_AT_ONCE: usize = 256;

/// What is read at once in either direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// What a tunnel may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelLimits {
    per_plugin: usize,
    bytes: u64,
    idle: Duration,
    time: Duration,
}

impl TunnelLimits {
    pub(super) fn new(config: &HttpConfig) -> Self {
        Self {
            per_plugin: usize::try_from(config.tunnels_per_plugin).unwrap_or(usize::MAX),
            bytes: config.tunnel_limit.0,
            idle: config.tunnel_idle.0,
            time: config.tunnel_time.0,
        }
    }
}

/// A connection to where a tunnel leads. It has its places among the plugin's and all tunnels.
#[derive(Debug)]
pub(crate) struct Tunnel {
    upstream: TcpStream,
    limits: TunnelLimits,
    _places: Places,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TunnelEnd {
    /// Both sides had said all.
    Finished,
    /// One side's connection failed.
    Broken,
    /// Over its bytes.
    Bytes,
    /// Nothing passed for too long.
    Idle,
    /// Its time was over.
    Time,
}

impl TunnelEnd {
    /// The word in logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Broken => "broken",
            Self::Bytes => "over its bytes",
            Self::Idle => "idle",
            Self::Time => "over its time",
        }
    }
}

impl HttpClient {
    /// Connects to where a tunnel is to lead, if it may lead there. `subject` becomes that as soon as
    /// it is known.
    pub(crate) async fn tunnel(
        &self,
        caller: &Caller,
        authority: Option<&Authority>,
        subject: &mut String,
    ) -> Result<Tunnel, HostError> {
        let hop = connect_hop(authority)?;
        let target = hop.target()?;
        let place = place(&target);
        subject.push_str("CONNECT ");
        subject.push_str(&place);
        let target = HttpTarget {
            url: &place,
            ..target
        };
        let places = enter(
            "tunnels",
            (
                &caller.allowance.http_tunnels,
                self.tunnel_limits.per_plugin,
            ),
            (&self.tunnels, TUNNELS_AT_ONCE),
        )?;
        let connected = tokio::time::timeout(self.timeout, async {
            let vetted = self.vetted(caller, &target, &hop.host()?).await?;
            Ok::<_, HostError>(connect::tcp(vetted).await?)
        });
        let connected = connected.await;
        Ok(Tunnel {
            upstream: connected.unwrap_or_else(|_| Err(HttpError::Deadline.into()))?,
            limits: self.tunnel_limits,
            _places: places,
        })
    }
}

/// What a tunnel leads to, for records and refusals.
pub(super) fn place(target: &HttpTarget<'_>) -> String {
    format!("{}:{}", target.host, target.port)
}

/// Host and port of `CONNECT host:port`, read as those of a URL are: what is compared with the grants
/// is what is connected to.
pub(super) fn connect_hop(authority: Option<&Authority>) -> Result<Hop, HttpError> {
    let refuse = |why| Err(HttpError::Url { why });
    let Some(authority) = authority else {
        return refuse("of a tunnel is host:port");
    };
    if authority.port().is_none() {
        return refuse("of a tunnel has no port");
    }
    // The scheme whose own port a tunnel usually leads to.
    let url = parse_url(&format!("https://{authority}/"))?;
    Ok(Hop {
        method: Method::CONNECT,
        url,
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
    })
}

impl Tunnel {
    /// Passes bytes both ways until both sides have said all, or a limit is met; tells which, and how
    /// many bytes there were. Cancelling it ends both connections.
    pub(super) async fn carry(
        mut self,
        client: impl AsyncRead + AsyncWrite + Unpin,
    ) -> (TunnelEnd, u64) {
        let flow = Flow::new(self.limits);
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_server, mut to_server) = self.upstream.split();
        let both = async {
            tokio::try_join!(
                flow.pass(&mut from_client, &mut to_server),
                flow.pass(&mut from_server, &mut to_client),
            )
        };
        let end = tokio::select! {
            passed = both => match passed {
                Ok(_) => TunnelEnd::Finished,
                Err(Stop::Bytes) => TunnelEnd::Bytes,
                Err(Stop::Io) => TunnelEnd::Broken,
            },
            () = flow.idle() => TunnelEnd::Idle,
            () = tokio::time::sleep(self.limits.time) => TunnelEnd::Time,
        };
        (end, flow.bytes.load(Ordering::Relaxed))
    }
}

/// Why one direction stopped before its end.
enum Stop {
    Bytes,
    Io,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// What has passed so far, both ways.
struct Flow {
    limits: TunnelLimits,
    began: Instant,
    bytes: AtomicU64,
    /// When something last passed, in milliseconds after the beginning.
    last: AtomicU64,
}

impl Flow {
    fn new(limits: TunnelLimits) -> Self {
        Self {
            limits,
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    async fn pass(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Stop> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = from.read(&mut buffer).await?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
                to.shutdown().await?;
                return Ok(());
            };
            let more = u64::try_from(count).unwrap_or(u64::MAX);
            let before = self.bytes.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.limits.bytes {
                return Err(Stop::Bytes);
            }
            to.write_all(piece).await?;
            let now = self.began.elapsed().as_millis();
            let now = u64::try_from(now).unwrap_or(u64::MAX);
            self.last.store(now, Ordering::Relaxed);
        }
    }

    /// Returns once nothing has passed for as long as may be.
    async fn idle(&self) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let limit = self.began + last + self.limits.idle;
            if limit <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(limit).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<(String, u16, bool), HttpError> {
        let authority: Authority = text.parse().unwrap();
        let hop = connect_hop(Some(&authority))?;
        let target = hop.target()?;
        Ok((target.host.to_owned(), target.port, target.default_port))
    }

    #[test]
    fn a_tunnels_host_is_what_would_be_connected_to() {
        for (text, host, port, default_port) in [
            ("A.test:443", "a.test", 443, true),
            ("a.test:80", "a.test", 80, false),
            ("0x7f.1:443", "127.0.0.1", 443, true),
            ("2130706433:443", "127.0.0.1", 443, true),
            ("[::ffff:127.0.0.1]:443", "[::ffff:7f00:1]", 443, true),
            ("[::1]:8443", "[::1]", 8443, false),
        ] {
            let expected = (host.to_owned(), port, default_port);
            assert_eq!(place(text).unwrap(), expected, "{text}");
        }
        for text in [
            "a.test",
            "a.test:",
            "u@a.test:443",
            "a.test:0",
            "a.test:99999",
        ] {
            if let Ok(authority) = text.parse::<Authority>() {
                let refused = connect_hop(Some(&authority)).and_then(|hop| hop.port());
                assert!(refused.is_err(), "{text}");
            }
        }
        assert!(connect_hop(None).is_err());
    }
}
