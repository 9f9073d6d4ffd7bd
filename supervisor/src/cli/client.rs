//! Asks the daemon over its administration socket: HTTP/1.1 with JSON, a connection for each
//! request.

mod error;
mod follow;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pinfold_gateway::admin::dto::{
    CreatedToken, EventQuery, EventView, LogFilterView, LogQuery, LogRecord, NewLogFilter,
    NewToken, PluginDetail, PluginView, PostureView, RecordId, RescanQuery, StatusView, TokenView,
    UsageView,
};
use pinfold_policy::PluginId;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

pub(super) use error::ClientError;

/// Largest answer read: a plugin's result may be large, endless it is not.
const ANSWER_LIMIT_BYTES: usize = 256 << 20;
/// For what the daemon answers from memory, with room for a machine that is busy.
const PLAIN_LIMIT: Duration = Duration::from_secs(30);
/// For what takes the daemon time; its own limits are shorter and say more.
const LONG_LIMIT: Duration = Duration::from_secs(600);

/// The daemon, by its socket.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
    /// Whether a developer's daemon is meant: decides what to advise.
    development: bool,
}

impl Client {
    pub(super) fn new(socket: PathBuf, development: bool) -> Self {
        Self {
            socket,
            development,
        }
    }

    pub(super) async fn status(&self) -> Result<StatusView, ClientError> {
        self.get("/status", PLAIN_LIMIT).await
    }

    pub(super) async fn plugins(&self) -> Result<Vec<PluginView>, ClientError> {
        self.get("/plugins", PLAIN_LIMIT).await
    }

    pub(super) async fn plugin(&self, plugin: &PluginId) -> Result<PluginDetail, ClientError> {
        self.get(&format!("/plugins/{plugin}"), PLAIN_LIMIT).await
    }

    pub(super) async fn usage(&self) -> Result<UsageView, ClientError> {
        self.get("/usage", PLAIN_LIMIT).await
    }

    pub(super) async fn events(&self, query: &EventQuery) -> Result<Vec<EventView>, ClientError> {
        let path = format!("/events?{}", follow::event_pairs(query));
        self.get(&path, PLAIN_LIMIT).await
    }

    /// Switches a plugin on or off, or starts it anew, and waits until that is done.
    pub(super) async fn change(
        &self,
        plugin: &PluginId,
        change: Change,
    ) -> Result<PluginDetail, ClientError> {
        let path = format!("/plugins/{plugin}/{}", change.word());
        let (_, body) = self
            .ask(Method::POST, &path, Bytes::new(), LONG_LIMIT)
            .await?;
        read(&Method::POST, &path, &body)
    }

    pub(super) async fn logs(
        &self,
        plugin: &PluginId,
        query: LogQuery,
    ) -> Result<Vec<LogRecord>, ClientError> {
        let query = log_pairs(query);
        self.get(&format!("/plugins/{plugin}/logs?{query}"), PLAIN_LIMIT)
            .await
    }

    /// Calls a function; arguments and result are JSON text.
    pub(super) async fn call(
        &self,
        plugin: &PluginId,
        function: &str,
        arguments: Bytes,
    ) -> Result<Bytes, ClientError> {
        let path = format!("/plugins/{plugin}/call/{}", percent_encoded(function));
        let (_, body) = self.ask(Method::POST, &path, arguments, LONG_LIMIT).await?;
        Ok(body)
    }

    /// Has the daemon look again at a plugin, and waits until that is ready or has failed. `None`
    /// where it is no more.
    pub(super) async fn rescan(
        &self,
        plugin: &PluginId,
        why: &RescanQuery,
    ) -> Result<Option<PluginDetail>, ClientError> {
        let path = with_query(&format!("/plugins/{plugin}/rescan"), why);
        let (status, body) = self
            .ask(Method::POST, &path, Bytes::new(), LONG_LIMIT)
            .await?;
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        read(&Method::POST, &path, &body).map(Some)
    }

    /// Has the daemon look again at every plugin, and waits until each is ready or has failed.
    pub(super) async fn rescan_all(
        &self,
        why: &RescanQuery,
    ) -> Result<Vec<PluginDetail>, ClientError> {
        let path = with_query("/rescan", why);
        let (_, body) = self
            .ask(Method::POST, &path, Bytes::new(), LONG_LIMIT)
            .await?;
        read(&Method::POST, &path, &body)
    }

    /// Has the daemon take a record into the audit trail that was written down before.
    pub(super) async fn take_record(&self, record: &RecordId) -> Result<(), ClientError> {
        let path = format!("/audit/pending/{record}");
        self.ask(Method::POST, &path, Bytes::new(), PLAIN_LIMIT)
            .await?;
        Ok(())
    }

    pub(super) async fn posture(
        &self,
        plugin: Option<&PluginId>,
    ) -> Result<PostureView, ClientError> {
        let path = plugin.map_or_else(|| "/posture".into(), |plugin| format!("/posture/{plugin}"));
        self.get(&path, LONG_LIMIT).await
    }

