//! The id by which a request is found again in answer, log, audit and plugin.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Builder;
use uuid::fmt::Hyphenated;

use crate::entropy;

/// Header of the id, in requests and in answers.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Id of a request: a UUID of version 7, or what the client sent where it is well shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// Takes the client's id, 8 to 64 characters of `A-Za-z0-9._-`, or makes one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_shaped(text))
            .map_or_else(Self::new, |text| Self(text.into()))
    }

    fn new() -> Self {
        // A clock before 1970 gives ids that do not sort, and nothing worse.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let id = Builder::from_unix_timestamp_millis(millis, &entropy::random()).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        Self((&*id.as_hyphenated().encode_lower(&mut text)).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text, shared.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("an id is of printable ASCII")
    }
}

fn is_shaped(text: &str) -> bool {
    (8..=64).contains(&text.len())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shaped_id_is_taken_from_the_client() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, text.parse().unwrap());
            RequestId::of(&headers).as_str().to_owned()
        };
        assert_eq!(id("build-42.test_1"), "build-42.test_1");
        for odd in ["short", "has space in it", "quote\"quote", &"a".repeat(65)] {
            assert_ne!(id(odd), odd);
            assert_eq!(
                uuid::Uuid::parse_str(&id(odd)).unwrap().get_version_num(),
                7
            );
        }
    }
}
