//! A goatflow plugin's calls back into the host: its JSON forms around the one dispatcher.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pinfold_hostapi::{
    Caller, HEADER_LIMIT, HostApi, HostCall, HostError, HostReply, HttpRequest, HttpResponse,
    LOG_FIELDS_LIMIT_BYTES, LogLevel, PARAMETER_LIMIT, PluginCallError,
};
use pinfold_policy::CallContext;
use pinfold_rpc::netrpc::Place;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::first::{First, FirstMembers};
use super::reply::base64;
use super::wire::HostRequest;

/// How a plugin's generation reads the reply to `config_get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigForm {
    /// Generations 2 and 3: a bare JSON string.
    Bare,
    /// Generation 4: `{"value": text}`.
    Object,
}

/// Runs one call and gives its result as JSON text, or the text of its error.
pub(crate) async fn call(
    host: &HostApi,
    caller: &Caller,
    form: ConfigForm,
    request: HostRequest,
    (context, place): (&CallContext, &Place),
) -> Result<Vec<u8>, String> {
    let HostRequest {
        method,
        args: arguments,
        ..
    } = request;
    let method = method.as_str();
    // Its arguments go when they are read: a call may wait for its turn, and what it does not need may be
    // most of them.
    let read = move || {
        let call = parse(method, &arguments)?;
        // It waits for others, another plugin perhaps that waits for calls of this one: it must not keep
        // them from being read. How many there are is the service's to limit.
        if matches!(call, HostCall::PluginCall { .. } | HostCall::HttpRequest(_)) {
            place.leave();
        }
        Ok(call)
    };
    let called = host.call_unread(caller, named(method), read, context);
    match called.await {
        Ok(reply) => Ok(encode(reply, form)),
        Err(error) => Err(error_text(caller, method, &error)),
    }
}

/// Meters and records a call that is not run, and gives its error: `text`, unless it is over its rate.
pub(crate) async fn refuse(
    host: &HostApi,
    caller: &Caller,
    method: &str,
    text: &str,
    context: &CallContext,
) -> String {
    let read = || Err(text.to_owned());
    match host.call_unread(caller, named(method), read, context).await {
        Ok(_) => text.to_owned(),
        Err(error) => error_text(caller, method, &error),
    }
}

/// Service and operation of a method, by which its calls are metered and recorded.
fn named(method: &str) -> (&'static str, &'static str) {
    match method {
        "db_query" => ("db", "query"),
        "db_exec" => ("db", "exec"),
        "cache_get" => ("cache", "get"),
        "cache_set" => ("cache", "set"),
        "cache_delete" => ("cache", "delete"),
        "log" => ("log", "record"),
        "config_get" => ("config", "get"),
        "http_request" => ("http", "request"),
        "plugin_call" => ("plugin", "call"),
        "send_email" => ("email", "send"),
        _ => ("other", "unknown"),
    }
}

/// Most entries of a list or an object of arguments that are built; more are refused as too many.
const PARAMETERS_KEPT: usize = PARAMETER_LIMIT + 1;
const HEADERS_KEPT: usize = HEADER_LIMIT + 1;
/// Most fields of a log line that are looked at: what is kept of one has room for fewer.
const FIELD_LIMIT: usize = 256;
/// Longest text of the fields that are built: with blanks and escapes it is longer than what is kept of them.
const FIELD_TEXT_LIMIT_BYTES: usize = 8 * LOG_FIELDS_LIMIT_BYTES;

#[derive(Deserialize)]
struct Statement<'a> {
    query: String,
    #[serde(borrow, default)]
    args: Option<First<&'a RawValue, PARAMETERS_KEPT>>,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

#[derive(Deserialize)]
struct CacheSet {
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    ttl: i64,
}

#[derive(Deserialize)]
struct Log<'a> {
    #[serde(default)]
    level: String,
    #[serde(default)]
    message: String,
    #[serde(borrow, default)]
    fields: Option<FirstMembers<&'a RawValue, FIELD_LIMIT>>,
}

