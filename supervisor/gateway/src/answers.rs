//! Memory for answers that their clients have yet to read: one budget for all of them together.

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body as _;

use crate::body::{BodyBudget, Share};
use crate::refusal::Refusal;

/// Longest answer in bytes that takes no share of the budget: as many connections as there are by
/// default, each with one, hold no more than the budget itself.
const FREE_BYTES: u64 = 64 << 10;

/// The budget.
#[derive(Debug)]
pub(crate) struct AnswerBudget(BodyBudget);

/// An answer's bytes and their share, given back when the last of them is written or dropped.
struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(BodyBudget::new(bytes))
    }

    /// The same answer, which holds its share for as long as its bytes are somewhere: in the body, or
    /// with the connection that writes them.
    pub(crate) fn hold(
        &self,
        answer: Response<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        if answer.body().size_hint().lower() <= FREE_BYTES {
            return Ok(answer);
        }
        let (head, mut body) = answer.into_parts();
        // Whole bodies are one frame, and it is there.
        let frame = body.frame().now_or_never().flatten();
        let bytes = frame.and_then(Result::ok).map(|frame| frame.into_data());
        let bytes = bytes.and_then(Result::ok).unwrap_or_default();
        let share = self.0.share(bytes.len()).ok_or(Refusal::AnswerBudget)?;
        let held = Held {
            bytes,
            _share: share,
        };
        Ok(Response::from_parts(
            head,
            Full::new(Bytes::from_owner(held)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Response<Full<Bytes>> {
        Response::new(Full::new(vec![b'x'; bytes].into()))
    }

    #[test]
    fn long_answers_share_a_budget_until_their_bytes_are_gone() {
        let budget = AnswerBudget::new(1 << 20);
        let mut body = budget.hold(answer(700_000)).unwrap().into_body();
        // Taken out of the body by whoever writes it.
        let frame = body.frame().now_or_never().unwrap().unwrap().unwrap();
        let bytes = frame.into_data().unwrap();
        drop(body);
        assert_eq!(bytes.len(), 700_000);
        let refused = budget.hold(answer(700_000)).map(drop);
        assert!(matches!(refused, Err(Refusal::AnswerBudget)));
        assert!(
            budget.hold(answer(60_000)).is_ok(),
            "a short one takes none"
        );
        let rest = bytes.slice(600_000..);
        drop(bytes);
        assert!(budget.hold(answer(700_000)).is_err());
        drop(rest);
        assert!(budget.hold(answer(700_000)).is_ok());
    }
}
