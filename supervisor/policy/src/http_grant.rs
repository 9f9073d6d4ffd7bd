//! Where a plugin may go over HTTP.

use serde::{Deserialize, Serialize};

use crate::http_path::Unclear;
use crate::permission::is_match;
use crate::{Network, PathPattern, Pattern};

/// Hosts that may be reached over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpGrant {
    /// Host names or addresses, each with a port behind a colon or without one; `*` is a wildcard,
    /// and `*.example.com` also means `example.com`. A policy's host without a port means 80 for
    /// `http` and 443 for `https`; `:*` is any port.
    pub hosts: Vec<Pattern>,
    /// Methods, upper case; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths, without the query; empty means any. A path that servers read in more than one way is
    /// none of these, whatever they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathPattern>,
    /// Whether tunnels (`CONNECT`) to these hosts are permitted although `methods` or `paths` limit the
    /// grant: what is said inside one, methods and paths included, nobody sees. A grant without either
    /// permits them in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tunnel: bool,
    /// Networks that are not public and that these hosts may be in all the same. No manifest can
    /// ask for any: a grant alone decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Network>,
}

/// The method that asks a proxy for a tunnel.
pub const TUNNEL: &str = "CONNECT";

/// What a request wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTarget<'a> {
    /// Method, upper case; [`TUNNEL`] is a tunnel.
    pub method: &'a str,
    /// Host as a URL has it once it is parsed: lower case, IPv6 in brackets.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Whether the port is the scheme's own.
    pub default_port: bool,
    /// Path as a URL has it once it is parsed: what is sent. A tunnel's does not count.
    pub path: &'a str,
    /// The whole URL, for refusals.
    pub url: &'a str,
}

/// How a host without a port is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Portless {
    /// The scheme's own port: in a policy.
    Default,
    /// Any: in a manifest, whose contract may have no word for ports.
    Any,
}

impl HttpGrant {
    pub(crate) fn reaches(&self, target: &HttpTarget<'_>, portless: Portless) -> bool {
        self.reaches_host(target, portless)
            && (target.method == TUNNEL
                || self.paths.is_empty()
                || (self.paths.iter().any(|path| path.matches(target.path))
                    && Unclear::find(target.path).is_none()))
    }

    /// The same, whatever the path.
    pub(crate) fn reaches_host(&self, target: &HttpTarget<'_>, portless: Portless) -> bool {
        let method = match target.method {
            TUNNEL => self.tunnel || self.limited_to().is_none(),
            method => self.methods.is_empty() || self.methods.iter().any(|m| m == method),
        };
        method && self.names(target, portless)
    }

    /// What a tunnel would hide, if the grant is limited to it.
    pub(crate) fn limited_to(&self) -> Option<&'static str> {
        match (self.methods.is_empty(), self.paths.is_empty()) {
            (true, true) => None,
            (false, true) => Some("methods"),
            (true, false) => Some("paths"),
            (false, false) => Some("methods and paths"),
        }
    }

    /// Whether the target's host and port are among these, whatever the method.
    pub(crate) fn names(&self, target: &HttpTarget<'_>, portless: Portless) -> bool {
        self.hosts
            .iter()
            .any(|host| host_reaches(host.as_str(), target, portless))
    }

    /// What is wrong with the hosts, methods and paths of a policy, if anything: the value and why.
    pub(crate) fn fault(&self) -> Option<(String, &'static str)> {
        for host in &self.hosts {
            let text = host.as_str();
            let (name, port) = split_port(text);
            let why = if text.contains("://") || text.contains(['/', '@', '?', '#']) {
                "write a host alone, without scheme, user or path"
            } else if name.is_empty()
                || !text.is_ascii()
                || text.contains(|c: char| c.is_whitespace() || c.is_control())
            {
                "write a host name in ASCII (xn--… for others)"
            } else if name.contains(':') && !(name.starts_with('[') && name.ends_with(']')) {
                "write an IPv6 address in brackets"
            } else if port
                .is_some_and(|port| port != "*" && !port.parse::<u16>().is_ok_and(|port| port != 0))
            {
                "a port is 1 to 65535, or *"
            } else {
                continue;
            };
            return Some((text.to_owned(), why));
        }
        if self.methods.iter().any(|method| method == TUNNEL) {
            return Some((TUNNEL.into(), "tunnels are permitted by tunnel = true"));
        }
        let upper =
            |method: &&String| method.is_empty() || !method.bytes().all(|c| c.is_ascii_uppercase());
        if let Some(method) = self.methods.iter().find(upper) {
            return Some((method.clone(), "write methods in upper case"));
        }
        self.paths.iter().find_map(|path| {
            let why = path.fault()?;
            Some((path.as_str().to_owned(), why))
        })
    }
}

/// Host and port of a pattern. An IPv6 address without brackets has no port.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && !is_bare_ipv6(text) => (name, Some(port)),
        _ => (text, None),
    }
}

fn is_bare_ipv6(text: &str) -> bool {
    !text.starts_with('[') && text.matches(':').count() > 1
}