#[derive(Deserialize)]
struct HttpCall {
    #[serde(default)]
    method: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    headers: Option<FirstMembers<String, HEADERS_KEPT>>,
    #[serde(default)]
    body: Option<String>,
}

#[derive(Deserialize)]
struct PluginCall<'a> {
    plugin: String,
    #[serde(default)]
    function: String,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

fn parse(method: &str, arguments: &[u8]) -> Result<HostCall, String> {
    fn read<'a, T: Deserialize<'a>>(method: &str, arguments: &'a [u8]) -> Result<T, String> {
        serde_json::from_slice(arguments).map_err(|error| {
            format!(
                "{method}: arguments: line {}, column {}: not what the method takes",
                error.line(),
                error.column()
            )
        })
    }
    let call = match method {
        "db_query" | "db_exec" => {
            let Statement { query, args } = read(method, arguments)?;
            let (database, sql) = named_database(query);
            let parameters = parameters(method, args.unwrap_or_default())?;
            if method == "db_query" {
                HostCall::DbQuery {
                    database,
                    sql,
                    parameters,
                }
            } else {
                HostCall::DbExec {
                    database,
                    sql,
                    parameters,
                }
            }
        }
        "cache_get" => HostCall::CacheGet {
            key: read::<Key>(method, arguments)?.key,
        },
        "cache_delete" => HostCall::CacheDelete {
            key: read::<Key>(method, arguments)?.key,
        },
        "cache_set" => {
            let CacheSet { key, value, ttl } = read(method, arguments)?;
            let value = base64::decode(value.as_deref().unwrap_or_default())
                .ok_or_else(|| format!("{method}: value is not padded base64"))?;
            let ttl = u64::try_from(ttl).ok().filter(|seconds| *seconds > 0);
            HostCall::CacheSet {
                key,
                value: value.into(),
                ttl: ttl.map(Duration::from_secs),
            }
        }
        "log" => {
            let Log {
                level,
                message,
                fields,
            } = read(method, arguments)?;
            let level = match level.to_ascii_lowercase().as_str() {
                "trace" | "debug" => LogLevel::Debug,
                "warn" | "warning" => LogLevel::Warn,
                "error" | "fatal" | "panic" => LogLevel::Error,
                _ => LogLevel::Info,
            };
            let (fields, left_out) = fields.map(log_fields).unwrap_or_default();
            HostCall::Log {
                level,
                message,
                fields,
                left_out,
            }
        }
        "config_get" => HostCall::ConfigGet {
            key: read::<Key>(method, arguments)?.key,
        },
        "http_request" => {
            let HttpCall {
                method: verb,
                url,
                headers,
                body,
            } = read(method, arguments)?;
            let body = base64::decode(body.as_deref().unwrap_or_default())
                .ok_or_else(|| format!("{method}: body is not padded base64"))?;
            HostCall::HttpRequest(HttpRequest {
                method: verb,
                url,
                headers: headers.unwrap_or_default().kept,
                body: body.into(),
            })
        }
        "plugin_call" => {
            let PluginCall {
                plugin,
                function,
                args,
            } = read(method, arguments)?;
            // No arguments are null, as Go writes them.
            let arguments = args.map_or("null", RawValue::get);
            HostCall::PluginCall {
                plugin,
                function,
                arguments: Bytes::copy_from_slice(arguments.as_bytes()),
            }
        }
        // Whatever it is to say: it is refused, or not served.
        "send_email" => HostCall::SendEmail,
        _ => return Err(unknown(method)),
    };
    Ok(call)
}

