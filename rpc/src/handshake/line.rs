//! The handshake line itself.
use std::fmt;

use super::base64;
use super::certificate;

/// The only version of go-plugin's own protocol.
pub const CORE_VERSION: i64 = 1;
/// A sixth field up to this length, in bytes, is no certificate: old libraries put other things there.
const NO_CERTIFICATE: usize = 50;
/// Bytes of a plugin's output that an error repeats.
const QUOTED: usize = 120;

/// Where a plugin listens. It is the plugin's word: check it before connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Path of a Unix stream socket as printed; may be empty, relative, or abstract (leading `@`).
    Unix {
        /// The path.
        path: String,
    },
    /// A TCP port.
    Tcp {
        /// Name or address without brackets; empty means this machine.
        host: String,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path } => f.write_str(path),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// How calls are made on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Go's net/rpc over yamux.
    NetRpc,
    /// gRPC.
    Grpc,
}

impl Protocol {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "netrpc" => Some(Self::NetRpc),
            "grpc" => Some(Self::Grpc),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetRpc => "netrpc",
            Self::Grpc => "grpc",
        })
    }
}

/// What the host can work with.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Application protocol versions that the host knows.
    pub versions: Vec<i64>,
    /// Protocols that the host allows.
    pub protocols: Vec<Protocol>,
    /// The host has sent a certificate and wants the plugin's.
    pub certificate: bool,
    /// The host wants gRPC brokering over one connection; asked of gRPC plugins only.
    pub multiplex: bool,
}

impl Expectation {
    /// net/rpc alone, without certificate: what go-plugin's host expects by default.
    pub fn net_rpc(versions: impl Into<Vec<i64>>) -> Self {
        let protocols = vec![Protocol::NetRpc];
        Self {
            versions: versions.into(),
            protocols,
            certificate: false,
            multiplex: false,
        }
    }
}

/// A line that the host can work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeLine {
    /// Application protocol version that the plugin chose.
    pub version: i64,
    /// Where it listens.
    pub address: Address,
    /// How to talk to it.
    pub protocol: Protocol,
    /// Its certificate in DER, when the host asked for one and the plugin sent one.
    pub certificate: Option<Vec<u8>>,
    /// It brokers gRPC over one connection, as the host asked.
    pub multiplex: bool,
}

/// Why a first line is no handshake, or not one that the host can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Fewer than four fields: something else was printed first, or the program is no plugin.
    #[error("first line of output is no handshake: {line:?}")]
    Unrecognised {
        /// The line's beginning.
        line: String,
    },
    /// The first field is no number.
    #[error("core protocol version {text:?} is no number")]
    CoreVersionSyntax {
        /// The field.
        text: String,
    },
    /// Another generation of go-plugin.
    #[error("core protocol version {version} is not supported, only {CORE_VERSION}")]
    CoreVersion {
        /// The plugin's version.
        version: i64,
    },
    /// The second field is no number.
    #[error("application protocol version {text:?} is no number")]
    VersionSyntax {
        /// The field.
        text: String,
    },
    /// The plugin has none of the host's versions.
    #[error("application protocol version {version} is not one of {supported:?}")]
    Version {
        /// The plugin's version.
        version: i64,
        /// The host's.
        supported: Vec<i64>,
    },
    /// Neither `unix` nor `tcp`.
    #[error("unknown network {network:?}")]
    Network {
        /// The field.
        network: String,
    },
    /// A TCP address without a usable port.
    #[error("invalid tcp address {address:?}")]
    TcpAddress {
        /// The field.
        address: String,
    },
    /// The host does not allow the protocol, or does not know it.
    #[error("protocol {protocol:?} is not allowed")]
    Protocol {
        /// The field.
        protocol: String,
    },
    /// The sixth field is no unpadded standard base64.
    #[error("certificate is not base64 at byte {offset}")]
    CertificateEncoding {
        /// Offset in the field.
        offset: usize,
    },
    /// The sixth field holds no certificate.
    #[error("certificate is malformed")]
    CertificateForm,
    /// The plugin sent a certificate though nobody asked: it wants TLS, the host does not.
    #[error("plugin sent a certificate that was not asked for")]
    UnsolicitedCertificate,
    /// The seventh field is no boolean.
    #[error("multiplexing flag {text:?} is no boolean")]
    MultiplexSyntax {
        /// The field.
        text: String,
    },
    /// The plugin cannot broker gRPC over one connection.
    #[error("plugin does not support multiplexing")]
    MultiplexUnsupported,
}

