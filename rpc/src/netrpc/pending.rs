//! Calls that have no reply yet.
use std::collections::BTreeMap;

use pinfold_gob::DecodeError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::body::Body;
use super::error::CallError;

/// Who waits for one reply, whatever its type.
pub(super) trait Waiting: Send {
    /// Decodes the reply and hands it on.
    fn reply(self: Box<Self>, body: Body<'_>);

    /// Tells that there is none.
    fn fail(self: Box<Self>, error: CallError);
}

/// A caller that decodes with `F`.
pub(super) struct Caller<R, F> {
    pub(super) decode: F,
    pub(super) sender: oneshot::Sender<Result<R, CallError>>,
}

impl<R, F> Waiting for Caller<R, F>
where
    R: Send,
    F: FnOnce(Body<'_>) -> Result<R, DecodeError> + Send,
{
    fn reply(self: Box<Self>, body: Body<'_>) {
        let Self { decode, sender } = *self;
        // The caller may have gone; then nobody wants the reply.
        sender
            .send(decode(body).map_err(|source| CallError::Decode { source }))
            .ok();
    }

    fn fail(self: Box<Self>, error: CallError) {
        self.sender.send(Err(error)).ok();
    }
}

/// All calls of one conversation that the peer has not answered.
#[derive(Default)]
pub(super) struct Pending {
    next_seq: u64,
    calls: BTreeMap<u64, Call>,
    given_up: usize,
    closed: bool,
}

/// What a reply answers.
pub(super) enum Taken {
    /// A call that is waited for.
    Waited(Box<dyn Waiting>),
    /// One that nobody waits for any more: the peer could not know.
    GivenUp,
    /// None: it was never made, or has its reply.
    Unknown,
}

enum Call {
    Waited(Box<dyn Waiting>),
    /// Nobody waits any more. The peer could answer until the deadline: before it, the call says
    /// nothing of the peer, for whoever waited may have gone by themselves.
    GivenUp {
        deadline: Instant,
    },
}

impl Pending {
    /// The number that the next call will have.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Adds a call under that number; false when the conversation is over and no reply can come.
    pub(super) fn add(&mut self, waiting: Box<dyn Waiting>) -> bool {
        if self.closed {
            return false;
        }
        self.calls.insert(self.next_seq, Call::Waited(waiting));
        self.next_seq = self.next_seq.wrapping_add(1);
        true
    }

    /// Takes a call that has its reply.
    pub(super) fn take(&mut self, seq: u64) -> Taken {
        match self.calls.remove(&seq) {
            Some(Call::Waited(waiting)) => Taken::Waited(waiting),
            Some(Call::GivenUp { .. }) => {
                self.given_up = self.given_up.saturating_sub(1);
                Taken::GivenUp
            }
            None => Taken::Unknown,
        }
    }

    /// Nobody waits for this call any more, unless it has its reply.
    pub(super) fn give_up(&mut self, seq: u64, deadline: Instant) {
        if let Some(call @ Call::Waited(_)) = self.calls.get_mut(&seq) {
            *call = Call::GivenUp { deadline };
            self.given_up = self.given_up.saturating_add(1);
        }
    }

    /// How many calls were given up and are unanswered.
    pub(super) fn given_up(&self) -> usize {
        self.given_up
    }

    /// How many of those the peer has left unanswered beyond their deadline.
    pub(super) fn overdue(&self, now: Instant) -> usize {
        let is_overdue =
            |call: &&Call| matches!(call, Call::GivenUp { deadline } if *deadline <= now);
        self.calls.values().filter(is_overdue).count()
    }

    /// No reply will come any more: gives back all who wait.
    pub(super) fn close(&mut self) -> Vec<Box<dyn Waiting>> {
        self.closed = true;
        self.given_up = 0;
        let waited = |(_, call)| match call {
            Call::Waited(waiting) => Some(waiting),
            Call::GivenUp { .. } => None,
        };
        std::mem::take(&mut self.calls)
            .into_iter()
            .filter_map(waited)
            .collect()
    }
}