/// The values of a statement's parameters. What JSON can write and nothing here can hold, as `1e999`
/// or half a surrogate pair, is refused: another value in its place would be stored.
fn parameters(method: &str, args: First<&RawValue, PARAMETERS_KEPT>) -> Result<Vec<Value>, String> {
    let value = |(at, raw): (usize, &RawValue)| {
        parameter(raw)
            .map_err(|_| format!("{method}: parameter {}: not a value that is bound", at + 1))
    };
    args.kept.into_iter().enumerate().map(value).collect()
}

/// One parameter's value. A list or an object is bound as its text: it is not built.
fn parameter(raw: &RawValue) -> Result<Value, serde_json::Error> {
    if raw.get().starts_with(['[', '{']) {
        return Ok(Value::String(raw.get().to_owned()));
    }
    serde_json::from_str(raw.get())
}

/// A log line's fields, and how many are left out: what is built together is what is kept of a line, and
/// measured as that is.
fn log_fields(fields: FirstMembers<&RawValue, FIELD_LIMIT>) -> (Map<String, Value>, usize) {
    let mut left = LOG_FIELDS_LIMIT_BYTES;
    let mut text_left = FIELD_TEXT_LIMIT_BYTES;
    let mut left_out = fields.count.saturating_sub(fields.kept.len());
    let mut built = Map::new();
    for (name, raw) in fields.kept {
        let Some(rest) = text_left.checked_sub(raw.get().len()) else {
            left_out += 1;
            continue;
        };
        text_left = rest;
        let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        match left.checked_sub(name.len() + value.to_string().len()) {
            Some(rest) => {
                left = rest;
                built.insert(name, value);
            }
            None => left_out += 1,
        }
    }
    (built, left_out)
}

/// `@name: SELECT …` selects a named database.
fn named_database(query: String) -> (Option<String>, String) {
    let Some((name, sql)) = query
        .strip_prefix('@')
        .and_then(|rest| rest.split_once(':'))
    else {
        return (None, query);
    };
    (Some(name.trim().to_owned()), sql.trim_start().to_owned())
}

/// The contract's text for a method that a host does not have.
fn unknown(method: &str) -> String {
    format!(
        "unknown host API method: {}",
        method.chars().take(64).collect::<String>()
    )
}

fn prefixed(caller: &Caller, text: &dyn std::fmt::Display) -> String {
    format!("plugin \"{}\": {text}", caller.plugin)
}

/// The contract's words where it has some, else the error's own.
fn error_text(caller: &Caller, method: &str, error: &HostError) -> String {
    match error {
        HostError::Refused(_) | HostError::RateLimited { .. } => prefixed(caller, error),
        HostError::NotServed { .. } => format!("{method} is not supported by this host"),
        HostError::PluginCall {
            target,
            function,
            source,
        } => plugin_call_text(caller, target, function, source),
        error => error.chain(),
    }
}

/// The contract's words for a call that gave no result; the other plugin's own error is passed on
/// as it is.
fn plugin_call_text(
    caller: &Caller,
    target: &str,
    function: &str,
    error: &PluginCallError,
) -> String {
    let caller = &caller.plugin;
    match error {
        PluginCallError::NotFound => {
            format!("plugin {target:?} not found (required by \"{caller}\" to call {function:?})")
        }
        PluginCallError::Disabled => {
            format!("plugin {target:?} is disabled (required by \"{caller}\")")
        }
        PluginCallError::Deadline => {
            format!("plugin {target:?} call {function:?}: context deadline exceeded")
        }
        PluginCallError::Plugin { text } => text.clone(),
        error => format!("plugin {target:?} call {function:?}: {error}"),
    }
}