    pub(super) async fn create_token(&self, token: &NewToken) -> Result<CreatedToken, ClientError> {
        let body = serde_json::to_vec(token).expect("a token is plain data");
        let (_, body) = self
            .ask(Method::POST, "/tokens", body.into(), PLAIN_LIMIT)
            .await?;
        read(&Method::POST, "/tokens", &body)
    }

    pub(super) async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.get("/tokens", PLAIN_LIMIT).await
    }

    pub(super) async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/tokens/{}", percent_encoded(id));
        self.ask(Method::DELETE, &path, Bytes::new(), PLAIN_LIMIT)
            .await?;
        Ok(())
    }

    pub(super) async fn log_filter(&self) -> Result<LogFilterView, ClientError> {
        self.get("/log-filter", PLAIN_LIMIT).await
    }

    pub(super) async fn set_log_filter(
        &self,
        wanted: &NewLogFilter,
    ) -> Result<LogFilterView, ClientError> {
        let body = serde_json::to_vec(wanted).expect("a filter is plain data");
        let (_, body) = self
            .ask(Method::PUT, "/log-filter", body.into(), PLAIN_LIMIT)
            .await?;
        read(&Method::PUT, "/log-filter", &body)
    }

    pub(super) async fn reset_log_filter(&self) -> Result<LogFilterView, ClientError> {
        let (_, body) = self
            .ask(Method::DELETE, "/log-filter", Bytes::new(), PLAIN_LIMIT)
            .await?;
        read(&Method::DELETE, "/log-filter", &body)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let (_, body) = self.ask(Method::GET, path, Bytes::new(), limit).await?;
        read(&Method::GET, path, &body)
    }

    /// One request and its whole answer, which is a success.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let request = named(&method, path);
        let late = |_| ClientError::Deadline {
            request: request.clone(),
            limit,
        };
        let exchange = self.exchange(method, path, body);
        let (status, body) = tokio::time::timeout(limit, exchange)
            .await
            .map_err(late)??;
        if status.is_success() {
            return Ok((status, body));
        }
        Err(refused(&request, status, &body))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| self.not_connected(source))?;
        let named = named(&method, path);
        let broken = |source| ClientError::Transport {
            request: named.clone(),
            source,
        };
        let request = request(method, path, Full::new(body));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            #[expect(
                clippy::disallowed_methods,
                reason = "its size is limited by what is wrapped around it"
            )]
            let collected = Limited::new(answer.into_body(), ANSWER_LIMIT_BYTES)
                .collect()
                .await;
            match collected {
                Ok(body) => Ok((status, body.to_bytes())),
                Err(error) => Err(match error.downcast::<hyper::Error>() {
                    Ok(source) => broken(*source),
                    Err(error) => {
                        debug_assert!(error.is::<LengthLimitError>(), "it has no other error");
                        ClientError::TooLarge {
                            request: named.clone(),
                            limit_bytes: ANSWER_LIMIT_BYTES,
                        }
                    }
                }),
            }
        };
        // What ends the connection also ends the exchange, and that names the reason.
        let driven = async {
            connection.await.unwrap_or_default();
            std::future::pending().await
        };
        tokio::select! {
            answered = answered => answered,
            never = driven => never,
        }
    }

    fn not_connected(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning {
                socket,
                source,
                development: self.development,
            },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket, source },
            _ => ClientError::Connect { socket, source },
        }
    }
}

/// What is done to a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Enable,
    Disable,
    Reload,
}

impl Change {
    const fn word(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Reload => "reload",
        }
    }
}

fn request<B>(method: Method, path: &str, body: B) -> Request<B> {
    Request::builder()
        .method(method)
        .uri(format!("/api/pinfold/v1{path}"))
        .header(HOST, "pinfold")
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .expect("paths are of plugin ids and percent-encoded names")
}

/// Why there is no result, as the daemon says.
fn refused(request: &str, status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(_) => ClientError::Status {
            request: request.to_owned(),
            status,
        },
    }
}

fn with_query(path: &str, why: &RescanQuery) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    if let Some(because) = &why.because {
        pairs.append_pair("because", &word(because));
    }
    if let Some(key) = &why.key {
        pairs.append_pair("key", key.as_str());
    }
    if let Some(record) = &why.record {
        pairs.append_pair("record", record.as_str());
    }
    format!("{path}?{}", pairs.finish())
}

fn log_pairs(query: LogQuery) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.append_pair("limit", &query.limit.to_string());
    for (name, word) in [
        ("level", query.level.map(|level| word(&level))),
        ("stream", query.stream.map(|stream| word(&stream))),
        ("follow", query.follow.then(|| "true".to_owned())),
    ] {
        if let Some(word) = word {
            pairs.append_pair(name, &word);
        }
    }
    pairs.finish()
}

fn named(method: &Method, path: &str) -> String {
    format!("{method} {path}")
}

fn read<T: DeserializeOwned>(method: &Method, path: &str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| ClientError::NotUnderstood {
        request: named(method, path),
        source,
    })
}

/// The word that stands for a plain value in JSON.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A text as one segment of a path (RFC 3986, section 3.3).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            // A dot as well: two of them alone would be a step up.
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
