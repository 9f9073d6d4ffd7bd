//! What a goatflow plugin registers: the reply to `GKRegister`, as JSON or as a gob struct.

use pinfold_policy::{Middleware, Offer, Permissions, Route, RouteMethod};
use serde::Deserialize;

use super::manifest::{PermissionError, ResourceRequest, permissions};

/// Most routes of one plugin: bounds the table that every request walks.
const ROUTE_LIMIT: usize = 1024;
/// Longest path of a route in bytes.
const PATH_LIMIT_BYTES: usize = 512;

/// A registration, in the form of generations 2 and later. Keys that this host does not serve are
/// read over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Registration {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) author: String,
    pub(crate) license: String,
    routes: Option<Vec<RouteSpec>>,
    resources: Option<ResourceRequest>,
    widgets: Option<Vec<serde::de::IgnoredAny>>,
    jobs: Option<Vec<serde::de::IgnoredAny>>,
    menu_items: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RouteSpec {
    method: String,
    path: String,
    handler: String,
    middleware: Option<Vec<String>>,
    description: String,
}

/// The gob struct that generation 1 answers with. Fields that are not served are left out: gob
/// matches by name and passes over the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct GobRegistration {
    name: String,
    version: String,
    description: String,
    author: String,
    license: String,
    routes: Vec<GobRoute>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct GobRoute {
    method: String,
    path: String,
    handler: String,
    middleware: Vec<String>,
    description: String,
}

impl From<GobRegistration> for Registration {
    fn from(gob: GobRegistration) -> Self {
        let routes = gob
            .routes
            .into_iter()
            .map(
                |GobRoute {
                     method,
                     path,
                     handler,
                     middleware,
                     description,
                 }| RouteSpec {
                    method,
                    path,
                    handler,
                    middleware: Some(middleware),
                    description,
                },
            )
            .collect();
        Self {
            name: gob.name,
            version: gob.version,
            description: gob.description,
            author: gob.author,
            license: gob.license,
            routes: Some(routes),
            ..Self::default()
        }
    }
}

impl Registration {
    /// What the registration asks for: `None` where it says nothing of permissions.
    pub(crate) fn asked(&self) -> Result<Option<Permissions>, PermissionError> {
        let list = self
            .resources
            .as_ref()
            .and_then(|request| request.permissions.as_deref());
        list.map(permissions).transpose()
    }

    /// What is served of it, and what is not with the reason.
    pub(crate) fn offer(&self) -> Offer {
        let mut offer = Offer::default();
        let specs = self.routes.as_deref().unwrap_or_default();
        if let Some(dropped) = specs
            .len()
            .checked_sub(ROUTE_LIMIT)
            .filter(|dropped| *dropped > 0)
        {
            offer.refused.push(format!(
                "{dropped} routes: at most {ROUTE_LIMIT} are mounted"
            ));
        }
        for spec in specs.iter().take(ROUTE_LIMIT) {
            match spec.route() {
                Ok(route) => offer.routes.push(route),
                Err(reason) => {
                    let name = |text: &str| text.chars().take(80).collect::<String>();
                    let (method, path) = (name(&spec.method), name(&spec.path));
                    offer
                        .refused
                        .push(format!("route {method} {path:?}: {reason}"));
                }
            }
        }
        for (what, count) in [
            ("widgets", self.widgets.as_ref().map_or(0, Vec::len)),
            ("jobs", self.jobs.as_ref().map_or(0, Vec::len)),
            ("menu items", self.menu_items.as_ref().map_or(0, Vec::len)),
        ] {
            if count > 0 {
                offer
                    .refused
                    .push(format!("{count} {what}: this host does not serve them"));
            }
        }
        offer
    }
}

/// Why a route is not mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum RouteError {
    #[error("method {method:?} is not GET, POST, PUT, PATCH or DELETE")]
    Method { method: String },
    #[error("middleware {name:?} is unknown to this host")]
    Middleware { name: String },
    #[error("the path is longer than {PATH_LIMIT_BYTES} bytes or does not start with /")]
    Path,
    #[error("path segment {segment:?} is no plain text, :name or, last, *rest")]
    Segment { segment: String },
    #[error("no handler is named")]
    Handler,
}

