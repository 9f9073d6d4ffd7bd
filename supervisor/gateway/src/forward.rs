//! From an admitted request to the plugin's answer: the call itself, with its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{
    ACCEPT_LANGUAGE, AUTHORIZATION, CONNECTION, COOKIE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, request};
use pinfold_policy::{CallContext, RouteMethod, User};

use crate::audit::Actor;
use crate::failure::Failure;
use crate::plugin::{CallError, PluginRequest, PluginResponse};
use crate::request_id::RequestId;
use crate::table::{Entry, Matched};

/// How long after its deadline a call is dropped from here: the instance knows the deadline too,
/// and should be the one to notice, count and tell the plugin.
const DEADLINE_GRACE: Duration = Duration::from_millis(250);

/// Headers that end here: credentials for Pinfold, and what is about the connection.
const WITHHELD: [HeaderName; 11] = [
    AUTHORIZATION,
    COOKIE,
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// On whose behalf, and until when, a plugin is called.
pub(crate) fn context(
    id: &RequestId,
    actor: &Actor,
    headers: &HeaderMap,
    deadline: Instant,
) -> CallContext {
    CallContext {
        request_id: id.text(),
        user: user(actor),
        language: language(headers),
        deadline,
        depth: 0,
    }
}

/// What the instance is asked. Made at once, so that nothing of the client's request is held, and
/// moved about, while the plugin is waited for.
pub(crate) fn request(
    matched: Matched,
    head: request::Parts,
    decoded_path: String,
    body: Bytes,
) -> PluginRequest {
    PluginRequest {
        method: method(matched.route.method),
        path: decoded_path,
        route: matched.route,
        path_parameters: matched.parameters,
        query: head.uri.query().map(str::to_owned),
        headers: passed_headers(head.headers),
        body,
    }
}

/// Calls the instance. Dropping this future, as happens when the client is gone, cancels the call.
pub(crate) fn forward(
    entry: &Entry,
    request: PluginRequest,
    mut context: CallContext,
) -> impl Future<Output = Result<PluginResponse, CallError>> {
    context.deadline = context.deadline.min(Instant::now() + entry.call_timeout);
    let dropped_at = context.deadline + DEADLINE_GRACE;
    let call = entry.instance.http(request, context);
    let call = tokio::time::timeout_at(dropped_at.into(), call);
    call.map(|answered| answered.unwrap_or(Err(CallError::Deadline)))
}

/// What the client is told. A plugin that an operator has switched off is named, as its contract
/// has it.
pub(crate) fn failure(error: CallError, entry: &Entry) -> Failure {
    let is_disabled = error == CallError::Disabled;
    let mut failure = Failure::from(error);
    if is_disabled {
        failure.text = format!("plugin {:?} is disabled", entry.plugin.as_str());
    }
    failure
}

fn user(actor: &Actor) -> Option<Arc<User>> {
    match actor {
        Actor::User(user) => Some(Arc::clone(user)),
        Actor::Anonymous | Actor::Process { .. } => None,
    }
}

const fn method(method: RouteMethod) -> Method {
    match method {
        RouteMethod::Get => Method::GET,
        RouteMethod::Post => Method::POST,
        RouteMethod::Put => Method::PUT,
        RouteMethod::Patch => Method::PATCH,
        RouteMethod::Delete => Method::DELETE,
    }
}

fn passed_headers(mut headers: HeaderMap) -> HeaderMap {
    let named_by_connection = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
    // A request has few headers: looking for those that are there is cheaper than for all of these.
    let withheld: Vec<_> = headers
        .keys()
        .filter(|name| WITHHELD.contains(name))
        .cloned()
        .chain(named_by_connection)
        .collect();
    for name in withheld {
        headers.remove(name);
    }
    headers
}

/// The first language of `Accept-Language`, where it has the shape of a BCP 47 tag.
fn language(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(ACCEPT_LANGUAGE)?.to_str().ok()?;
    let tag = value.split([',', ';']).next()?.trim();
    let shaped = (2..=35).contains(&tag.len())
        && tag.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && tag.bytes().take(2).all(|c| c.is_ascii_alphabetic());
    shaped.then(|| tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(n, v)| (HeaderName::from_static(n), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn credentials_and_connection_headers_end_here() {
        let passed = passed_headers(headers(&[
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
            ("x-kept", "1"),
        ]));
        let mut names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "x-kept"]);
    }

    #[test]
    fn first_language_is_read() {
        let read = |value: &'static str| language(&headers(&[("accept-language", value)]));
        assert_eq!(read("de-AT,de;q=0.9"), Some("de-AT".into()));
        assert_eq!(read("fr;q=0.5"), Some("fr".into()));
        assert_eq!(read("*"), None);
        assert_eq!(read("../../etc"), None);
        assert_eq!(language(&headers(&[])), None);
    }
}
