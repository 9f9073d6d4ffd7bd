//! The arguments of a route's handler: one flat JSON object made from an HTTP request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use pinfold_gateway::PluginRequest;
use pinfold_policy::User;
use serde::Serialize;
use serde_json::value::RawValue;

use super::sent;

/// Most query parameters read: more are refused as too large.
const QUERY_LIMIT: usize = 1000;

/// Most members that are written without an object in between.
const PLAIN_LIMIT: usize = 16;

/// How many times as long as the body arguments may be. Text that is quoted grows to at most twice its
/// length, bytes that are no text to three times it; only control characters take six for one, and
/// the memory for bodies is not made for that.
const GROWTH: usize = 3;

/// Longest arguments in bytes beside what is made of the body: path, query and envelope.
const BESIDE_BODY_BYTES: usize = 64 * 1024;

/// Why a request has no arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentsError {
    #[error("more than {QUERY_LIMIT} query parameters")]
    Query,
    #[error("arguments of {bytes} bytes, at most {limit_bytes} are passed on with this body")]
    TooLarge { bytes: usize, limit_bytes: usize },
}

/// Path parameters, then the query (a list where a name is repeated), then the members of a JSON
/// object or a form in the body (anything else is `_body` beside `_content_type`), then the
/// envelope; later ones win. Whatever a client sends under an envelope's name, that is with a
/// leading `_` or as `org_id` in any case, is left out: Go's decoder takes names in any case.
pub(crate) fn arguments(
    request: &PluginRequest,
    user: Option<&User>,
    language: Option<&str>,
) -> Result<Bytes, ArgumentsError> {
    if let Some(plain) = plain(request, user, language) {
        return Ok(plain.into());
    }
    let mut object = Object::new();
    for (name, value) in &request.path_parameters {
        let value = parameter(request, name, value).into_owned();
        insert(&mut object, name.clone(), value);
    }
    if let Some(query) = &request.query {
        for (name, value) in form(query.as_bytes())? {
            insert(&mut object, name, value);
        }
    }
    add_body(&mut object, request)?;
    object.insert("_method".into(), request.method.as_str().into());
    object.insert("_path".into(), request.path.clone().into());
    if let Some(user) = user {
        object.insert("_user_id".into(), user.id.clone().into());
        object.insert("_user_login".into(), user.login.clone().into());
        object.insert("_user_role".into(), role(user).into());
        object.insert("_is_admin".into(), user.is_admin().into());
    }
    if let Some(language) = language {
        object.insert("_lang".into(), language.into());
    }
    let mut bounded = Bounded {
        text: Vec::new(),
        bytes: 0,
        limit_bytes: request
            .body
            .len()
            .saturating_mul(GROWTH)
            .saturating_add(BESIDE_BODY_BYTES),
    };
    serde_json::to_writer(&mut bounded, &object).expect("a member is plain data");
    let Bounded {
        text,
        bytes,
        limit_bytes,
    } = bounded;
    if bytes > limit_bytes {
        return Err(ArgumentsError::TooLarge { bytes, limit_bytes });
    }
    Ok(text.into())
}

/// A text that is counted to its end, and kept as far as its limit.
struct Bounded {
    text: Vec<u8>,
    bytes: usize,
    limit_bytes: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes <= self.limit_bytes {
            self.text.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same, in another order, for what most requests are: no body, and a few names, each once.
fn plain(request: &PluginRequest, user: Option<&User>, language: Option<&str>) -> Option<Vec<u8>> {
    if !request.body.is_empty() {
        return None;
    }
    let query = request.query.as_deref().unwrap_or_default();
    let parameters = request.path_parameters.iter().map(|(name, value)| {
        let value = parameter(request, name, value);
        (Cow::Borrowed(name.as_str()), value)
    });
    let mut members: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    for (name, value) in parameters.chain(form_urlencoded::parse(query.as_bytes())) {
        if members.len() >= PLAIN_LIMIT || members.iter().any(|(known, _)| *known == name) {
            return None;
        }
        members.push((name, value));
    }
    let mut written = Written(Vec::with_capacity(256 + query.len()));
    for (name, value) in members.iter().filter(|(name, _)| is_clients(name)) {
        written.text(name, value);
    }
    written.text("_method", request.method.as_str());
    written.text("_path", &request.path);
    if let Some(user) = user {
        written.text("_user_id", &user.id);
        written.text("_user_login", &user.login);
        written.text("_user_role", role(user));
        written.json(
            "_is_admin",
            if user.is_admin() { b"true" } else { b"false" },
        );
    }
    if let Some(language) = language {
        written.text("_lang", language);
    }
    written.0.push(b'}');
    Some(written.0)
}

/// An object on its way: everything but its last brace.
struct Written(Vec<u8>);

impl Written {
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.string(value);
    }

    fn json(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(value);
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.string(name);
        self.0.push(b':');
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.0, text).expect("a Vec takes every text");
    }
}