impl RouteSpec {
    fn route(&self) -> Result<Route, RouteError> {
        let method = match self.method.as_str() {
            "" => RouteMethod::Get,
            name => RouteMethod::parse(name).ok_or_else(|| RouteError::Method {
                method: name.chars().take(16).collect(),
            })?,
        };
        if self.handler.is_empty() {
            return Err(RouteError::Handler);
        }
        let mut middleware = Vec::new();
        for name in self.middleware.iter().flatten() {
            middleware.push(match name.as_str() {
                "auth" => Middleware::Auth,
                "admin" => Middleware::Admin,
                _ => {
                    return Err(RouteError::Middleware {
                        name: name.chars().take(40).collect(),
                    });
                }
            });
        }
        Ok(Route {
            method,
            path: brace_parameters(&self.path)?,
            handler: self.handler.clone(),
            middleware,
            description: self.description.chars().take(500).collect(),
        })
    }
}

/// gin's `:name` and `*rest` as `{name}` and `{*rest}`.
fn brace_parameters(path: &str) -> Result<String, RouteError> {
    let rest = path
        .strip_prefix('/')
        .filter(|_| path.len() <= PATH_LIMIT_BYTES);
    let segments: Vec<&str> = rest.ok_or(RouteError::Path)?.split('/').collect();
    let last = segments.len().saturating_sub(1);
    let mut braced = String::with_capacity(path.len() + 8);
    for (at, segment) in segments.into_iter().enumerate() {
        let refused = || RouteError::Segment {
            segment: segment.chars().take(80).collect(),
        };
        let named = |name: &str| {
            !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        };
        braced.push('/');
        match (segment.strip_prefix(':'), segment.strip_prefix('*')) {
            (Some(name), _) if named(name) => braced.push_str(&format!("{{{name}}}")),
            (_, Some(name)) if named(name) && at == last => {
                braced.push_str(&format!("{{*{name}}}"));
            }
            (None, None) if !segment.contains(['{', '}', ':', '*', '?', '#']) => {
                braced.push_str(segment);
            }
            _ => return Err(refused()),
        }
    }
    Ok(braced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(routes: &str) -> Offer {
        let text = format!(r#"{{"name":"x","routes":{routes},"unknown":[1]}}"#);
        serde_json::from_str::<Registration>(&text).unwrap().offer()
    }

    #[test]
    fn routes_take_the_contracts_defaults_and_patterns() {
        let offer = offer(
            r#"[{"path":"/a/:id/b/*rest","handler":"h","middleware":["auth","admin"]},
                {"method":"POST","path":"/","handler":"p","middleware":null}]"#,
        );
        assert_eq!(offer.refused, Vec::<String>::new());
        let [first, second] = offer.routes.as_slice() else {
            panic!("{offer:?}")
        };
        assert_eq!(
            (first.method, first.path.as_str()),
            (RouteMethod::Get, "/a/{id}/b/{*rest}")
        );
        assert_eq!(first.middleware, [Middleware::Auth, Middleware::Admin]);
        assert_eq!(
            (second.method, second.path.as_str()),
            (RouteMethod::Post, "/")
        );
    }

    #[test]
    fn a_route_that_cannot_be_kept_as_declared_is_refused_with_the_reason() {
        for (route, reason) in [
            (
                r#"{"path":"/a","handler":"h","middleware":["auht"]}"#,
                "middleware \"auht\" is unknown",
            ),
            (
                r#"{"method":"TRACE","path":"/a","handler":"h"}"#,
                "method \"TRACE\" is not",
            ),
            (r#"{"path":"a","handler":"h"}"#, "does not start with /"),
            (r#"{"path":"/*x/y","handler":"h"}"#, "path segment \"*x\""),
            (r#"{"path":"/{x}","handler":"h"}"#, "path segment \"{x}\""),
            (r#"{"path":"/a"}"#, "no handler"),
        ] {
            let offer = offer(&format!("[{route}]"));
            assert_eq!(offer.routes, []);
            assert!(offer.refused.concat().contains(reason), "{offer:?}");
        }
    }

    #[test]
    fn what_is_not_served_is_said() {
        let text = r#"{"widgets":[{"id":"w"}],"jobs":[{"id":"j"},{"id":"k"}]}"#;
        let registration: Registration = serde_json::from_str(text).unwrap();
        let refused = registration.offer().refused;
        assert!(
            refused.iter().any(|line| line.starts_with("1 widgets")),
            "{refused:?}"
        );
        assert!(
            refused.iter().any(|line| line.starts_with("2 jobs")),
            "{refused:?}"
        );
    }
}