fn encode(reply: HostReply, form: ConfigForm) -> Vec<u8> {
    match reply {
        // Nobody else holds it: it is not copied.
        HostReply::Rows(json) | HostReply::Json(json) => json.into(),
        HostReply::Http(response) => http_response(response, form),
        HostReply::Affected(count) => format!("{{\"affected\":{count}}}").into_bytes(),
        HostReply::Cached(None) => br#"{"found":false,"value":null}"#.to_vec(),
        HostReply::Cached(Some(value)) => {
            const HEAD: &str = r#"{"found":true,"value":""#;
            const TAIL: &str = r#""}"#;
            let length = HEAD.len() + base64::encoded_bytes(&value) + TAIL.len();
            let mut text = String::with_capacity(length);
            text.push_str(HEAD);
            base64::append(&value, &mut text);
            text.push_str(TAIL);
            text.into_bytes()
        }
        HostReply::Text(text) => {
            let value = match form {
                ConfigForm::Bare => Value::String(text),
                ConfigForm::Object => json!({ "value": text }),
            };
            value.to_string().into_bytes()
        }
        _ => br#"{"ok":true}"#.to_vec(),
    }
}

/// Header lines are told to generation 4 alone: the others' replies have exactly two members. There
/// each name has one text, with lines of one name joined as HTTP joins them; those of `Set-Cookie`,
/// which may hold commas, by line breaks.
fn http_response(response: HttpResponse, form: ConfigForm) -> Vec<u8> {
    let HttpResponse {
        status,
        headers,
        body,
    } = response;
    let mut value = json!({ "status": status, "body": base64::encode(&body) });
    if form == ConfigForm::Object {
        let mut joined: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in headers {
            let break_between = if name == "set-cookie" { "\n" } else { ", " };
            joined
                .entry(name)
                .and_modify(|text| {
                    text.push_str(break_between);
                    text.push_str(&value);
                })
                .or_insert(value);
        }
        value["headers"] = json!(joined);
    }
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_bound_as_text_and_too_many_are_not_built() {
        let text = r#"{"query": "SELECT ?", "args": [1, "a", null, [[], {"b": [1]}], 2.5]}"#;
        let Ok(Statement { args, .. }) = serde_json::from_str(text) else {
            panic!("{text}")
        };
        let parameters = parameters("db_query", args.unwrap()).unwrap();
        let nested = Value::String(r#"[[], {"b": [1]}]"#.into());
        assert_eq!(
            parameters,
            [json!(1), json!("a"), Value::Null, nested, json!(2.5)]
        );
        let many = format!(r#"{{"query": "", "args": [{}1]}}"#, "[],".repeat(1_000_000));
        let Ok(Statement { args, .. }) = serde_json::from_str(&many) else {
            panic!("a list")
        };
        let args = args.unwrap();
        assert_eq!((args.kept.len(), args.count), (PARAMETERS_KEPT, 1_000_001));
    }

    #[test]
    fn a_parameter_that_cannot_be_held_is_refused() {
        for bad in ["1e999", r#""\ud800""#] {
            let text = format!(r#"{{"query": "", "args": [1, {bad}]}}"#);
            let Ok(Statement { args, .. }) = serde_json::from_str(&text) else {
                panic!("{text}")
            };
            assert_eq!(
                parameters("db_exec", args.unwrap()).unwrap_err(),
                "db_exec: parameter 2: not a value that is bound"
            );
        }
    }

    #[test]
    fn repeated_header_lines_are_told_in_one_text() {
        let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let response = HttpResponse {
            status: 200,
            headers: vec![
                line("vary", "a"),
                line("set-cookie", "a=1; expires=Thu, 01 Jan 1970 00:00:00 GMT"),
                line("vary", "b"),
                line("set-cookie", "b=2"),
            ],
            body: Bytes::new(),
        };
        let text = http_response(response, ConfigForm::Object);
        let told: Value = serde_json::from_slice(&text).unwrap();
        let cookies = "a=1; expires=Thu, 01 Jan 1970 00:00:00 GMT\nb=2";
        assert_eq!(
            told["headers"],
            json!({"vary": "a, b", "set-cookie": cookies})
        );
    }

    #[test]
    fn a_cached_value_is_told_in_base64() {
        for (value, told) in [
            (None, json!({"found": false, "value": null})),
            (Some(""), json!({"found": true, "value": ""})),
            (
                Some("\u{ff}\"x"),
                json!({"found": true, "value": "w78ieA=="}),
            ),
        ] {
            let reply = HostReply::Cached(value.map(Bytes::from));
            let text = encode(reply, ConfigForm::Object);
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), told);
        }
        for (reply, text) in [
            (HostReply::Affected(7), r#"{"affected":7}"#),
            (HostReply::Done, r#"{"ok":true}"#),
            (HostReply::Rows("[]".into()), "[]"),
        ] {
            assert_eq!(encode(reply, ConfigForm::Bare), text.as_bytes());
        }
    }

    #[test]
    fn large_fields_of_a_log_line_are_not_built() {
        // The one is all that there is of it, the other mostly blanks.
        let large = format!("[{}1]", "[],".repeat(10_000));
        let wide = format!("[{}1]", " ".repeat(FIELD_TEXT_LIMIT_BYTES));
        let text =
            format!(r#"{{"fields": {{"a": 1, "large": {large}, "wide": {wide}, "b": [2]}}}}"#);
        let Ok(Log { fields, .. }) = serde_json::from_str(&text) else {
            panic!("a line")
        };
        let (fields, left_out) = log_fields(fields.unwrap());
        assert_eq!(Value::Object(fields), json!({"a": 1, "b": [2]}));
        assert_eq!(left_out, 2);
    }

    #[test]
    fn blanks_and_escapes_of_a_log_line_take_no_place_of_its_fields() {
        let escaped = format!("\"{}\"", "\\u003c".repeat(4_000));
        let blank = format!("[{}1]", " ".repeat(6_000));
        let text = format!(r#"{{"fields": {{"a": {escaped}, "b": {blank}, "c": {blank}}}}}"#);
        let Ok(Log { fields, .. }) = serde_json::from_str(&text) else {
            panic!("a line")
        };
        let (fields, left_out) = log_fields(fields.unwrap());
        let kept = json!({"a": "<".repeat(4_000), "b": [1], "c": [1]});
        assert_eq!((Value::Object(fields), left_out), (kept, 0));
    }

    #[test]
    fn fields_of_a_log_line_are_built_as_far_as_they_are_kept_together() {
        let members: Vec<String> = (0..400).map(|at| format!("\"k{at:03}\": 1")).collect();
        let object = format!("{{{}}}", members.join(","));
        let fields: Vec<String> = (0..300)
            .map(|at| format!("\"field{at:03}\": {object}"))
            .collect();
        let text = format!(r#"{{"fields": {{{}}}}}"#, fields.join(","));
        let Ok(HostCall::Log {
            fields, left_out, ..
        }) = parse("log", text.as_bytes())
        else {
            panic!("a line")
        };
        assert!(fields.contains_key("field000") && fields.contains_key("field001"));
        assert_eq!((fields.len(), left_out), (2, 298));
    }

    #[test]
    fn a_call_is_metered_and_recorded_as_what_it_is_read_as() {
        for (method, arguments) in [
            ("db_query", r#"{"query": "SELECT 1"}"#),
            ("db_exec", r#"{"query": "DELETE FROM a"}"#),
            ("cache_get", r#"{"key": "k"}"#),
            ("cache_set", r#"{"key": "k", "value": ""}"#),
            ("cache_delete", r#"{"key": "k"}"#),
            ("log", "{}"),
            ("config_get", r#"{"key": "k"}"#),
            ("http_request", "{}"),
            ("plugin_call", r#"{"plugin": "p"}"#),
            ("send_email", "no JSON"),
        ] {
            let call = parse(method, arguments.as_bytes()).unwrap();
            assert_eq!(named(method), (call.service(), call.method()), "{method}");
        }
        for method in ["translate", "", "db_Query"] {
            let said = parse(method, b"{}").unwrap_err();
            assert_eq!(said, format!("unknown host API method: {method}"));
            assert_eq!(named(method), ("other", "unknown"));
        }
    }
}