/// The value of a path's parameter: what `*rest` matches begins with its slash in the contract.
fn parameter<'a>(request: &PluginRequest, name: &str, value: &'a str) -> Cow<'a, str> {
    let end = request.route.path.strip_suffix('}');
    let end = end.and_then(|path| path.strip_suffix(name));
    if end.is_some_and(|path| path.ends_with("{*")) {
        Cow::Owned(format!("/{value}"))
    } else {
        Cow::Borrowed(value)
    }
}

fn role(user: &User) -> &'static str {
    if user.is_admin() { "Admin" } else { "User" }
}

/// The arguments on their way.
type Object<'a> = BTreeMap<String, Member<'a>>;

/// What a name stands for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Flag(bool),
    Text(String),
    /// Of a name that a query or a form repeats.
    List(Vec<String>),
    /// Of a JSON body.
    Sent(&'a RawValue),
}

impl From<bool> for Member<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<String> for Member<'_> {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Member<'_> {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<'a> From<&'a RawValue> for Member<'a> {
    fn from(sent: &'a RawValue) -> Self {
        Self::Sent(sent)
    }
}

/// A client's member: envelope names are not its to set.
fn insert<'a>(object: &mut Object<'a>, name: String, value: impl Into<Member<'a>>) {
    if is_clients(&name) {
        object.insert(name, value.into());
    }
}

fn is_clients(name: &str) -> bool {
    !name.starts_with('_') && !name.eq_ignore_ascii_case("org_id")
}

fn add_body<'a>(object: &mut Object<'a>, request: &'a PluginRequest) -> Result<(), ArgumentsError> {
    if request.body.is_empty() {
        return Ok(());
    }
    let content_type = request
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        for (name, value) in form(&request.body)? {
            insert(object, name, value);
        }
        return Ok(());
    }
    match sent::members(&request.body) {
        Some(members) => {
            for (name, value) in members {
                insert(object, name, value);
            }
        }
        None => {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            object.insert("_body".into(), text.into());
            object.insert("_content_type".into(), content_type.into());
        }
    }
    Ok(())
}

