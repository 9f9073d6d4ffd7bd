//! What a plugin asks for, parsed once: nothing that goes on the wire was not checked here.

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pinfold_policy::HttpTarget;
use url::{Host, Url};

use super::HttpError;
use crate::HostError;

/// Longest URL.
pub const URL_LIMIT_BYTES: usize = 8 * 1024;
/// Longest host: no name that can be looked up is longer.
const HOST_LIMIT_BYTES: usize = 255;
/// Most header lines of a request, and of a response.
pub const HEADER_LIMIT: usize = 100;
/// Most bytes of a request's header lines.
pub const HEADERS_LIMIT_BYTES: usize = 32 * 1024;

/// Methods that a plugin may use. `CONNECT` is not one that is sent on, and `TRACE` would give back what
/// is hidden.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Header lines that are the connection's (RFC 9110, section 7.6.1), or decide where the message ends or
/// for whom it is. A plugin's are left out, as Go's client does.
const OWN: [HeaderName; 12] = [
    HOST,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request as a plugin passes it.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// Method; empty is `GET`.
    pub method: String,
    /// Absolute URL, `http` or `https`.
    pub url: String,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// A response, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status.
    pub status: u16,
    /// Header lines, without those of the connection: names in lower case, lines of one name apart
    /// and in their order. Values that are no UTF-8 have U+FFFD in them.
    pub headers: Vec<(String, String)>,
    /// Body, as it was sent: an encoding that the plugin asked for is the plugin's to undo.
    pub body: Bytes,
}

/// One request, about to be sent.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Hop {
    /// Checks everything but where it goes.
    pub(super) fn parse(request: HttpRequest, body_limit: usize) -> Result<Self, HostError> {
        let HttpRequest {
            method,
            url,
            headers,
            body,
        } = request;
        let method = parse_method(&method)?;
        let url = parse_url(&url)?;
        if body.len() > body_limit {
            return Err(HostError::TooLarge {
                what: "HTTP request body",
                limit_bytes: body_limit,
            });
        }
        Ok(Self {
            method,
            url,
            headers: parse_headers(headers)?,
            body,
        })
    }

    /// What the permission is asked for.
    pub(super) fn target(&self) -> Result<HttpTarget<'_>, HttpError> {
        let host = self.url.host_str().filter(|host| !host.is_empty());
        Ok(HttpTarget {
            method: self.method.as_str(),
            host: host.ok_or(HttpError::Url { why: NO_HOST })?,
            port: self.port()?,
            // A port that is the scheme's own is none once the URL is parsed.
            default_port: self.url.port().is_none(),
            path: self.url.path(),
            url: self.url.as_str(),
        })
    }

    pub(super) fn host(&self) -> Result<Host<&str>, HttpError> {
        self.url.host().ok_or(HttpError::Url { why: NO_HOST })
    }

    pub(super) fn port(&self) -> Result<u16, HttpError> {
        let port = self.url.port_or_known_default();
        port.filter(|port| *port != 0)
            .ok_or(HttpError::Url { why: "has port 0" })
    }

    /// `GET https://host:port`, for the record: paths and queries may hold secrets.
    pub(super) fn described(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{} {}://{host}:{port}", self.method, self.url.scheme())
    }
}

const NO_HOST: &str = "has no host";

pub(super) fn parse_method(text: &str) -> Result<Method, HttpError> {
    if text.is_empty() {
        return Ok(Method::GET);
    }
    METHODS
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| HttpError::Method {
            method: text.chars().take(16).collect(),
        })
}

/// Reads a URL as a browser does: what it then shows is what is connected to.
pub(super) fn parse_url(text: &str) -> Result<Url, HttpError> {
    let refuse = |why| Err(HttpError::Url { why });
    if text.len() > URL_LIMIT_BYTES {
        return refuse("is longer than 8 KiB");
    }
    // The parser would leave these out, and the plugin and its reviewer read something else.
    if text.bytes().any(|c| c.is_ascii_control() || c == b' ') {
        return refuse("has a space or a control character");
    }
    match Url::parse(text) {
        Ok(url) => check_url(url),
        Err(_) => refuse("is none"),
    }
}

/// Checks a parsed URL, perhaps a redirect's, and takes its fragment away.
pub(super) fn check_url(mut url: Url) -> Result<Url, HttpError> {
    let refuse = |why| Err(HttpError::Url { why });
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("has a scheme other than http and https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("has a user name or password");
    }
    if url.as_str().len() > URL_LIMIT_BYTES {
        return refuse("is longer than 8 KiB");
    }
    let host = url.host_str().unwrap_or_default();
    if host.len() > HOST_LIMIT_BYTES {
        return refuse("has a host of more than 255 bytes");
    }
    url.set_fragment(None);
    Ok(url)
}

fn parse_headers(lines: Vec<(String, String)>) -> Result<HeaderMap, HostError> {
    let too_large = HostError::TooLarge {
        what: "HTTP request headers",
        limit_bytes: HEADERS_LIMIT_BYTES,
    };
    let bytes: usize = lines.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
    if lines.len() > HEADER_LIMIT || bytes > HEADERS_LIMIT_BYTES {
        return Err(too_large);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let shown = || HttpError::Header {
            name: name.chars().take(64).collect(),
        };
        let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| shown())?;
        // Neither takes CR, LF or NUL.
        let value = HeaderValue::from_str(value.trim()).map_err(|_| shown())?;
        if !OWN.contains(&known) {
            headers.append(known, value);
        }
    }
    if !headers.contains_key(USER_AGENT) {
        let agent = HeaderValue::from_static(concat!("pinfold/", env!("CARGO_PKG_VERSION")));
        headers.insert(USER_AGENT, agent);
    }
    if !headers.contains_key(ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    }
    Ok(headers)
}

