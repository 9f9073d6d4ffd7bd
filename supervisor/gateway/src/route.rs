//! Step 3: where a request goes. Pinfold's own paths first, then the plugins'.

use std::sync::Arc;

use http::Method;
use pinfold_policy::{Middleware, Route, RouteMethod};

use crate::config::Compat;
use crate::goatflow;
use crate::path::{PathError, RequestPath};
use crate::refusal::Refusal;
use crate::table::{Found, Matched, PINFOLD_PREFIX, Table, reserved_prefix};

/// Longest request target (path and query) in bytes.
const TARGET_LIMIT_BYTES: usize = 16 << 10;

/// Where the gateway's listener has metrics: a path that no plugin can take.
const METRICS: &str = "/api/pinfold/v1/metrics";

/// What answers a request.
pub(crate) enum Target {
    /// Whether the daemon runs.
    Live,
    /// Whether it serves.
    Ready,
    /// The administration API, which has routes of its own.
    Admin,
    /// Its metrics, which others than administrators may read.
    Metrics,
    /// GoatFlow's management paths.
    Goatflow(goatflow::Operation),
    /// A plugin.
    Plugin(Matched),
}

/// The pattern of a route, as logs and records have it; never a raw path.
#[derive(Clone, Debug)]
pub enum RoutePattern {
    /// One of Pinfold's own.
    Own(&'static str),
    /// One that a router within the gateway has found.
    Nested(String),
    /// A plugin's.
    Plugin(Arc<Route>),
}

impl RoutePattern {
    /// Its text: `/items/{id}`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Own(text) => text,
            Self::Nested(text) => text,
            Self::Plugin(route) => &route.path,
        }
    }
}

/// What must hold of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    User,
    Admin,
    /// An administrator, or one whose role is to read metrics.
    Metrics,
}

impl Target {
    /// Whether it is no plugin's, and for administrators (or those who read metrics) alone.
    pub(crate) fn is_administration(&self) -> bool {
        match self {
            Self::Admin | Self::Metrics => true,
            Self::Goatflow(operation) => operation.needs() == Needs::Admin,
            Self::Live | Self::Ready | Self::Plugin(_) => false,
        }
    }

    /// What must hold of the caller.
    pub(crate) fn needs(&self) -> Needs {
        match self {
            Self::Live | Self::Ready => Needs::Nothing,
            Self::Admin => Needs::Admin,
            Self::Metrics => Needs::Metrics,
            Self::Goatflow(operation) => operation.needs(),
            Self::Plugin(matched) => needs(&matched.route.middleware),
        }
    }

    /// The pattern that matched, for logs.
    pub(crate) fn pattern(&self) -> RoutePattern {
        RoutePattern::Own(match self {
            Self::Live => "/healthz",
            Self::Ready => "/readyz",
            Self::Admin => "/api/pinfold/v1/{*rest}",
            Self::Metrics => METRICS,
            Self::Goatflow(operation) => operation.pattern(),
            Self::Plugin(matched) => return RoutePattern::Plugin(Arc::clone(&matched.route)),
        })
    }
}

/// The most that one of a route's middlewares needs.
fn needs(middleware: &[Middleware]) -> Needs {
    if middleware.contains(&Middleware::Admin) {
        Needs::Admin
    } else if middleware.contains(&Middleware::Auth) {
        Needs::User
    } else {
        Needs::Nothing
    }
}

/// Reads the path of a request.
pub(crate) fn path(uri: &http::Uri) -> Result<RequestPath<'_>, Refusal> {
    let target_bytes = uri.path().len() + uri.query().map_or(0, str::len);
    if target_bytes > TARGET_LIMIT_BYTES {
        return Err(Refusal::TargetTooLong {
            limit_bytes: TARGET_LIMIT_BYTES,
        });
    }
    RequestPath::read(uri.path()).map_err(|error: PathError| Refusal::Malformed {
        reason: error.to_string(),
    })
}

/// Finds what answers a method and a path.
pub(crate) fn route(
    compat: Compat,
    table: &Table,
    method: &Method,
    path: &RequestPath<'_>,
) -> Result<Target, Refusal> {
    match (reserved_prefix(&path.canonical), compat) {
        (None, _) => plugin(table, method, path),
        (Some(PINFOLD_PREFIX), _) if path.canonical == METRICS => Ok(Target::Metrics),
        (Some(PINFOLD_PREFIX), _) => Ok(Target::Admin),
        (Some("/api/v1/plugins"), Compat::Goatflow) => {
            goatflow::route(method, &path.canonical).map(Target::Goatflow)
        }
        (Some("/healthz"), _) if path.canonical == "/healthz" => only_get(method, Target::Live),
        (Some("/readyz"), _) if path.canonical == "/readyz" => only_get(method, Target::Ready),
        (Some(_), _) => Err(Refusal::NotFound),
    }
}

fn plugin(table: &Table, method: &Method, path: &RequestPath<'_>) -> Result<Target, Refusal> {
    match table.find(method, path) {
        Found::Route(matched) => Ok(Target::Plugin(matched)),
        Found::OtherMethods(allowed) => Err(Refusal::Method { allowed }),
        Found::Nothing => Err(Refusal::NotFound),
    }
}

fn only_get(method: &Method, target: Target) -> Result<Target, Refusal> {
    if method == Method::GET || method == Method::HEAD {
        Ok(target)
    } else {
        Err(Refusal::Method {
            allowed: vec![RouteMethod::Get],
        })
    }
}
