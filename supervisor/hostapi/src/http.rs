//! Outgoing HTTP: to granted hosts, at addresses that were vetted after they were looked up.
//!
//! A request is parsed once; its host, port, method and path are compared with the grants; its host is
//! looked up and every address vetted; and the connection goes to one of those addresses, so that a
//! name cannot be one thing when it is checked and another when it is used. Each redirect goes
//! through all of it again. Nothing in the environment, proxies among it, changes where a request
//! goes.
//!
//! There are two ways here: a host call, and [`serve_proxy`] for programs that speak HTTP by
//! themselves. Both ask the same permissions, vet the same addresses and draw on the same rates.

mod address;
mod config;
mod connect;
mod exchange;
mod forward;
mod proxy;
mod redirect;
mod request;
mod resolve;
mod tls;
mod tunnel;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use pinfold_policy::{Effective, HttpTarget, Refusal};
use url::Host;

pub use config::{HttpConfig, HttpSetupError, Roots, RootsError};
pub(crate) use forward::Forwarded;
pub use proxy::serve_proxy;
pub(crate) use redirect::REDIRECT_LIMIT;
pub use request::{HEADER_LIMIT, HEADERS_LIMIT_BYTES, HttpRequest, HttpResponse, URL_LIMIT_BYTES};
pub(crate) use resolve::LOOKUPS_PER_PLUGIN;
pub use resolve::{LookupPlace, Resolve, SystemResolver};
pub(crate) use tunnel::Tunnel;

use self::request::{Hop, is_of_connection};
use self::tls::Tls;
use self::tunnel::TunnelLimits;
use crate::audit::LEADS_TO;
use crate::under_way::{OwnedPlace, UnderWay};
use crate::{Caller, HostError, Permitted};

/// Requests of all plugins together: bounds memory and sockets.
const REQUESTS_AT_ONCE: usize = 256;

/// How many places a plugin may hold and be given another, where three quarters of all are taken: sixteen
/// plugins that come late have as many each.
const OF_THE_LAST: usize = 4;

/// Outgoing HTTP for plugins.
pub struct HttpClient {
    tls: Tls,
    resolver: Arc<dyn Resolve>,
    timeout: Duration,
    request_limit: usize,
    response_limit: usize,
    per_plugin: usize,
    under_way: Arc<UnderWay>,
    tunnel_limits: TunnelLimits,
    tunnels: Arc<UnderWay>,
}

/// A request's places among its plugin's and among all.
type Places = (OwnedPlace, OwnedPlace);

/// Why a request that was permitted gave no response. The text may be shown to the plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL.
    #[error("the URL {why}")]
    Url {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The method.
    #[error("the method {method:?} is not sent")]
    Method {
        /// The method, cut.
        method: String,
    },
    /// The request's body ended early.
    #[error("the body of the request did not arrive")]
    Body,
    /// A header line.
    #[error("the header {name:?} has an invalid name or value")]
    Header {
        /// Its name, cut.
        name: String,
    },
    /// The host's name has no address, or cannot be looked up.
    #[error("the host is not found")]
    NotFound,
    /// No connection. Where this machine forbids it, by a firewall of its own say, it is
    /// `PermissionDenied`.
    #[error("cannot connect: {}", connect_reason(*.kind))]
    Connect {
        /// Why not.
        kind: io::ErrorKind,
    },
    /// No TLS.
    #[error("TLS failed: {reason}")]
    Tls {
        /// Why not.
        reason: String,
    },
    /// The connection ended before the response did.
    #[error("the connection ended before the response")]
    Interrupted,
    /// What came is no HTTP response, or its header is too large.
    #[error("the response is not usable HTTP")]
    Response,
    /// The time limit or the call's deadline.
    #[error("deadline exceeded")]
    Deadline,
    /// More redirects than are followed.
    #[error("stopped after {REDIRECT_LIMIT} redirects")]
    Redirects,
    /// No request is left of the rate for where a redirect leads.
    #[error("a redirect leads on, and the requests of this minute are used up")]
    RedirectRate,
    /// A redirect to something that is no URL.
    #[error("a redirect leads to no URL")]
    Location,
    /// A redirect from `https` to `http`.
    #[error("a redirect leads from https to http")]
    Downgrade,
}

/// Why there is no connection. That it is not the server's doing, the plugin's author is to know too.
fn connect_reason(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "the host's own firewall, or the unit of pinfoldd, lets \
             it reach no such address (`pinfold doctor` says how the operator opens it)"
                .into()
        }
        kind => kind.to_string(),
    }
}