fn host_reaches(pattern: &str, target: &HttpTarget<'_>, portless: Portless) -> bool {
    let (name, port) = split_port(pattern);
    let port_fits = match port {
        Some("*") => true,
        Some(port) => port.parse() == Ok(target.port),
        None => portless == Portless::Any || target.default_port,
    };
    let bare = name
        .strip_prefix("*.")
        .is_some_and(|bare| is_match(bare, target.host));
    port_fits && (bare || is_match(name, target.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> HttpGrant {
        toml::from_str(text).unwrap()
    }

    fn target(host: &str, port: u16, default_port: bool) -> HttpTarget<'_> {
        HttpTarget {
            method: "GET",
            host,
            port,
            default_port,
            path: "/",
            url: "",
        }
    }

    #[test]
    fn hosts_and_ports_are_compared_whole() {
        for (pattern, host, port, reaches) in [
            ("api.test", "api.test", 443, true),
            ("API.test", "api.test", 443, true),
            ("api.test", "api.test", 8443, false),
            ("api.test", "api.test.", 443, false),
            ("api.test", "xapi.test", 443, false),
            ("api.test", "api.test.evil.test", 443, false),
            ("api.test:8443", "api.test", 8443, true),
            ("api.test:8443", "api.test", 443, false),
            ("api.test:*", "api.test", 1, true),
            ("*.api.test", "a.b.api.test", 443, true),
            ("*.api.test", "api.test", 443, true),
            ("*.api.test", "evilapi.test", 443, false),
            ("*", "anything.test", 443, true),
            ("*", "anything.test", 22, false),
            ("*:*", "anything.test", 22, true),
            ("[::1]", "[::1]", 443, true),
            ("[::1]:8080", "[::1]", 8080, true),
            ("[::1]:8080", "[::1]", 443, false),
            ("10.0.0.5:8443", "10.0.0.5", 8443, true),
        ] {
            let grant = grant(&format!("hosts = ['{pattern}']"));
            let target = target(host, port, port == 443);
            assert_eq!(
                grant.reaches(&target, Portless::Default),
                reaches,
                "{pattern} {host}:{port}"
            );
        }
        let asked = grant("hosts = ['api.test']");
        assert!(asked.reaches(&target("api.test", 8443, false), Portless::Any));
    }

    #[test]
    fn methods_narrow_a_grant() {
        let grant = grant("hosts = ['*']\nmethods = ['POST']");
        let get = target("a.test", 80, true);
        assert!(!grant.reaches(&get, Portless::Default));
        let post = HttpTarget {
            method: "POST",
            ..get
        };
        assert!(grant.reaches(&post, Portless::Default));
    }

    #[test]
    fn a_tunnel_needs_a_grant_without_limits_or_one_that_says_so() {
        for (grant_text, reaches) in [
            ("hosts = ['a.test']", true),
            ("hosts = ['a.test']\nmethods = ['GET']", false),
            ("hosts = ['a.test']\nmethods = ['GET']\ntunnel = true", true),
            ("hosts = ['a.test']\npaths = ['/x']", false),
            ("hosts = ['a.test']\npaths = ['/**']", false),
            ("hosts = ['a.test']\npaths = ['/x']\ntunnel = true", true),
            (
                "hosts = ['a.test']\nmethods = ['GET']\npaths = ['/**']",
                false,
            ),
            (
                "hosts = ['b.test']\nmethods = ['GET']\ntunnel = true",
                false,
            ),
        ] {
            let tunnel = HttpTarget {
                method: TUNNEL,
                ..target("a.test", 443, true)
            };
            let grant = grant(grant_text);
            assert_eq!(grant.reaches(&tunnel, Portless::Default), reaches);
            let post = HttpTarget {
                method: "POST",
                ..tunnel
            };
            // It opens no other method and no other path by itself.
            let limited = grant.limited_to().is_some() && !grant_text.contains("paths = ['/**']");
            let limited = limited || !grant.methods.is_empty();
            assert_eq!(
                grant.reaches(&post, Portless::Default),
                !limited,
                "{grant_text}"
            );
        }
    }

    #[test]
    fn paths_narrow_a_grant_and_a_path_that_is_unclear_is_none_of_them() {
        let grant = grant("hosts = ['a.test']\npaths = ['/v1/**', '/health']");
        for (path, reaches) in [
            ("/v1/a/b", true),
            ("/health", true),
            ("/health/", false),
            ("/v2/a", false),
            ("/", false),
            ("", false),
            ("/v1/..%2fv2/a", false),
            ("/v1/a;b", false),
        ] {
            let target = HttpTarget {
                path,
                ..target("a.test", 443, true)
            };
            assert_eq!(grant.reaches(&target, Portless::Default), reaches, "{path}");
            // What is not granted of the path is granted of host and method.
            assert!(grant.reaches_host(&target, Portless::Default), "{path}");
        }
    }

    #[test]
    fn hosts_that_can_match_nothing_are_faults() {
        for (hosts, faulty) in [
            ("https://a.test", true),
            ("a.test/x", true),
            ("u@a.test", true),
            ("", true),
            (":80", true),
            ("a.test:0", true),
            ("a.test:70000", true),
            ("::1", true),
            ("bücher.test", true),
            ("a.test", false),
            ("[::1]:8080", false),
            ("*:*", false),
        ] {
            let grant = grant(&format!("hosts = ['{hosts}']"));
            assert_eq!(grant.fault().is_some(), faulty, "{hosts}");
        }
        assert!(grant("hosts = ['a']\nmethods = ['get']").fault().is_some());
        let (_, why) = grant("hosts = ['a']\nmethods = ['CONNECT']")
            .fault()
            .unwrap();
        assert!(why.contains("tunnel = true"), "{why}");
        let (path, _) = grant("hosts = ['a']\npaths = ['/a', 'b']").fault().unwrap();
        assert_eq!(path, "b");
    }
}
