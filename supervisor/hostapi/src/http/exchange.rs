//! One request and its response, on one connection of its own.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::HttpError;
use super::connect::Stream;
use super::request::{HEADER_LIMIT, Hop};
use crate::HostError;

/// Most bytes of a response's header, and of what is read ahead.
const HEADER_BUFFER_BYTES: usize = 64 * 1024;

/// Sends `hop` on `stream` and reads the response, which is given to `wanted` to say whether its
/// body is of interest.
pub(super) async fn exchange(
    stream: Stream,
    hop: &Hop,
    body_limit: usize,
    wanted: impl Fn(&Response<Incoming>) -> bool,
) -> Result<(http::response::Parts, Bytes), HostError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADER_LIMIT)
        .max_buf_size(HEADER_BUFFER_BYTES)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| protocol(&error))?;
    let request = request(hop)?;
    let mut conversation = pin!(async {
        let sent = sender.send_request(request).await;
        let response = sent.map_err(|error| protocol(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(HttpError::Response.into());
        }
        let is_wanted = wanted(&response);
        let (head, body) = response.into_parts();
        let body = if is_wanted {
            read(body, body_limit, "HTTP response body", protocol).await?
        } else {
            Bytes::new()
        };
        Ok((head, body))
    });
    // The connection does its work only while it is polled, and is gone with this call.
    tokio::select! {
        biased;
        answer = &mut conversation => answer,
        _ended = connection => conversation.await,
    }
}

fn request(hop: &Hop) -> Result<Request<Full<Bytes>>, HttpError> {
    let host = hop.url.host_str().unwrap_or_default();
    let host = match hop.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let path = match hop.url.query() {
        Some(query) => format!("{}?{query}", hop.url.path()),
        None => hop.url.path().to_owned(),
    };
    let unusable = HttpError::Url {
        why: "cannot be sent",
    };
    let mut request = Request::builder()
        .method(hop.method.clone())
        .uri(path)
        .body(Full::new(hop.body.clone()))
        .map_err(|_| unusable.clone())?;
    *request.headers_mut() = hop.headers.clone();
    let host = HeaderValue::from_str(&host).map_err(|_| unusable)?;
    request.headers_mut().insert(HOST, host);
    // Where a body is expected, that there is none is said (RFC 9110, section 8.6).
    if hop.body.is_empty() && matches!(hop.method, Method::POST | Method::PUT | Method::PATCH) {
        let none = HeaderValue::from_static("0");
        request.headers_mut().insert(CONTENT_LENGTH, none);
    }
    Ok(request)
}

/// The whole body, or an error as soon as it is known to be too large. `what` it is and what a failed
/// connection `means` are for errors.
pub(super) async fn read(
    mut body: Incoming,
    limit: usize,
    what: &'static str,
    means: impl Fn(&hyper::Error) -> HttpError,
) -> Result<Bytes, HostError> {
    let too_large = || HostError::TooLarge {
        what,
        limit_bytes: limit,
    };
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| means(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// What an error of the connection is to the plugin: the peer's words are not passed on.
fn protocol(error: &hyper::Error) -> HttpError {
    if error.is_parse() || error.is_parse_too_large() {
        HttpError::Response
    } else {
        HttpError::Interrupted
    }
}
