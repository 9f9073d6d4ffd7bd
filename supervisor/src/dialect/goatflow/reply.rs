//! From the JSON that a handler returns to an HTTP response.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pinfold_gateway::PluginResponse;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The members of a reply that decide what it becomes. First match wins: `error`, `redirect`,
/// `_binary`, `html`, else the JSON as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Marked<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    redirect: Option<&'a RawValue>,
    #[serde(borrow, rename = "_binary")]
    binary: Option<&'a RawValue>,
    #[serde(borrow)]
    content_type: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    html: Option<&'a RawValue>,
}

/// Why a reply cannot be sent on: the plugin's fault, answered as a bad gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplyError {
    #[error("the plugin's result is not JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("the plugin's result is not UTF-8 at byte {offset}")]
    NotUtf8 { offset: usize },
    #[error("the plugin's redirect is no header value of at most 2048 bytes")]
    Redirect,
    #[error("the plugin's binary data is not padded base64")]
    Base64,
}

/// Turns a handler's result (empty counts as `null`) into a response.
pub(crate) fn response(result: Bytes) -> Result<PluginResponse, ReplyError> {
    if result.is_empty() {
        return Ok(json(StatusCode::OK, Bytes::from_static(b"null")));
    }
    // One reading finds the marks and whether it is JSON. Only an object has marks: the members of
    // a list would be taken for them in their order.
    let marked = match result.trim_ascii_start() {
        [b'{', ..] => serde_json::from_str(utf8(&result)?).ok(),
        _ => None,
    };
    let Some(marked): Option<Marked<'_>> = marked else {
        check(&result)?;
        return Ok(json(StatusCode::OK, result));
    };
    let status = |range: std::ops::RangeInclusive<u16>, default| {
        number(marked.status)
            .filter(|status| range.contains(status))
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(default)
    };
    if text(marked.error).is_some() {
        let status = status(400..=599, StatusCode::INTERNAL_SERVER_ERROR);
        return Ok(json(status, result));
    }
    if let Some(url) = text(marked.redirect) {
        return redirect(&url, status(300..=308, StatusCode::SEE_OTHER));
    }
    if marked.binary.is_some_and(|raw| raw.get() == "true") {
        let data = text(marked.data).ok_or(ReplyError::Base64)?;
        let body = base64::decode(&data).ok_or(ReplyError::Base64)?;
        let content_type = text(marked.content_type)
            .and_then(|value| HeaderValue::from_str(&value).ok())
            .unwrap_or(HeaderValue::from_static("application/octet-stream"));
        return Ok(with_type(StatusCode::OK, content_type, body.into()));
    }
    if let Some(html) = text(marked.html) {
        let content_type = HeaderValue::from_static("text/html; charset=utf-8");
        return Ok(with_type(StatusCode::OK, content_type, html.into()));
    }
    Ok(json(StatusCode::OK, result))
}

/// Whether it is JSON at all, in UTF-8 throughout, without building it.
pub(super) fn check(result: &[u8]) -> Result<(), ReplyError> {
    serde_json::from_str::<serde::de::IgnoredAny>(utf8(result)?)
        .map(|_| ())
        .map_err(|error| ReplyError::NotJson {
            line: error.line(),
            column: error.column(),
        })
}

/// What is ignored in JSON is not looked into: its text is checked here.
fn utf8(result: &[u8]) -> Result<&str, ReplyError> {
    std::str::from_utf8(result).map_err(|error| ReplyError::NotUtf8 {
        offset: error.valid_up_to(),
    })
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

fn number(raw: Option<&RawValue>) -> Option<u16> {
    serde_json::from_str(raw?.get()).ok()
}

fn redirect(url: &str, status: StatusCode) -> Result<PluginResponse, ReplyError> {
    let location = (url.len() <= 2048)
        .then(|| HeaderValue::from_str(url).ok())
        .flatten();
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, location.ok_or(ReplyError::Redirect)?);
    Ok(PluginResponse {
        status,
        headers,
        body: Bytes::new(),
    })
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: Bytes) -> PluginResponse {
    with_type(status, HeaderValue::from_static("application/json"), body)
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> PluginResponse {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, content_type);
    PluginResponse {
        status,
        headers,
        body,
    }
}

/// Go's `[]byte` in JSON: standard padded base64.
pub(crate) mod base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }

    pub(crate) fn encode(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    pub(crate) fn append(bytes: &[u8], text: &mut String) {
        STANDARD.encode_string(bytes, text);
    }

    /// Length of the text that stands for `bytes`.
    pub(crate) const fn encoded_bytes(bytes: &[u8]) -> usize {
        bytes.len().div_ceil(3) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respond(result: &'static str) -> (u16, String, String) {
        let response = response(Bytes::from_static(result.as_bytes())).unwrap();
        let header = |name| {
            response
                .headers
                .get(name)
                .map_or("", |value: &HeaderValue| value.to_str().unwrap())
        };
        let kind = format!(
            "{}{}",
            header(header::CONTENT_TYPE),
            header(header::LOCATION)
        );
        (
            response.status.as_u16(),
            kind,
            String::from_utf8(response.body.to_vec()).unwrap(),
        )
    }

    #[test]
    fn the_first_mark_decides() {
        let json = "application/json";
        for (reply, status, kind, body) in [
            (r#"{"items":[1]}"#, 200, json, r#"{"items":[1]}"#),
            ("[1,2]", 200, json, "[1,2]"),
            (r#"["no",404]"#, 200, json, r#"["no",404]"#),
            ("", 200, json, "null"),
            (
                r#"{"error":"no","status":404}"#,
                404,
                json,
                r#"{"error":"no","status":404}"#,
            ),
            (
                r#"{"error":"no","status":200}"#,
                500,
                json,
                r#"{"error":"no","status":200}"#,
            ),
            (
                r#"{"error":"no","html":"x"}"#,
                500,
                json,
                r#"{"error":"no","html":"x"}"#,
            ),
            (r#"{"redirect":"/there"}"#, 303, "/there", ""),
            (r#"{"redirect":"/there","status":302}"#, 302, "/there", ""),
            (
                r#"{"_binary":true,"content_type":"image/x","data":"aGk="}"#,
                200,
                "image/x",
                "hi",
            ),
            (r#"{"html":"<p>"}"#, 200, "text/html; charset=utf-8", "<p>"),
            (r#"{"error":null}"#, 200, json, r#"{"error":null}"#),
        ] {
            assert_eq!(
                respond(reply),
                (status, kind.to_owned(), body.to_owned()),
                "{reply}"
            );
        }
    }

    #[test]
    fn replies_that_cannot_be_sent_on_are_errors() {
        for reply in [
            "{",
            r#"{"redirect":"a\r\nb: c"}"#,
            r#"{"_binary":true,"data":"?"}"#,
        ] {
            assert!(response(Bytes::from(reply)).is_err(), "{reply}");
        }
    }
}
