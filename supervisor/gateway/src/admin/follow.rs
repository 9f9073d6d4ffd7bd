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
use tokio::time::Instant;

use super::dto::FollowLine;
use crate::authenticate::Credential;

/// Lines as they come, without an end but where the last one says so.
pub type Following = BoxStream<'static, FollowLine>;

/// How long nothing happens before the follower is told that the daemon lives. Shorter than what
/// proxies take for a dead connection. As often the token is looked at again by which it follows.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Most lines that are sent as one piece.
const LINES_AT_ONCE: usize = 64;

/// The last line of who follows with a token that was revoked, or has ended.
const TOKEN_OVER: &str = "the token is no longer accepted";

/// The answer that gives these lines, as long as the credential is good where there is one.
pub(super) fn answer(following: Following, credential: Option<Credential>) -> Response {
    let pieces = beating(following, credential, HEARTBEAT)
        .ready_chunks(LINES_AT_ONCE)
        .map(|lines| Ok::<_, Infallible>(piece(&lines)));
    let kind = HeaderValue::from_static("application/x-ndjson");
    ([(CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response()
}

fn beating(
    following: Following,
    credential: Option<Credential>,
    every: Duration,
) -> impl Stream<Item = FollowLine> + Send {
    let beating = Beating {
        following,
        credential,
        looked: Instant::now(),
        every,
        is_over: false,
    };
    stream::unfold(beating, async |mut beating| {
        let line = beating.next().await?;
        Some((line, beating))
    })
}

struct Beating {
    following: Following,
    credential: Option<Credential>,
    /// When the credential was looked at last.
    looked: Instant,
    every: Duration,
    is_over: bool,
}

impl Beating {
    async fn next(&mut self) -> Option<FollowLine> {
        if self.is_over {
            return None;
        }
        let next = tokio::time::timeout(self.every, self.following.next()).await;
        // Also where there is never silence.
        if let Some(credential) = &self.credential
            && self.looked.elapsed() >= self.every
        {
            if !credential.is_administrators().await {
                self.is_over = true;
                return Some(FollowLine::End(TOKEN_OVER.into()));
            }
            self.looked = Instant::now();
        }
        next.unwrap_or_else(|_| Some(FollowLine::Heartbeat(Utc::now())))
    }
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, ready};
    use http::HeaderMap;
    use http::header::AUTHORIZATION;
    use pinfold_policy::User;

    use super::*;
    use crate::{Tokens, TokensError};

    #[tokio::test]
    async fn silence_is_filled_with_signs_of_life_and_lines_come_through() {
        let lines = stream::iter([FollowLine::Missed(3)]).chain(stream::pending());
        let mut beating = Box::pin(beating(lines.boxed(), None, Duration::from_millis(1)));
        assert_eq!(beating.next().await, Some(FollowLine::Missed(3)));
        for _ in 0..2 {
            let line = beating.next().await;
            assert!(matches!(line, Some(FollowLine::Heartbeat(_))), "{line:?}");
        }
    }

    /// Accepts any token as an administrator's, until it is told otherwise.
    struct Door(AtomicBool);

    impl Tokens for Door {
        fn authenticate<'a>(
            &'a self,
            token: &'a str,
        ) -> BoxFuture<'a, Result<Option<Arc<User>>, TokensError>> {
            let user = Arc::new(User {
                id: token.into(),
                login: token.into(),
                roles: vec!["admin".into()],
            });
            let is_open = self.0.load(Ordering::Relaxed);
            ready(Ok(is_open.then_some(user))).boxed()
        }
    }

    #[tokio::test]
    async fn who_follows_with_a_token_ends_with_it_in_silence_and_in_a_flood() {
        let silence = stream::pending().boxed();
        let flood = stream::repeat(FollowLine::Missed(1)).boxed();
        for following in [silence, flood] {
            let door = Arc::new(Door(AtomicBool::new(true)));
            let tokens: Arc<dyn Tokens> = Arc::clone(&door) as _;
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer t"));
            let credential = Credential::of(&tokens, &headers);
            let every = Duration::from_millis(1);
            let mut lines = Box::pin(beating(following, credential, every));
            let line = lines.next().await;
            assert!(!matches!(line, Some(FollowLine::End(_))), "{line:?}");
            door.0.store(false, Ordering::Relaxed);
            // A stream that is always ready gives nobody else a turn, but time passes.
            let last = loop {
                match lines.next().await {
                    Some(FollowLine::End(why)) => break why,
                    Some(_) => {}
                    None => panic!("it ended without a word"),
                }
            };
            assert_eq!(last, TOKEN_OVER);
            assert_eq!(lines.next().await, None);
        }
    }

    #[tokio::test]
    async fn what_is_ready_is_one_piece_and_the_end_is_the_end() {
        let lines = [FollowLine::Missed(1), FollowLine::End("over".into())];
        let answer = answer(stream::iter(lines).boxed(), None);
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        let pieces: Vec<_> = answer.into_body().into_data_stream().collect().await;
        let pieces: Vec<_> = pieces.into_iter().map(Result::unwrap).collect();
        assert_eq!(pieces, ["{\"missed\":1}\n{\"end\":\"over\"}\n"]);
    }
}
