//! Answers that go on: a JSON object a line (`application/x-ndjson`), with a sign of life when
//! nothing happens.
//!
//! What waits for a follower is bounded by whoever gives the lines; here they are taken only as
//! fast as the connection takes them.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chrono::Utc;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::dto::FollowLine;

/// Lines as they come, without an end but where the last one says so.
pub type Following = BoxStream<'static, FollowLine>;

/// How long nothing happens before the follower is told that the daemon lives. Shorter than what
/// proxies take for a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Most lines that are sent as one piece.
const LINES_AT_ONCE: usize = 64;

/// The answer that gives these lines.
pub(super) fn answer(following: Following) -> Response {
    let pieces = beating(following, HEARTBEAT)
        .ready_chunks(LINES_AT_ONCE)
        .map(|lines| Ok::<_, Infallible>(piece(&lines)));
    let kind = HeaderValue::from_static("application/x-ndjson");
    ([(CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response()
}

fn beating(following: Following, every: Duration) -> impl Stream<Item = FollowLine> + Send {
    stream::unfold(following, move |mut following| async move {
        let line = match tokio::time::timeout(every, following.next()).await {
            Ok(line) => line?,
            Err(_) => FollowLine::Heartbeat(Utc::now()),
        };
        Some((line, following))
    })
}

fn piece(lines: &[FollowLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("lines are plain data");
        text.push(b'\n');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_is_filled_with_signs_of_life_and_lines_come_through() {
        let lines = stream::iter([FollowLine::Missed(3)]).chain(stream::pending());
        let mut beating = Box::pin(beating(lines.boxed(), Duration::from_millis(1)));
        assert_eq!(beating.next().await, Some(FollowLine::Missed(3)));
        for _ in 0..2 {
            let line = beating.next().await;
            assert!(matches!(line, Some(FollowLine::Heartbeat(_))), "{line:?}");
        }
    }

    #[tokio::test]
    async fn what_is_ready_is_one_piece_and_the_end_is_the_end() {
        let lines = [FollowLine::Missed(1), FollowLine::End("over".into())];
        let answer = answer(stream::iter(lines).boxed());
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        let pieces: Vec<_> = answer.into_body().into_data_stream().collect().await;
        let pieces: Vec<_> = pieces.into_iter().map(Result::unwrap).collect();
        assert_eq!(pieces, ["{\"missed\":1}\n{\"end\":\"over\"}\n"]);
    }
}