/// Whether a response's header line is the connection's.
pub(super) fn is_of_connection(name: &HeaderName) -> bool {
    OWN.contains(name) && *name != CONTENT_LENGTH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the text, what is let through is one host, without user, on one line, and means
        /// the same when it is read again.
        #[test]
        fn what_is_let_through_is_plain(
            text in "(http|https|HTTP|ftp|)(:|)(/|\\\\){0,3}[a-z0-9.@:%\\[\\]\\\\/?# \r\n\t_\u{e9}\u{3002}-]{0,30}"
        ) {
            if let Ok(url) = parse_url(&text) {
                let shown = url.as_str();
                prop_assert!(matches!(url.scheme(), "http" | "https"));
                prop_assert!(url.username().is_empty() && url.password().is_none());
                prop_assert!(shown.bytes().all(|c| c.is_ascii_graphic()), "{shown:?}");
                let again = parse_url(shown).unwrap();
                prop_assert_eq!(again.host(), url.host());
                prop_assert_eq!(again.port_or_known_default(), url.port_or_known_default());
                let host = url.host_str().unwrap_or_default();
                prop_assert!(!host.is_empty() && !host.contains(['@', '/', '\\', '?', '#', '%']));
            }
        }
    }

    fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> HttpRequest {
        let line = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        HttpRequest {
            method: method.into(),
            url: url.into(),
            headers: headers.iter().map(line).collect(),
            body: Bytes::new(),
        }
    }

    fn parse(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<Hop, String> {
        Hop::parse(request(method, url, headers), 0).map_err(|error| error.chain())
    }

    #[test]
    fn a_host_is_what_would_be_connected_to() {
        for (url, host, port, default_port) in [
            ("http://a.test", "a.test", 80, true),
            ("https://A.Test:443/x", "a.test", 443, true),
            ("http://a.test:443/", "a.test", 443, false),
            ("http://0x7f.1/", "127.0.0.1", 80, true),
            ("http://2130706433/", "127.0.0.1", 80, true),
            ("http://0177.0.0.1/", "127.0.0.1", 80, true),
            ("http://127.1:81/", "127.0.0.1", 81, false),
            ("http://[::ffff:127.0.0.1]/", "[::ffff:7f00:1]", 80, true),
            ("http://%6c%6fcalhost/", "localhost", 80, true),
            ("http://evil.test\\@a.test/", "evil.test", 80, true),
            ("http://b%C3%BCcher.test/", "xn--bcher-kva.test", 80, true),
        ] {
            let hop = parse("", url, &[]).unwrap();
            let target = hop.target().unwrap();
            assert_eq!(
                (target.host, target.port, target.default_port),
                (host, port, default_port),
                "{url}"
            );
        }
    }

    #[test]
    fn what_would_deceive_or_smuggle_is_refused() {
        for (method, url, why) in [
            ("GET", "ftp://a.test/", "scheme"),
            ("GET", "file:///etc/passwd", "scheme"),
            ("GET", "http://allowed:x@evil.test/", "user name"),
            ("GET", "http://u@evil.test/", "user name"),
            ("GET", "/relative", "is none"),
            ("GET", "http://", "is none"),
            ("GET", "http://a.test/\r\nX: y", "control character"),
            ("GET", "http://a.test/ HTTP/1.1", "space"),
            ("GET", "http://a.te\tst/", "control character"),
            ("CONNECT", "http://a.test/", "method"),
            ("TRACE", "http://a.test/", "method"),
            ("GET / HTTP/1.1\r\nX: y\r\n\r\n", "http://a.test/", "method"),
        ] {
            let refused = parse(method, url, &[]).unwrap_err();
            assert!(refused.contains(why), "{method} {url}: {refused}");
        }
        for (name, value) in [
            ("a\r\nb", "x"),
            ("", "x"),
            ("a b", "x"),
            ("a", "x\r\nb: c"),
            ("a", "\0"),
        ] {
            let refused = parse("GET", "http://a.test/", &[(name, value)]).unwrap_err();
            assert!(refused.contains("header"), "{name:?} {value:?}: {refused}");
        }
        let host = format!("http://{}test/", "a.".repeat(126));
        let refused = parse("GET", &host, &[]).unwrap_err();
        assert!(refused.contains("host of more than 255"), "{refused}");
        let long = format!("http://a.test/{}", "x".repeat(URL_LIMIT_BYTES));
        assert!(parse("GET", &long, &[]).is_err());
        let many = vec![("a", "b"); HEADER_LIMIT + 1];
        assert!(parse("GET", "http://a.test/", &many).is_err());
        let large = "x".repeat(HEADERS_LIMIT_BYTES);
        assert!(parse("GET", "http://a.test/", &[("a", &large)]).is_err());
        assert!(
            parse("GET", "http://a.test:0/", &[])
                .unwrap()
                .target()
                .is_err()
        );
    }

    #[test]
    fn header_lines_of_the_connection_are_left_out() {
        let hop = parse(
            "post",
            "http://a.test/#part",
            &[
                ("Host", "evil.test"),
                ("Transfer-Encoding", "chunked"),
                ("Content-Length", "5"),
                ("Connection", "x-kept"),
                ("Proxy-Authorization", "x"),
                ("X-Kept", "1"),
            ],
        )
        .unwrap();
        let mut names: Vec<_> = hop.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "user-agent", "x-kept"]);
        assert_eq!(
            (hop.method, hop.url.as_str()),
            (Method::POST, "http://a.test/")
        );
    }
}