impl HttpError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Url { .. } | Self::Method { .. } | Self::Body | Self::Header { .. } => {
                "hostapi.http.request"
            }
            Self::NotFound => "hostapi.http.not-found",
            Self::Connect { .. } => "hostapi.http.connect",
            Self::Tls { .. } => "hostapi.http.tls",
            Self::Interrupted | Self::Response => "hostapi.http.response",
            Self::Deadline => "hostapi.http.deadline",
            Self::Redirects | Self::RedirectRate | Self::Location | Self::Downgrade => {
                "hostapi.http.redirect"
            }
        }
    }

    /// Whether the operator's configuration is in the way.
    pub(crate) const fn is_of_operator(&self) -> bool {
        matches!(
            self,
            Self::Connect {
                kind: io::ErrorKind::PermissionDenied
            }
        )
    }

    /// Whether it is the plugin's own doing.
    pub(crate) const fn is_of_plugin(&self) -> bool {
        matches!(
            self,
            Self::Url { .. } | Self::Method { .. } | Self::Body | Self::Header { .. }
        )
    }
}

impl HttpClient {
    /// A client that looks names up as the system does.
    ///
    /// # Errors
    /// [`HttpSetupError`] where the file of further certificates cannot be used.
    pub fn new(config: &HttpConfig) -> Result<Self, HttpSetupError> {
        Self::with_resolver(config, Arc::new(SystemResolver::default()))
    }

    /// A client that looks names up by `resolver`.
    ///
    /// # Errors
    /// [`HttpSetupError`] where the file of further certificates cannot be used.
    pub fn with_resolver(
        config: &HttpConfig,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, HttpSetupError> {
        let bytes = |size: pinfold_policy::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        Ok(Self {
            tls: Tls::new(config)?,
            resolver,
            timeout: config.timeout.0,
            request_limit: bytes(config.request_limit),
            response_limit: bytes(config.response_limit),
            per_plugin: usize::try_from(config.in_flight_per_plugin).unwrap_or(usize::MAX),
            under_way: Arc::default(),
            tunnel_limits: TunnelLimits::new(config),
            tunnels: Arc::default(),
        })
    }

    /// Longest time for one request.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Carries one request out, redirects followed. `subject` becomes where it goes as soon as that
    /// is known.
    pub(crate) async fn run(
        &self,
        caller: &Caller,
        request: HttpRequest,
        deadline: Instant,
        subject: &mut String,
    ) -> Result<HttpResponse, HostError> {
        let hop = Hop::parse(request, self.request_limit)?;
        subject.push_str(&hop.described());
        let _places = self.places(caller)?;
        let deadline = deadline.min(Instant::now() + self.timeout);
        tokio::time::timeout_at(deadline.into(), self.follow(caller, hop, subject))
            .await
            .unwrap_or_else(|_| Err(HttpError::Deadline.into()))
    }

    /// A request's places, if there are any.
    fn places(&self, caller: &Caller) -> Result<Places, HostError> {
        enter(
            "HTTP requests",
            (&caller.allowance.http_requests, self.per_plugin),
            (&self.under_way, REQUESTS_AT_ONCE),
        )
    }

    async fn follow(
        &self,
        caller: &Caller,
        mut hop: Hop,
        subject: &mut String,
    ) -> Result<HttpResponse, HostError> {
        for _ in 0..=REDIRECT_LIMIT {
            let stream = self.reach(caller, &hop).await?;
            let leads_on = |response: &http::Response<_>| {
                !matches!(
                    redirect::next(&hop, response.status(), response.headers()),
                    Ok(None)
                )
            };
            let (head, body) = exchange::exchange(stream, &hop, self.response_limit, |response| {
                !leads_on(response)
            })
            .await?;
            match redirect::next(&hop, head.status, &head.headers)? {
                None => {
                    return Ok(HttpResponse {
                        status: head.status.as_u16(),
                        headers: lines(&head.headers),
                        body,
                    });
                }
                Some(next) => hop = next,
            }
            // A server could otherwise have ten requests made for each one that is counted.
            // Waiting is no answer: what was asked for first has been done.
            caller
                .allowance
                .meters
                .draw_request()
                .map_err(|_| HttpError::RedirectRate)?;
            subject.push_str(LEADS_TO);
            subject.push_str(&hop.described());
        }
        Err(HttpError::Redirects.into())
    }

    /// A connection to where `hop` goes, if it may go there.
    async fn reach(&self, caller: &Caller, hop: &Hop) -> Result<connect::Stream, HostError> {
        let vetted = self.vetted(caller, &hop.target()?, &hop.host()?).await?;
        Ok(connect::connect(vetted, hop, &self.tls).await?)
    }

    /// Where `target` is, at addresses that may be connected to.
    async fn vetted(
        &self,
        caller: &Caller,
        target: &HttpTarget<'_>,
        host: &Host<&str>,
    ) -> Result<Vec<SocketAddr>, HostError> {
        let granted = caller.permissions.http_target(target)?;
        let found = resolve::addresses(self.resolver.as_ref(), host, &caller.allowance.lookups)
            .await
            .map_err(|_| HttpError::NotFound)?;
        let first = *found.first().ok_or(HttpError::NotFound)?;
        let vetted: Vec<SocketAddr> = found
            .into_iter()
            .filter(|address| address::is_permitted(*address, &granted))
            .map(|address| SocketAddr::new(address, target.port))
            .collect();
        if vetted.is_empty() {
            return Err(Refusal::HttpAddress {
                url: target.url.to_owned(),
                address: first.to_string(),
            }
            .into());
        }
        Ok(vetted)
    }
}

/// Whether a request may be sent, as far as that is known before its host is looked up.
pub(crate) fn permitted(
    permissions: &Effective,
    request: HttpRequest,
) -> Result<Permitted, HostError> {
    let hop = Hop::parse(request, usize::MAX)?;
    let target = hop.target()?;
    permitted_target(permissions, &target, hop.host()?)
}

/// The same of a tunnel, from the `host:port` that a client asks its proxy for.
pub(crate) fn permitted_tunnel(
    permissions: &Effective,
    authority: &str,
) -> Result<Permitted, HostError> {
    permissions.http()?;
    let hop = tunnel::connect_hop(authority.parse().ok().as_ref())?;
    let target = hop.target()?;
    let place = tunnel::place(&target);
    let target = HttpTarget {
        url: &place,
        ..target
    };
    permitted_target(permissions, &target, hop.host()?)
}

fn permitted_target(
    permissions: &Effective,
    target: &HttpTarget<'_>,
    host: Host<&str>,
) -> Result<Permitted, HostError> {
    let networks = permissions.http_target(target)?;
    let address = match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::from(address)),
        Host::Ipv6(address) => Some(IpAddr::from(address)),
    };
    match address {
        Some(address) if !address::is_permitted(address, &networks) => Err(Refusal::HttpAddress {
            url: target.url.to_owned(),
            address: address.to_string(),
        }
        .into()),
        _ => Ok(Permitted {
            networks,
            by_name: address.is_none(),
            ..Permitted::default()
        }),
    }
}

