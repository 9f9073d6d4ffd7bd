//! `GET /api/v1/plugins/logs`: what plugins printed and logged, the newest first.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::admin::Control;
use crate::admin::dto::{LogLevel, LogRecord};
use crate::failure::Failure;
use crate::respond;

/// Entries where nobody says how many.
const DEFAULT_LIMIT: usize = 100;
/// Most entries at once: as many as GoatFlow keeps.
const MAX_LIMIT: usize = 1000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) plugin: Option<String>,
    pub(super) level: Option<String>,
    pub(super) limit: usize,
}

impl Query {
    /// Reads a query string. What it does not know it leaves alone, as GoatFlow does.
    pub(super) fn read(text: Option<&str>) -> Result<Self, Failure> {
        let mut query = Self {
            plugin: None,
            level: None,
            limit: DEFAULT_LIMIT,
        };
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            // An empty value is what a form sends for a field that nobody filled in.
            if value.is_empty() {
                continue;
            }
            match &*name {
                "plugin" => query.plugin = Some(value.into_owned()),
                "level" => query.level = Some(value.into_owned()),
                "limit" => query.limit = limit(&value)?,
                _ => {}
            }
        }
        Ok(query)
    }
}

fn limit(text: &str) -> Result<usize, Failure> {
    match text.parse::<usize>() {
        Ok(limit) if limit > 0 => Ok(limit.min(MAX_LIMIT)),
        _ => Err(Failure::plain(
            StatusCode::BAD_REQUEST,
            "gateway.limit",
            "limit is not a number from 1",
        )),
    }
}

/// The entries, with how many there are here and how many are kept.
pub(super) fn answer(control: &dyn Control, query: &Query) -> Response<Full<Bytes>> {
    let plugin = query.plugin.as_deref().map(str::parse);
    let levels: &[LogLevel] = match query.level.as_deref() {
        None => &[
            LogLevel::Trace,
            LogLevel::Debug,
            LogLevel::Info,
            LogLevel::Warn,
            LogLevel::Error,
        ],
        // What GoatFlow has no word for is the nearest one that it has.
        Some("debug") => &[LogLevel::Trace, LogLevel::Debug],
        Some("info") => &[LogLevel::Info],
        Some("warn") => &[LogLevel::Warn],
        Some("error") => &[LogLevel::Error],
        Some(_) => &[],
    };
    let found = match &plugin {
        // No plugin has such a name.
        Some(Err(_)) => control.logs_of_all(None, &[], 0),
        Some(Ok(plugin)) => control.logs_of_all(Some(plugin), levels, query.limit),
        None => control.logs_of_all(None, levels, query.limit),
    };
    let logs: Vec<_> = found
        .records
        .iter()
        .map(|(plugin, record)| Entry::of(plugin.as_str(), record))
        .collect();
    let body = Body {
        count: logs.len(),
        total: found.total,
        logs,
    };
    let body = serde_json::to_vec(&body).expect("log entries are plain data");
    respond::json_answer(StatusCode::OK, body.into())
}

#[derive(Serialize)]
struct Body<'a> {
    logs: Vec<Entry<'a>>,
    count: usize,
    total: usize,
}

/// One entry, with the keys of the contract.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(serialize_with = "timestamp")]
    timestamp: DateTime<Utc>,
    plugin: &'a str,
    level: &'static str,
    message: &'a str,
    fields: &'a Map<String, Value>,
}

impl<'a> Entry<'a> {
    fn of(plugin: &'a str, record: &'a LogRecord) -> Self {
        Self {
            timestamp: record.time,
            plugin,
            level: match record.level {
                LogLevel::Trace | LogLevel::Debug => "debug",
                LogLevel::Info => "info",
                LogLevel::Warn => "warn",
                LogLevel::Error => "error",
            },
            message: &record.message,
            fields: &record.fields,
        }
    }
}

/// As Go writes times: RFC 3339 with what there is below the second.
fn timestamp<S: serde::Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_bounded() {
        let read = |text| Query::read(text).map_err(|failure| failure.status.as_u16());
        let plain = Query {
            plugin: None,
            level: None,
            limit: 100,
        };
        assert_eq!(read(None), Ok(plain.clone()));
        assert_eq!(read(Some("plugin=&level=&limit=&x=1")), Ok(plain));
        let full = Query {
            plugin: Some("a b".into()),
            level: Some("warn".into()),
            limit: 1000,
        };
        assert_eq!(read(Some("plugin=a%20b&level=warn&limit=5000")), Ok(full));
        for odd in ["limit=0", "limit=-1", "limit=many"] {
            assert_eq!(read(Some(odd)), Err(400), "{odd}");
        }
    }
}
