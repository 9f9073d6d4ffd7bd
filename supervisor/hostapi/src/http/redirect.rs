//! Where a redirect leads, and what of the request goes along.

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::HttpError;
use super::request::{Hop, check_url};

/// Most redirects that are followed: as many as Go's client follows.
pub(crate) const REDIRECT_LIMIT: usize = 10;

/// Parts of the names of header lines that may carry a secret meant for one host.
const SECRET: [&str; 9] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "key",
    "session",
    "credential",
    "signature",
    "password",
];

/// The request that a response asks for; `None` where it is the answer.
pub(super) fn next(
    hop: &Hop,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Option<Hop>, HttpError> {
    let kept = match status.as_u16() {
        301..=303 => matches!(hop.method, Method::GET | Method::HEAD),
        307 | 308 => true,
        _ => return Ok(None),
    };
    let Some(location) = headers.get(LOCATION) else {
        return Ok(None);
    };
    let location = location.to_str().map_err(|_| HttpError::Location)?;
    let url = hop.url.join(location).map_err(|_| HttpError::Location)?;
    let url = check_url(url)?;
    if hop.url.scheme() == "https" && url.scheme() != "https" {
        return Err(HttpError::Downgrade);
    }
    let mut next = Hop { url, ..hop.clone() };
    if !kept {
        next.method = Method::GET;
        next.body = Bytes::new();
        remove(&mut next.headers, |name| {
            name.as_str().starts_with("content-")
        });
    }
    if next.url.origin() != hop.url.origin() {
        remove(&mut next.headers, |name| {
            SECRET.iter().any(|part| name.as_str().contains(part))
        });
    }
    Ok(Some(next))
}

fn remove(headers: &mut HeaderMap, which: impl Fn(&HeaderName) -> bool) {
    let names: Vec<_> = headers.keys().filter(|name| which(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::HttpRequest;

    fn hop(method: &str, url: &str) -> Hop {
        let header = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let request = HttpRequest {
            method: method.into(),
            url: url.into(),
            headers: [
                ("Authorization", "Bearer x"),
                ("Cookie", "a=b"),
                ("X-Api-Key", "k"),
                ("Content-Type", "text/plain"),
                ("X-Plain", "1"),
            ]
            .map(header)
            .into(),
            body: Bytes::from_static(b"body"),
        };
        Hop::parse(request, 100).unwrap()
    }

    fn follow(hop: &Hop, status: u16, location: &str) -> Result<Option<Hop>, HttpError> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        next(hop, StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn method_and_body_change_as_in_gos_client() {
        for (method, status, then, with_body) in [
            ("POST", 301, "GET", false),
            ("POST", 302, "GET", false),
            ("PUT", 303, "GET", false),
            ("POST", 307, "POST", true),
            ("DELETE", 308, "DELETE", true),
            ("HEAD", 302, "HEAD", true),
        ] {
            let next = follow(&hop(method, "http://a.test/x/y"), status, "z?q#f");
            let next = next.unwrap().unwrap();
            assert_eq!(next.method, then, "{method} {status}");
            assert_eq!(!next.body.is_empty(), with_body, "{method} {status}");
            assert_eq!(next.headers.contains_key("content-type"), with_body);
            assert_eq!(next.url.as_str(), "http://a.test/x/z?q");
            assert!(next.headers.contains_key("authorization"), "same origin");
        }
        for status in [200, 300, 304, 305, 404] {
            assert!(
                follow(&hop("GET", "http://a.test/"), status, "/")
                    .unwrap()
                    .is_none()
            );
        }
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        for location in ["http://b.test/", "http://a.test:81/", "https://a.test/"] {
            let next = follow(&hop("GET", "http://a.test/"), 307, location)
                .unwrap()
                .unwrap();
            for name in ["authorization", "cookie", "x-api-key"] {
                assert!(!next.headers.contains_key(name), "{location} {name}");
            }
            assert!(next.headers.contains_key("x-plain"));
        }
    }

    #[test]
    fn a_redirect_leads_nowhere_that_a_request_could_not() {
        let secure = hop("GET", "https://a.test/");
        for (location, refused) in [
            ("http://a.test/", HttpError::Downgrade),
            (
                "file:///etc/passwd",
                HttpError::Url {
                    why: "has a scheme other than http and https",
                },
            ),
            (
                "https://u:p@a.test/",
                HttpError::Url {
                    why: "has a user name or password",
                },
            ),
            ("https://[x/", HttpError::Location),
        ] {
            assert_eq!(
                follow(&secure, 302, location).unwrap_err(),
                refused,
                "{location}"
            );
        }
    }
}
