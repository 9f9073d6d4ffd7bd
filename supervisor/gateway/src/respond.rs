//! The last step: answers. One place turns every failure into one, one place decides which of a
//! plugin's headers pass, one place adds what every answer has.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, LINK, LOCATION, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};
use serde_json::json;

use crate::admin::dto::Problem;
use crate::failure::Failure;
use crate::plugin::{CallError, PluginResponse};
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::table::{PINFOLD_PREFIX, reserved_prefix};

/// Body of an answer: whole, or the administration API's.
pub(crate) type AnswerBody = Either<Full<Bytes>, axum::body::Body>;
/// An answer.
pub(crate) type Answer = Response<AnswerBody>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Headers that a plugin may set. Not among them: cookies and everything that speaks for the
/// whole origin or about the connection.
const PLUGIN_HEADERS: [HeaderName; 11] = [
    CONTENT_TYPE,
    LOCATION,
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_LANGUAGE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LINK,
    RETRY_AFTER,
    VARY,
];
/// Longest value of such a header in bytes; longer ones are left out.
const PLUGIN_HEADER_LIMIT_BYTES: usize = 4096;

/// How errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// `{"error": text}`, as GoatFlow does.
    Text,
    /// Problem details, RFC 9457.
    Problem,
}

impl ErrorForm {
    /// The form for a raw path: Pinfold's own API has problems, all else texts.
    pub(crate) fn of(path: &str) -> Self {
        if reserved_prefix(path) == Some(PINFOLD_PREFIX) {
            Self::Problem
        } else {
            Self::Text
        }
    }
}

/// The code of a failed answer, kept beside it for the access log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

/// A JSON answer.
pub(crate) fn json_answer(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// The answer to a failed request. What only the operator may read goes to the log.
pub(crate) fn failure(form: ErrorForm, id: &RequestId, failure: Failure) -> Response<Full<Bytes>> {
    log(id, &failure);
    let body = match form {
        ErrorForm::Text => json!({ "error": failure.text }).to_string(),
        ErrorForm::Problem => {
            let problem = Problem {
                kind: "about:blank".to_owned(),
                title: failure
                    .status
                    .canonical_reason()
                    .unwrap_or("Error")
                    .to_owned(),
                status: failure.status.as_u16(),
                detail: failure.text,
                code: failure.code.to_owned(),
                request_id: id.as_str().to_owned(),
            };
            serde_json::to_string(&problem).expect("a problem is plain data")
        }
    };
    let mut answer = json_answer(failure.status, body.into());
    answer.extensions_mut().insert(ErrorCode(failure.code));
    let headers = answer.headers_mut();
    if form == ErrorForm::Problem {
        headers.insert(CONTENT_TYPE, PROBLEM);
    }
    if failure.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, challenge(failure.code));
    }
    if let Some(wait) = failure.wait {
        headers.insert(RETRY_AFTER, whole_seconds(wait).into());
    }
    if !failure.allowed.is_empty() {
        let mut names: Vec<_> = failure
            .allowed
            .iter()
            .map(|method| method.as_str())
            .collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        let names = HeaderValue::from_str(&names.join(", ")).expect("names of methods are tokens");
        headers.insert(ALLOW, names);
    }
    answer
}

/// The answer of a plugin, as far as it may have one.
pub(crate) fn plugin(
    response: PluginResponse,
    content_security: Option<HeaderValue>,
) -> Result<Response<Full<Bytes>>, CallError> {
    let status = response.status;
    if status.as_u16() < 200 || status.as_u16() > 599 {
        return Err(CallError::Protocol {
            text: format!("status {}", status.as_u16()),
        });
    }
    let bodiless = matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    );
    let body = if bodiless {
        Bytes::new()
    } else {
        response.body
    };
    let has_body = !body.is_empty();
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    // Those that we add come to them.
    headers.reserve(response.headers.len() + 3);
    pass_headers(response.headers, headers);
    if let Some(value) = content_security {
        headers.insert(CONTENT_SECURITY_POLICY, value);
    }
    if has_body && !headers.contains_key(CONTENT_TYPE) {
        // What has no type is shown as nothing but bytes.
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
    }
    Ok(answer)
}

/// Adds what every answer has.
pub(crate) fn seal(headers: &mut HeaderMap, id: &RequestId) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_REQUEST_ID, id.to_header());
}

fn pass_headers(from: HeaderMap, to: &mut HeaderMap) {
    // Of several values of one name the first comes with the name, and it alone counts.
    for (name, value) in from {
        if let Some(name) = name
            && value.len() <= PLUGIN_HEADER_LIMIT_BYTES
            && PLUGIN_HEADERS.contains(&name)
        {
            to.insert(name, value);
        }
    }
}

fn challenge(code: &str) -> HeaderValue {
    if code == "gateway.token_refused" {
        HeaderValue::from_static("Bearer realm=\"pinfold\", error=\"invalid_token\"")
    } else {
        HeaderValue::from_static("Bearer realm=\"pinfold\"")
    }
}

/// Seconds for `Retry-After`, rounded up: a client that comes early is refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn log(id: &RequestId, failure: &Failure) {
    let Some(error) = &failure.internal else {
        return;
    };
    if failure.is_ours {
        tracing::error!(
            request.id = id.as_str(),
            error.code = failure.code,
            error,
            "request failed"
        );
    } else {
        tracing::debug!(
            request.id = id.as_str(),
            error.code = failure.code,
            error,
            "request failed"
        );
    }
}