/// A place among a plugin's and one among all, each a count with its limit. Of the last quarter of all
/// nobody gets one who has a few already: plugins that let theirs wait leave others a few.
fn enter(
    what: &'static str,
    (of_plugin, per_plugin): (&Arc<UnderWay>, usize),
    (of_all, at_once): (&Arc<UnderWay>, usize),
) -> Result<Places, HostError> {
    let too_many = |limit| HostError::TooManyUnderWay { what, limit };
    let is_scarce = of_all.taken() >= at_once - at_once / 4;
    let per_plugin = match is_scarce {
        true => per_plugin.min(OF_THE_LAST),
        false => per_plugin,
    };
    let of_plugin = of_plugin.enter_owned(per_plugin);
    let of_plugin = of_plugin.ok_or_else(|| too_many(per_plugin))?;
    let of_all = of_all.enter_owned(at_once);
    Ok((of_plugin, of_all.ok_or_else(|| too_many(at_once))?))
}

/// A response's header lines, each as it came.
fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| !is_of_connection(name))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_that_take_all_they_may_leave_some_to_one_that_comes_late() {
        const PER_PLUGIN: usize = 16;
        let all = Arc::new(UnderWay::default());
        let ask = |own: &Arc<UnderWay>| enter("requests", (own, PER_PLUGIN), (&all, 256));
        let mut held = Vec::new();
        for _ in 0..16 {
            let greedy = Arc::new(UnderWay::default());
            while let Ok(places) = ask(&greedy) {
                held.push(places);
            }
        }
        // Twelve had theirs, and four a few.
        assert_eq!(held.len(), 12 * PER_PLUGIN + 4 * OF_THE_LAST);
        let late = Arc::new(UnderWay::default());
        let few: Vec<_> = (0..OF_THE_LAST).map(|_| ask(&late).unwrap()).collect();
        let refused = ask(&late).map(drop);
        assert!(
            matches!(refused, Err(HostError::TooManyUnderWay { limit, .. }) if limit == OF_THE_LAST)
        );
        held.clear();
        assert!(ask(&late).is_ok());
        drop(few);
    }
}
