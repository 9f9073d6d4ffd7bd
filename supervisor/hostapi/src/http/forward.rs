//! Requests that a proxy is asked to send on.

use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use hyper::body::Incoming;

use super::exchange;
use super::request::{
    HEADER_LIMIT, HEADERS_LIMIT_BYTES, Hop, is_of_connection, parse_method, parse_url,
};
use super::{HttpClient, HttpError, Places};
use crate::{Caller, HostError};

/// A response to give back, which takes its request's places until it is sent.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(super) response: Response<Bytes>,
    pub(super) places: Places,
}

impl HttpClient {
    /// Carries one request out as it is asked for: a redirect is an answer, which the client may
    /// follow. `subject` becomes where it goes as soon as that is known.
    pub(crate) async fn forward(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
        subject: &mut String,
    ) -> Result<Forwarded, HostError> {
        let (head, body) = request.into_parts();
        let mut hop = Hop::forwarded(&head)?;
        subject.push_str(&hop.described());
        let places = self.places(caller)?;
        let limit = self.request_limit;
        let carried_out = async {
            // What goes nowhere is not read.
            caller.permissions.http_target(&hop.target()?)?;
            let cut = |_: &hyper::Error| HttpError::Body;
            hop.body = exchange::read(body, limit, "HTTP request body", cut).await?;
            let stream = self.reach(caller, &hop).await?;
            exchange::exchange(stream, &hop, self.response_limit, |_| true).await
        };
        let deadline = Instant::now() + self.timeout;
        let carried_out = tokio::time::timeout_at(deadline.into(), carried_out).await;
        let (mut head, body) = carried_out.unwrap_or_else(|_| Err(HttpError::Deadline.into()))?;
        head.headers = passed_on(&head.headers);
        if hop.method != Method::HEAD {
            // Counted anew, whatever way it came.
            head.headers.remove(CONTENT_LENGTH);
        }
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(Forwarded { response, places })
    }
}

impl Hop {
    /// Checks everything but where it goes; the body is still to come. The URL is the one of the
    /// request line: a `Host` line that says otherwise is not believed, and not passed on.
    fn forwarded(head: &Parts) -> Result<Self, HostError> {
        let method = parse_method(head.method.as_str())?;
        if head.uri.authority().is_none() {
            return Err(HttpError::Url {
                why: "is not absolute: this is a proxy",
            }
            .into());
        }
        let url = parse_url(&head.uri.to_string())?;
        let lines = head.headers.iter();
        let bytes: usize = lines
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if head.headers.len() > HEADER_LIMIT || bytes > HEADERS_LIMIT_BYTES {
            return Err(HostError::TooLarge {
                what: "HTTP request headers",
                limit_bytes: HEADERS_LIMIT_BYTES,
            });
        }
        let mut headers = passed_on(&head.headers);
        headers.remove(CONTENT_LENGTH);
        Ok(Self {
            method,
            url,
            headers,
            body: Bytes::new(),
        })
    }
}

/// The header lines that are not the connection's, neither by what they are nor because `Connection`
/// names them.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    headers
        .iter()
        .filter(|(name, _)| !is_of_connection(name) && !named.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(method: &str, uri: &str, lines: &[(&str, &str)]) -> Result<Hop, String> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Hop::forwarded(&head).map_err(|error| error.chain())
    }

    #[test]
    fn the_url_counts_and_what_is_the_connections_stays_behind() {
        let hop = forwarded(
            "PUT",
            "http://API.test:81/a?b",
            &[
                ("Host", "evil.test"),
                ("Connection", "close, X-Hop"),
                ("Connection", "x-other"),
                ("X-Hop", "1"),
                ("X-Other", "1"),
                ("Proxy-Connection", "keep-alive"),
                ("Proxy-Authorization", "Basic eA=="),
                ("Transfer-Encoding", "chunked"),
                ("Content-Length", "5"),
                ("TE", "trailers"),
                ("Upgrade", "websocket"),
                ("Expect", "100-continue"),
                ("Authorization", "Bearer x"),
                ("Cookie", "a"),
                ("Cookie", "b"),
            ],
        )
        .unwrap();
        assert_eq!(hop.url.as_str(), "http://api.test:81/a?b");
        let mut lines: Vec<_> = hop.headers.iter().map(|(name, _)| name.as_str()).collect();
        lines.sort_unstable();
        // Nothing is added either: not even a user agent.
        assert_eq!(lines, ["authorization", "cookie", "cookie"]);
    }

    #[test]
    fn what_no_proxy_sends_on_is_refused() {
        for (method, uri, why) in [
            ("GET", "/path", "not absolute"),
            ("OPTIONS", "*", "not absolute"),
            ("GET", "ftp://a.test/", "scheme"),
            ("GET", "http://a:b@a.test/", "user name"),
            ("TRACE", "http://a.test/", "method"),
            ("BREW", "http://a.test/", "method"),
        ] {
            let refused = forwarded(method, uri, &[]).unwrap_err();
            assert!(refused.contains(why), "{method} {uri}: {refused}");
        }
        let many = vec![("a", "b"); HEADER_LIMIT + 1];
        assert!(forwarded("GET", "http://a.test/", &many).is_err());
        let long = "x".repeat(HEADERS_LIMIT_BYTES);
        assert!(forwarded("GET", "http://a.test/", &[("a", &long)]).is_err());
    }
}
