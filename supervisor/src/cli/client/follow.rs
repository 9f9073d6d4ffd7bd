//! Answers that go on: lines of JSON, read one after the other.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pinfold_gateway::admin::dto::{EventQuery, FollowLine, LogQuery};
use pinfold_policy::PluginId;
use tokio::net::UnixStream;

use super::{Client, ClientError, log_pairs, named, request};
use crate::cli::exit::Failure;
use crate::cli::output;

/// Longest line: a log record with all its fields.
const LINE_LIMIT_BYTES: usize = 1 << 20;
/// Longest answer that says why there is none.
const PROBLEM_LIMIT_BYTES: usize = 64 << 10;
/// How long nothing may come: the daemon gives a sign of life each quarter of this.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether somebody still reads the lines.
const READER_LOOK: Duration = Duration::from_millis(500);

/// What to do with a line.
pub(in crate::cli) type Told = Result<ControlFlow<()>, Failure>;

impl Client {
    /// Gives every event to `tell`, first those that are there, until it has had enough.
    pub(in crate::cli) async fn follow_events(
        &self,
        query: &EventQuery,
        tell: impl FnMut(FollowLine) -> Told,
    ) -> Result<(), Failure> {
        let path = format!("/events?{}", event_pairs(query));
        self.follow(&path, tell).await
    }

    /// The same with a plugin's log.
    pub(in crate::cli) async fn follow_logs(
        &self,
        plugin: &PluginId,
        query: LogQuery,
        tell: impl FnMut(FollowLine) -> Told,
    ) -> Result<(), Failure> {
        let path = format!("/plugins/{plugin}/logs?{}", log_pairs(query));
        self.follow(&path, tell).await
    }

    async fn follow(
        &self,
        path: &str,
        mut tell: impl FnMut(FollowLine) -> Told,
    ) -> Result<(), Failure> {
        let named = named(&Method::GET, path);
        let broken = |source| ClientError::Transport {
            request: named.clone(),
            source,
        };
        let late = |_| ClientError::Deadline {
            request: named.clone(),
            limit: SILENCE_LIMIT,
        };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| self.not_connected(source))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let read = async {
            let request = request(Method::GET, path, Full::new(Bytes::new()));
            let answer = tokio::time::timeout(SILENCE_LIMIT, sender.send_request(request))
                .await
                .map_err(late)?
                .map_err(broken)?;
            let status = answer.status();
            let mut body = answer.into_body();
            if !status.is_success() {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "its size is limited by what is wrapped around it"
                )]
                let problem = Limited::new(body, PROBLEM_LIMIT_BYTES).collect().await;
                let problem = problem.map(|body| body.to_bytes()).unwrap_or_default();
                return Err(super::refused(&named, status, &problem).into());
            }
            let mut unread = BytesMut::new();
            loop {
                while let Some(line) = line(&mut unread) {
                    let line = serde_json::from_slice(&line).map_err(|source| {
                        let request = named.clone();
                        ClientError::NotUnderstood { request, source }
                    })?;
                    match line {
                        FollowLine::Heartbeat(_) => {}
                        FollowLine::End(why) => return Err(ClientError::Ended { why }.into()),
                        line => {
                            if tell(line)?.is_break() {
                                return Ok(());
                            }
                        }
                    }
                }
                if unread.len() > LINE_LIMIT_BYTES {
                    return Err(ClientError::TooLarge {
                        request: named.clone(),
                        limit_bytes: LINE_LIMIT_BYTES,
                    }
                    .into());
                }
                let frame = tokio::time::timeout(SILENCE_LIMIT, body.frame());
                let Some(frame) = frame.await.map_err(late)? else {
                    let why = "the daemon is gone".to_owned();
                    return Err(ClientError::Ended { why }.into());
                };
                if let Ok(data) = frame.map_err(broken)?.into_data() {
                    unread.extend_from_slice(&data);
                }
            }
        };
        // What ends the connection also ends the reading, and that names the reason.
        let driven = async {
            connection.await.unwrap_or_default();
            std::future::pending().await
        };
        tokio::select! {
            read = read => read,
            never = driven => never,
            () = unread() => Ok(()),
        }
    }
}

/// Waits until nobody reads what is printed, as when `head` has its lines: that is an end like any
/// other, and the next line may be long in coming.
async fn unread() {
    let mut looks = tokio::time::interval(READER_LOOK);
    while output::has_reader() {
        looks.tick().await;
    }
}

/// Takes the first line, where there is a whole one.
fn line(unread: &mut BytesMut) -> Option<BytesMut> {
    let end = unread.iter().position(|byte| *byte == b'\n')?;
    Some(unread.split_to(end + 1))
}

pub(super) fn event_pairs(query: &EventQuery) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.append_pair("limit", &query.limit.to_string());
    if query.follow {
        pairs.append_pair("follow", "true");
    }
    if let Some(plugin) = &query.plugin {
        pairs.append_pair("plugin", plugin.as_str());
    }
    if let Some(after) = query.after {
        pairs.append_pair("after", &after.to_string());
    }
    pairs.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_one_by_one_and_a_part_waits() {
        let mut unread = BytesMut::from(&b"{\"a\":1}\n{}\n{\"b"[..]);
        let mut next = || line(&mut unread).map(|line| String::from_utf8(line.to_vec()).unwrap());
        assert_eq!(next().as_deref(), Some("{\"a\":1}\n"));
        assert_eq!(next().as_deref(), Some("{}\n"));
        assert_eq!(next(), None);
        assert_eq!(&unread[..], b"{\"b");
    }
}
