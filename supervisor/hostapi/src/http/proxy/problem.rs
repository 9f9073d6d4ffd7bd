//! What the proxy answers by itself: problem details (RFC 9457) that say what was refused and what would
//! permit it, marked as not the server's by `Proxy-Status` (RFC 9209).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use pinfold_policy::Refusal;

use super::answer::Answer;
use crate::http::HttpError;
use crate::{HostError, Retry};

/// Longest reason phrase.
const REASON_LIMIT_BYTES: usize = 200;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The answer to a request that was not carried out.
pub(super) fn response(error: &HostError) -> Response<Answer> {
    let (status, kind) = classify(error);
    let mut problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": error.chain(),
        "code": error.code(),
    });
    if let HostError::Refused(refusal) = error {
        problem["permission"] = shown_permission(refusal).into();
        problem["grant"] = grant(refusal).into();
    }
    let body = Bytes::from(problem.to_string());
    let mut response = Response::new(Answer::new(body, None));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(PROXY_STATUS, HeaderValue::from_static(kind));
    if let Retry::After(after) = error.retry() {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The same to a `CONNECT`, of whose answer most clients show nothing but the line with the status: it
/// says why.
pub(super) fn with_reason(error: &HostError) -> Response<Answer> {
    let mut response = response(error);
    let why = match error {
        HostError::Refused(refusal) => format!("{} is not granted", shown_permission(refusal)),
        other => other.chain(),
    };
    let title = response.status().canonical_reason().unwrap_or_default();
    let line: Vec<u8> = format!("{title}: {why}")
        .bytes()
        .filter(|byte| *byte == b' ' || byte.is_ascii_graphic())
        .take(REASON_LIMIT_BYTES)
        .collect();
    if let Ok(reason) = ReasonPhrase::try_from(line) {
        response.extensions_mut().insert(reason);
    }
    response
}

/// The missing permission, without an address that the plugin does not know.
fn shown_permission(refusal: &Refusal) -> String {
    match refusal {
        Refusal::HttpAddress { .. } => "http:address".into(),
        other => other.permission(),
    }
}

/// What an operator would write into the policy.
fn grant(refusal: &Refusal) -> String {
    match refusal {
        Refusal::HttpTarget { target, .. } => match target.split_once(':') {
            Some((method, place)) => {
                format!("permissions.http: hosts = [\"{place}\"], with the method {method}")
            }
            None => "permissions.http".into(),
        },
        // A path that was cut is no pattern, and one with a star, which the plugin chose, would be of more than it.
        Refusal::HttpPath { place, path, .. } if path.is_ascii() && !path.contains('*') => {
            format!("permissions.http: paths = [\"{path}\"] in the grant of {place}")
        }
        Refusal::HttpPath { place, .. } => {
            format!("permissions.http: paths, with this one, in the grant of {place}")
        }
        Refusal::HttpPathUnclear { place, .. } => {
            format!("permissions.http: a grant of {place} without paths")
        }
        Refusal::HttpTunnel { target, .. } => {
            format!("permissions.http: tunnel = true in the grant of {target}")
        }
        Refusal::HttpAddress { .. } => {
            "permissions.http: addresses, with the network of the host, in its grant".into()
        }
        _ => "permissions.http".into(),
    }
}

/// Status, and the kind of error as `Proxy-Status` names it.
fn classify(error: &HostError) -> (StatusCode, &'static str) {
    match error {
        HostError::Refused(Refusal::HttpAddress { .. }) => (
            StatusCode::FORBIDDEN,
            "pinfold; error=destination_ip_prohibited",
        ),
        HostError::Refused(_) => (StatusCode::FORBIDDEN, "pinfold; error=http_request_denied"),
        HostError::RateLimited { .. } | HostError::TooManyUnderWay { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "pinfold; error=http_request_denied",
        ),
        HostError::TooLarge { what, .. } if what.contains("response") => (
            StatusCode::BAD_GATEWAY,
            "pinfold; error=http_response_body_size",
        ),
        HostError::TooLarge { .. } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "pinfold; error=http_request_error",
        ),
        HostError::Deadline | HostError::Http(HttpError::Deadline) => (
            StatusCode::GATEWAY_TIMEOUT,
            "pinfold; error=http_response_timeout",
        ),
        HostError::Http(error) if error.is_of_plugin() => {
            (StatusCode::BAD_REQUEST, "pinfold; error=http_request_error")
        }
        HostError::Http(HttpError::NotFound) => {
            (StatusCode::BAD_GATEWAY, "pinfold; error=dns_error")
        }
        HostError::Http(HttpError::Connect { .. }) => (
            StatusCode::BAD_GATEWAY,
            "pinfold; error=destination_unavailable",
        ),
        HostError::Http(HttpError::Tls { .. }) => {
            (StatusCode::BAD_GATEWAY, "pinfold; error=tls_protocol_error")
        }
        HostError::Http(_) => (
            StatusCode::BAD_GATEWAY,
            "pinfold; error=http_protocol_error",
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "pinfold; error=proxy_internal_error",
        ),
    }
}
