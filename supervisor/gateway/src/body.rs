//! Bodies of requests: read whole, within a limit of their own, one for all of them together, and
//! a deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::refusal::Refusal;

/// Unit of the budget in bytes.
const UNIT_BYTES: usize = 16 << 10;
/// Most bytes that are read and dropped so that a refused client gets to read the answer. A
/// client that sends more finds its connection closed.
const DISCARD_LIMIT_BYTES: usize = 8 << 20;
/// Longest time for that.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Memory for the bodies of all requests together, or a part of it.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget {
    units: Arc<Semaphore>,
    /// What this is a part of.
    whole: Option<Arc<Semaphore>>,
}

impl BodyBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(units)),
            whole: None,
        }
    }

    /// This many bytes of it: who is held to them leaves the rest to others.
    pub(crate) fn part(&self, bytes: usize) -> Self {
        Self {
            whole: Some(Arc::clone(&self.units)),
            ..Self::new(bytes)
        }
    }

    /// What this many bytes take of it, where so much is left.
    pub(crate) fn share(&self, bytes: usize) -> Option<Share> {
        self.units(bytes.div_ceil(UNIT_BYTES))
    }

    fn units(&self, units: usize) -> Option<Share> {
        let units = u32::try_from(units).ok()?;
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(units).ok();
        let own = take(&self.units)?;
        let whole = match &self.whole {
            Some(whole) => Some(take(whole)?),
            None => None,
        };
        Some(Share { own, whole })
    }
}

/// A share of a budget, given back when this goes.
#[derive(Debug)]
pub(crate) struct Share {
    own: OwnedSemaphorePermit,
    whole: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// One of the same budget joins this.
    fn merge(&mut self, more: Self) {
        self.own.merge(more.own);
        if let (Some(whole), Some(more)) = (&mut self.whole, more.whole) {
            whole.merge(more);
        }
    }
}

/// A body, and its share of the budget, given back when this goes.
#[derive(Debug, Default)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    _share: Option<Share>,
}

/// Reads a body to its end.
pub(crate) async fn read<B>(
    body: &mut B,
    limit_bytes: usize,
    budget: &BodyBudget,
    deadline: Instant,
) -> Result<WholeBody, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > u64::try_from(limit_bytes).unwrap_or(u64::MAX) {
        return Err(Refusal::BodyTooLarge { limit_bytes });
    }
    tokio::time::timeout_at(deadline, read_frames(body, limit_bytes, budget))
        .await
        .unwrap_or(Err(Refusal::BodyTimeOut))
}

async fn read_frames<B>(
    body: &mut B,
    limit_bytes: usize,
    budget: &BodyBudget,
) -> Result<WholeBody, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut share: Option<Share> = None;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::BodyCut)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length > limit_bytes {
            return Err(Refusal::BodyTooLarge { limit_bytes });
        }
        grow(&mut share, length, budget)?;
        // Most bodies are one frame, which needs no copy.
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    let bytes = if rest.is_empty() {
        first
    } else {
        rest.freeze()
    };
    Ok(WholeBody {
        bytes,
        _share: share,
    })
}

/// Raises a share of the budget to what this many bytes take.
fn grow(share: &mut Option<Share>, bytes: usize, budget: &BodyBudget) -> Result<(), Refusal> {
    let held = share.as_ref().map_or(0, |share| share.own.num_permits());
    let missing = bytes.div_ceil(UNIT_BYTES).saturating_sub(held);
    if missing == 0 {
        return Ok(());
    }
    let more = budget.units(missing).ok_or(Refusal::BodyBudget)?;
    match share {
        Some(share) => share.merge(more),
        None => *share = Some(more),
    }
    Ok(())
}

/// Reads and drops what is left of a refused request's body, within bounds: a connection that is
/// closed on unread data loses the answer too.
pub(crate) async fn discard<B>(body: &mut B, headers: &HeaderMap)
where
    B: Body<Data = Bytes> + Unpin,
{
    // Reading would tell a client that waits for leave to send that it has it.
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    let dropping = async {
        let mut dropped = 0;
        while let Some(Ok(frame)) = body.frame().await {
            dropped += frame.data_ref().map_or(0, Bytes::len);
            if dropped > DISCARD_LIMIT_BYTES {
                break;
            }
        }
    };
    let _in_time = tokio::time::timeout(DISCARD_TIME, dropping).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn chunks(
        parts: &[&'static str],
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes()))))
            .collect();
        StreamBody::new(stream::iter(parts))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn body_is_whole_up_to_the_limit_and_refused_over_it() {
        let budget = BodyBudget::new(1 << 20);
        let whole = read(&mut chunks(&["ab", "", "cd", "e"]), 5, &budget, soon())
            .await
            .unwrap();
        assert_eq!(whole.bytes, "abcde");
        let over = read(&mut chunks(&["ab", "cdef"]), 5, &budget, soon()).await;
        assert!(matches!(
            over,
            Err(Refusal::BodyTooLarge { limit_bytes: 5 })
        ));
        let announced = read(&mut Full::new(Bytes::from("abcdef")), 5, &budget, soon()).await;
        assert!(matches!(
            announced,
            Err(Refusal::BodyTooLarge { limit_bytes: 5 })
        ));
        let none = read(&mut chunks(&[]), 5, &budget, soon()).await.unwrap();
        assert!(none.bytes.is_empty());
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = BodyBudget::new(UNIT_BYTES);
        let one = read(&mut chunks(&["a", "b"]), 5, &budget, soon())
            .await
            .unwrap();
        let two = read(&mut chunks(&["a"]), 5, &budget, soon()).await;
        assert!(matches!(two, Err(Refusal::BodyBudget)));
        drop(one);
        assert!(read(&mut chunks(&["a"]), 5, &budget, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn who_is_held_to_a_part_leaves_the_rest_to_others() {
        let budget = BodyBudget::new(2 * UNIT_BYTES);
        let part = budget.part(UNIT_BYTES);
        let one = read(&mut chunks(&["a", "b"]), 5, &part, soon())
            .await
            .unwrap();
        let two = read(&mut chunks(&["a"]), 5, &part, soon()).await;
        assert!(matches!(two, Err(Refusal::BodyBudget)));
        let other = read(&mut chunks(&["a"]), 5, &budget, soon()).await.unwrap();
        // And takes nothing that others have.
        drop(one);
        let rest = budget.share(UNIT_BYTES).unwrap();
        assert!(part.share(UNIT_BYTES).is_none());
        drop((other, rest));
        assert!(part.share(UNIT_BYTES).is_some());
        assert!(budget.share(2 * UNIT_BYTES).is_some());
    }

    #[tokio::test]
    async fn body_that_never_ends_is_given_up() {
        let mut body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let at_once = Instant::now() + Duration::from_millis(10);
        let got = read(&mut body, 5, &BodyBudget::new(1 << 20), at_once).await;
        assert!(matches!(got, Err(Refusal::BodyTimeOut)));
    }
}
