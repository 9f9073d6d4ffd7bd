//! A connection to an address that was vetted, and to no other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::HttpError;
use super::request::Hop;
use super::tls::Tls;

/// What requests and replies travel on.
pub(super) type Stream = Box<dyn ReadWrite>;

/// Both directions.
pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for S {}

/// How long one address has while there are others.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// Connects to the first of `addresses` that answers, and speaks TLS with `hop`'s host where its
/// scheme says so. The name is not looked up again.
pub(super) async fn connect(
    addresses: Vec<SocketAddr>,
    hop: &Hop,
    tls: &Tls,
) -> Result<Stream, HttpError> {
    secure(tcp(addresses).await?, hop, tls).await
}

/// Connects to the first of `addresses` that answers.
pub(super) async fn tcp(addresses: Vec<SocketAddr>) -> Result<TcpStream, HttpError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let count = addresses.len();
    for (at, address) in addresses.into_iter().enumerate() {
        let attempt = TcpStream::connect(address);
        let outcome = if at + 1 == count {
            attempt.await
        } else {
            tokio::time::timeout(ATTEMPT_LIMIT, attempt)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match outcome {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap_or_default();
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(HttpError::Connect { kind: last.kind() })
}

async fn secure(stream: TcpStream, hop: &Hop, tls: &Tls) -> Result<Stream, HttpError> {
    if hop.url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let name = match hop.host()? {
        Host::Domain(name) => {
            ServerName::try_from(name.to_owned()).map_err(|_| HttpError::Tls {
                reason: "the host's name can be in no certificate".into(),
            })?
        }
        Host::Ipv4(address) => ServerName::IpAddress(IpAddr::V4(address).into()),
        Host::Ipv6(address) => ServerName::IpAddress(IpAddr::V6(address).into()),
    };
    let connected = TlsConnector::from(tls.client().await?)
        .connect(name, stream)
        .await;
    match connected {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(HttpError::Tls {
            reason: tls_reason(&error),
        }),
    }
}

/// The innermost cause: that a certificate is not trusted, say.
fn tls_reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, HostError};

    /// errno(3): the same number on every architecture of Linux.
    const EPERM: i32 = 1;

    #[test]
    fn a_way_that_this_machine_closes_is_the_operators_to_open() {
        // What connect(2) gives where this machine forbids the connection itself.
        let kind = io::Error::from_raw_os_error(EPERM).kind();
        let error = HostError::from(HttpError::Connect { kind });
        assert_eq!(error.fault(), Fault::Operator);
        assert_eq!(error.code(), "hostapi.http.connect");
        assert!(
            error.chain().contains("`pinfold doctor`"),
            "{}",
            error.chain()
        );
        let refused = HttpError::Connect {
            kind: io::ErrorKind::ConnectionRefused,
        };
        assert_eq!(refused.to_string(), "cannot connect: connection refused");
        assert_eq!(HostError::from(refused).fault(), Fault::Upstream);
    }
}