impl HandshakeLine {
    /// Reads a line, without its end, and holds it against what the host can work with.
    ///
    /// White space around the line is ignored, around fields it is not. Names of hosts are not resolved.
    pub fn parse(line: &[u8], expectation: &Expectation) -> Result<Self, HandshakeError> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let mut fields = line.split('|');
        let mut mandatory = || fields.next().ok_or_else(|| unrecognised(line));
        let (core, version, network, address) =
            (mandatory()?, mandatory()?, mandatory()?, mandatory()?);

        let core =
            number(core).ok_or_else(|| HandshakeError::CoreVersionSyntax { text: quote(core) })?;
        if core != CORE_VERSION {
            return Err(HandshakeError::CoreVersion { version: core });
        }
        let version = number(version).ok_or_else(|| HandshakeError::VersionSyntax {
            text: quote(version),
        })?;
        if !expectation.versions.contains(&version) {
            let supported = expectation.versions.clone();
            return Err(HandshakeError::Version { version, supported });
        }
        let address = parse_address(network, address)?;
        let protocol = match fields.next() {
            None => "netrpc",
            Some(text) => text,
        };
        let protocol = Protocol::parse(protocol)
            .filter(|protocol| expectation.protocols.contains(protocol))
            .ok_or_else(|| HandshakeError::Protocol {
                protocol: quote(protocol),
            })?;
        let certificate = parse_certificate(fields.next(), expectation.certificate)?;
        let multiplex = match protocol {
            Protocol::Grpc if expectation.multiplex => parse_multiplex(fields.next())?,
            _ => false,
        };
        Ok(Self {
            version,
            address,
            protocol,
            certificate,
            multiplex,
        })
    }
}

fn unrecognised(line: &str) -> HandshakeError {
    HandshakeError::Unrecognised { line: quote(line) }
}

/// What an error may repeat of a plugin's words.
fn quote(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

/// Decimal digits with an optional sign, as Go's strconv.Atoi reads them.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn parse_address(network: &str, address: &str) -> Result<Address, HandshakeError> {
    match network {
        "unix" => Ok(Address::Unix {
            path: address.to_owned(),
        }),
        "tcp" => parse_tcp(address).ok_or_else(|| HandshakeError::TcpAddress {
            address: quote(address),
        }),
        network => Err(HandshakeError::Network {
            network: quote(network),
        }),
    }
}

fn parse_tcp(address: &str) -> Option<Address> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    // u16's own parser would take a sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits)?;
    Some(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

fn parse_certificate(field: Option<&str>, wanted: bool) -> Result<Option<Vec<u8>>, HandshakeError> {
    let Some(text) = field.filter(|text| text.len() > NO_CERTIFICATE) else {
        return Ok(None);
    };
    if !wanted {
        return Err(HandshakeError::UnsolicitedCertificate);
    }
    let der = base64::decode_unpadded(text.as_bytes())
        .map_err(|offset| HandshakeError::CertificateEncoding { offset })?;
    if !certificate::is_certificate(&der) {
        return Err(HandshakeError::CertificateForm);
    }
    Ok(Some(der))
}

/// The spellings that Go's strconv.ParseBool takes.
fn parse_multiplex(field: Option<&str>) -> Result<bool, HandshakeError> {
    match field {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => {
            Err(HandshakeError::MultiplexUnsupported)
        }
        Some(text) => Err(HandshakeError::MultiplexSyntax { text: quote(text) }),
    }
}