/// `a=1&b=2`: a string where a name stands once, a list where it is repeated.
fn form(encoded: &[u8]) -> Result<Object<'static>, ArgumentsError> {
    let mut fields = Object::new();
    for (count, (name, value)) in form_urlencoded::parse(encoded).enumerate() {
        if count >= QUERY_LIMIT {
            return Err(ArgumentsError::Query);
        }
        let value = value.into_owned();
        match fields.get_mut(name.as_ref()) {
            Some(Member::List(values)) => values.push(value),
            Some(Member::Text(first)) => {
                let first = std::mem::take(first);
                fields.insert(name.into_owned(), Member::List(vec![first, value]));
            }
            _ => {
                fields.insert(name.into_owned(), value.into());
            }
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pinfold_policy::{Route, RouteMethod};
    use serde_json::{Value, json};

    use super::*;

    fn request(query: &str, content_type: &str, body: &str) -> PluginRequest {
        let route = Route {
            method: RouteMethod::Post,
            path: "/items/{id}".into(),
            handler: "h".into(),
            middleware: vec![],
            description: String::new(),
        };
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, content_type.parse().unwrap());
        PluginRequest {
            method: http::Method::POST,
            path: "/items/7".into(),
            route: Arc::new(route),
            path_parameters: vec![("id".into(), "7".into())],
            query: Some(query.into()),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn object(request: &PluginRequest, user: Option<&User>) -> Value {
        serde_json::from_slice(&arguments(request, user, None).unwrap()).unwrap()
    }

    #[test]
    fn parts_are_laid_over_each_other_in_the_contracts_order() {
        let request = request(
            "id=8&tag=a&tag=b&n=1",
            "application/json",
            r#"{"n":2,"x":[1]}"#,
        );
        assert_eq!(
            object(&request, None),
            json!({"id": "8", "tag": ["a", "b"], "n": 2, "x": [1], "_method": "POST", "_path": "/items/7"})
        );
    }

    #[test]
    fn what_is_in_a_bodys_members_is_passed_on_as_it_was_sent() {
        let sent = r#"{ "id":{"a" : 1.50, "a":[ ]},"x":9007199254740993000 }"#;
        let request = request("", "application/json", sent);
        let text = arguments(&request, None, None).unwrap();
        assert_eq!(
            text,
            r#"{"_method":"POST","_path":"/items/7","id":{"a" : 1.50, "a":[ ]},"x":9007199254740993000}"#
        );
    }

    #[test]
    fn the_rest_of_a_path_keeps_its_slash() {
        let mut request = request("", "text/plain", "");
        let route = Route {
            path: "/files/{*rest}".into(),
            ..Route::clone(&request.route)
        };
        request.route = Arc::new(route);
        request.path_parameters = vec![("rest".into(), "a/b".into())];
        assert_eq!(object(&request, None)["rest"], json!("/a/b"));
    }

    #[test]
    fn a_client_cannot_set_the_envelope() {
        let forged = "_user_id=1&_is_admin=true&org_id=3&Org_ID=3&_anything=1";
        for request in [
            request(forged, "application/json", "{}"),
            request("", "application/x-www-form-urlencoded", forged),
            request(
                "",
                "application/json",
                r#"{"_is_admin":true,"org_id":3,"ORG_ID":3,"\u005fuser_id":1,"_lang":"x"}"#,
            ),
        ] {
            let got = object(&request, None);
            assert_eq!(
                got,
                json!({"id": "7", "_method": "POST", "_path": "/items/7"})
            );
            let user = User {
                id: "u1".into(),
                login: "ann".into(),
                roles: vec!["user".into()],
            };
            let got = object(&request, Some(&user));
            assert_eq!(
                (&got["_user_id"], &got["_is_admin"]),
                (&json!("u1"), &json!(false))
            );
        }
    }

    #[test]
    fn a_body_that_is_no_object_arrives_as_text_with_its_type() {
        let got = object(&request("", "text/plain", "hi"), None);
        assert_eq!(
            (&got["_body"], &got["_content_type"]),
            (&json!("hi"), &json!("text/plain"))
        );
    }

    #[test]
    fn too_many_parameters_are_refused() {
        let many = "a=1&".repeat(QUERY_LIMIT + 1);
        assert_eq!(
            arguments(&request(&many, "text/plain", ""), None, None),
            Err(ArgumentsError::Query)
        );
    }

    #[test]
    fn a_body_may_grow_to_three_times_its_length_and_no_further() {
        let length = 100_000;
        let sent = |byte: u8| {
            let mut request = request("", "application/octet-stream", "");
            request.body = vec![byte; length].into();
            arguments(&request, None, None)
        };
        for (byte, grown) in [(b'"', 2 * length), (0xff, 3 * length)] {
            let passed = sent(byte).unwrap().len();
            assert!((grown..grown + 200).contains(&passed), "{passed}");
        }
        let Err(ArgumentsError::TooLarge { bytes, limit_bytes }) = sent(1) else {
            panic!("six for one were passed on");
        };
        assert_eq!(limit_bytes, 3 * length + BESIDE_BODY_BYTES);
        assert!(bytes > 6 * length, "{bytes}");
    }
}
