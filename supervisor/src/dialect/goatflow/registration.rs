//! What a goatflow plugin registers: the reply to `GKRegister`, as JSON or as a gob struct.

use pinfold_policy::{Middleware, Offer, Permissions, Route, RouteMethod, is_unprintable};
use serde::Deserialize;

use super::first::First;
use super::manifest::{TEXT_LIMIT_CHARACTERS, VERSION_LIMIT_CHARACTERS, cut};
use super::permissions::{AskedPermissions, PermissionError, permissions};

/// Most routes of one plugin: bounds the table that every request walks.
const ROUTE_LIMIT: usize = pinfold_gateway::ROUTES_PER_PLUGIN_LIMIT;
/// Most middlewares of one route: two are known.
const MIDDLEWARE_LIMIT: usize = 16;
/// Longest name of a handler in bytes: each call carries it.
const HANDLER_LIMIT_BYTES: usize = 256;
/// Longest registration in bytes, translations and templates, which are read over, included.
pub(super) const REGISTRATION_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// Longest path of a route in bytes.
const PATH_LIMIT_BYTES: usize = 512;

/// A registration, in the form of generations 2 and later. Keys that this host does not serve are
/// read over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Registration {
    pub(crate) name: String,
    version: String,
    pub(crate) description: String,
    pub(crate) author: String,
    pub(crate) license: String,
    routes: Option<First<RouteSpec, ROUTE_LIMIT>>,
    resources: Option<Resources>,
    widgets: Option<Vec<serde::de::IgnoredAny>>,
    jobs: Option<Vec<serde::de::IgnoredAny>>,
    menu_items: Option<Vec<serde::de::IgnoredAny>>,
}

/// The contract's `ResourceRequest`, of which a registration's permissions are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    permissions: Option<AskedPermissions>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RouteSpec {
    method: String,
    path: String,
    handler: String,
    middleware: Option<First<String, MIDDLEWARE_LIMIT>>,
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
    routes: First<GobRoute, ROUTE_LIMIT>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct GobRoute {
    method: String,
    path: String,
    handler: String,
    middleware: First<String, MIDDLEWARE_LIMIT>,
    description: String,
}

impl From<GobRegistration> for Registration {
    fn from(gob: GobRegistration) -> Self {
        let count = gob.routes.count;
        let kept = gob
            .routes
            .kept
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
            routes: Some(First { kept, count }),
            ..Self::default()
        }
    }
}

impl Registration {
    /// What the registration asks for: `None` where it says nothing of permissions.
    pub(crate) fn asked(&self) -> Result<Option<Permissions>, PermissionError> {
        let resources = self.resources.as_ref();
        let list = resources.and_then(|resources| resources.permissions.as_ref());
        list.map(permissions).transpose()
    }

    /// The version as it may stand in a line: cut, without what is not shown.
    pub(crate) fn version(&self) -> String {
        let shown = self.version.chars().take(VERSION_LIMIT_CHARACTERS);
        shown
            .map(|c| if is_unprintable(c) { '\u{fffd}' } else { c })
            .collect()
    }

    /// What is served of it, and what is not with the reason.
    pub(crate) fn offer(&self) -> Offer {
        let mut offer = Offer::default();
        let dropped = self.routes.as_ref().map_or(0, First::dropped);
        if dropped > 0 {
            offer.refused.push(format!(
                "{dropped} routes: at most {ROUTE_LIMIT} are mounted"
            ));
        }
        for spec in self.routes.iter().flat_map(|routes| &routes.kept) {
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
    #[error("no handler is named, or one of more than {HANDLER_LIMIT_BYTES} bytes")]
    Handler,
    #[error("more than {MIDDLEWARE_LIMIT} middlewares are named")]
    Middlewares,
}

impl RouteSpec {
    fn route(&self) -> Result<Route, RouteError> {
        let method = match self.method.as_str() {
            "" => RouteMethod::Get,
            name => RouteMethod::parse(name).ok_or_else(|| RouteError::Method {
                method: name.chars().take(16).collect(),
            })?,
        };
        if self.handler.is_empty() || self.handler.len() > HANDLER_LIMIT_BYTES {
            return Err(RouteError::Handler);
        }
        let named = self.middleware.as_ref();
        if named.is_some_and(|named| named.dropped() > 0) {
            return Err(RouteError::Middlewares);
        }
        let mut middleware = Vec::new();
        for name in named.iter().flat_map(|named| &named.kept) {
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
            description: cut(self.description.clone(), TEXT_LIMIT_CHARACTERS),
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
    fn lists_without_end_are_counted_and_the_version_is_a_line() {
        let registration: Registration = serde_json::from_str(&format!(
            r#"{{"name":"x","version":"1\u001b[31m\n{}","routes":[{}{{}}],"resources":{{"permissions":[{}{{}}]}}}}"#,
            "9".repeat(100),
            r#"{"path":"/a","handler":"h"},"#.repeat(3000),
            "{},".repeat(3000),
        ))
        .unwrap();
        let version = registration.version();
        assert!(
            version.starts_with("1\u{fffd}[31m\u{fffd}9") && version.len() < 80,
            "{version}"
        );
        let all = registration.offer();
        assert_eq!(all.routes.len(), ROUTE_LIMIT);
        assert_eq!(all.refused, ["2001 routes: at most 1000 are mounted"]);
        assert!(registration.asked().is_err());
        let long: Registration = serde_json::from_str(&format!(
            r#"{{"resources":{{"permissions":[{{"type":"http","scope":["*.{}"]}}]}}}}"#,
            "a".repeat(30_000),
        ))
        .unwrap();
        let error = long.asked().unwrap_err().to_string();
        assert!(error.starts_with("permission http: the scope"), "{error}");
        let many = vec!["\"auth\""; 20].join(",");
        let routes = offer(&format!(
            r#"[{{"path":"/a","handler":"h","middleware":[{many}]}}]"#
        ));
        assert_eq!(routes.routes, []);
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
