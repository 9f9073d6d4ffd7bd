//! `[hostapi.http]`: limits, and which certificates are trusted.

use std::path::PathBuf;
use std::sync::Arc;

use pinfold_policy::{ByteSize, Span};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::CertificateResult;
use serde::{Deserialize, Serialize};

/// Outgoing HTTP, for all plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Longest time for a request with all its redirects; the call's own deadline may be earlier.
    pub timeout: Span,
    /// Largest body that is sent.
    pub request_limit: ByteSize,
    /// Largest body that is given back.
    pub response_limit: ByteSize,
    /// Requests that one plugin may have under way.
    pub in_flight_per_plugin: u32,
    /// Tunnels (`CONNECT`) that one plugin may have.
    pub tunnels_per_plugin: u32,
    /// Longest time for which nothing may pass through a tunnel.
    pub tunnel_idle: Span,
    /// Longest life of a tunnel.
    pub tunnel_time: Span,
    /// Most bytes that pass through a tunnel, both ways together.
    pub tunnel_limit: ByteSize,
    /// Which certification authorities are trusted.
    pub roots: Roots,
    /// A file of further ones, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_roots: Option<PathBuf>,
}

/// Which certification authorities are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Roots {
    /// Those of the system; where it has none, Mozilla's as they were when this was built.
    #[default]
    System,
    /// Mozilla's as they were when this was built.
    Bundled,
    /// None but those of `extra-roots`.
    None,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            timeout: Span::seconds(30),
            request_limit: ByteSize::mebibytes(4),
            response_limit: ByteSize::mebibytes(4),
            in_flight_per_plugin: 16,
            tunnels_per_plugin: 16,
            tunnel_idle: Span::seconds(60),
            tunnel_time: Span::seconds(600),
            tunnel_limit: ByteSize::mebibytes(64),
            roots: Roots::System,
            extra_roots: None,
        }
    }
}

/// Why outgoing HTTP cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpSetupError {
    /// The file of further certification authorities cannot be used.
    #[error("hostapi.http.extra-roots: {}", .path.display())]
    ExtraRoots {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RootsError,
    },
    /// The system's certification authorities cannot be used, so that what it trusts is not known.
    #[error("the certification authorities that this system trusts cannot be read")]
    SystemRoots {
        /// The first error, where reading brought one; without one none that was read is usable.
        source: Option<rustls_native_certs::Error>,
    },
    /// TLS itself.
    #[error("set up TLS for outgoing HTTP")]
    Tls(#[source] rustls::Error),
}

/// What is wrong with a file of certification authorities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// It cannot be read, or is no PEM.
    #[error("not a readable PEM file")]
    Pem(#[source] pem::Error),
    /// A certificate in it.
    #[error("certificate {number} is refused")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// Why.
        source: rustls::Error,
    },
    /// Nothing in it.
    #[error("it has no certificate")]
    Empty,
}

/// How TLS is spoken, and what of it was left out.
#[derive(Debug)]
pub(super) struct SetUp {
    pub(super) client: Arc<ClientConfig>,
    /// What the system trusts and could not be read: without it the client trusts less than it should.
    pub(super) unread: Option<Unread>,
}

/// Authorities of the system's that could not be read.
#[derive(Debug)]
pub(super) struct Unread {
    /// Files and directories.
    pub(super) count: usize,
    /// What was the matter with the first; its text has the cause.
    pub(super) first: rustls_native_certs::Error,
}

impl Unread {
    fn of(errors: Vec<rustls_native_certs::Error>) -> Option<Self> {
        let count = errors.len();
        let first = errors.into_iter().next()?;
        Some(Self { count, first })
    }
}

/// How TLS is spoken: certificates checked against the roots, TLS 1.2 and 1.3, no client
/// certificate, nothing that the environment could change.
pub(super) fn tls(config: &HttpConfig) -> Result<SetUp, HttpSetupError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.extra_roots {
        add_file(&mut roots, path).map_err(|source| HttpSetupError::ExtraRoots {
            path: path.clone(),
            source,
        })?;
    }
    let unread = match config.roots {
        Roots::System => add_system(&mut roots, rustls_native_certs::load_native_certs())?,
        Roots::Bundled => {
            add_bundled(&mut roots);
            None
        }
        Roots::None => None,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HttpSetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(SetUp {
        client: Arc::new(client),
        unread,
    })
}

/// Those of the system; the bundled ones where it has none. Where that cannot be told none are added: an operator may
/// have taken authorities out of the system's that are among the bundled.
fn add_system(
    roots: &mut RootCertStore,
    found: CertificateResult,
) -> Result<Option<Unread>, HttpSetupError> {
    if found.certs.is_empty() && found.errors.is_empty() {
        tracing::info!("no system certificates, bundled ones used for outgoing HTTP");
        add_bundled(roots);
        return Ok(None);
    }
    match roots.add_parsable_certificates(found.certs) {
        (0, _) => Err(HttpSetupError::SystemRoots {
            source: found.errors.into_iter().next(),
        }),
        _ => Ok(Unread::of(found.errors)),
    }
}

fn add_bundled(roots: &mut RootCertStore) {
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
}

fn add_file(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), RootsError> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(RootsError::Pem)?;
    let mut number = 0;
    for certificate in certificates {
        number += 1;
        roots
            .add(certificate.map_err(RootsError::Pem)?)
            .map_err(|source| RootsError::Certificate { number, source })?;
    }
    if number == 0 {
        return Err(RootsError::Empty);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn added(found: CertificateResult) -> Result<usize, HttpSetupError> {
        let mut roots = RootCertStore::empty();
        add_system(&mut roots, found).map(|_| roots.len())
    }

    #[test]
    fn what_could_not_be_read_beside_what_could_is_told() {
        let absent = Path::new("/nonexistent/roots.pem");
        let mut found = rustls_native_certs::load_certs_from_paths(Some(absent), None);
        let generated = rcgen::generate_simple_self_signed(["a".into()]).unwrap();
        found.certs.push(generated.cert.der().clone());
        let mut roots = RootCertStore::empty();
        let unread = add_system(&mut roots, found).unwrap().unwrap();
        assert_eq!((roots.len(), unread.count), (1, 1));
        assert!(unread.first.to_string().contains("/nonexistent/roots.pem"));
    }

    #[test]
    fn bundled_authorities_stand_in_for_a_system_without_any_and_not_for_one_that_cannot_be_read() {
        let none = CertificateResult::default();
        assert_eq!(added(none).unwrap(), webpki_roots::TLS_SERVER_ROOTS.len());
        let absent = Path::new("/nonexistent/roots.pem");
        let unreadable = rustls_native_certs::load_certs_from_paths(Some(absent), None);
        let refused = added(unreadable).unwrap_err();
        assert!(
            matches!(refused, HttpSetupError::SystemRoots { source: Some(_) }),
            "{refused:?}"
        );
        let mut unusable = CertificateResult::default();
        unusable.certs.push(CertificateDer::from(vec![1, 2, 3]));
        let refused = added(unusable).unwrap_err();
        assert!(
            matches!(refused, HttpSetupError::SystemRoots { source: None }),
            "{refused:?}"
        );
    }
}
