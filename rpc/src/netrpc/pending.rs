//! Calls that have no reply yet.
use std::collections::HashMap;

use pinfold_gob::DecodeError;
use tokio::sync::oneshot;

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
    calls: HashMap<u64, Option<Box<dyn Waiting>>>,
    abandoned: usize,
    closed: bool,
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
        self.calls.insert(self.next_seq, Some(waiting));
        self.next_seq = self.next_seq.wrapping_add(1);
        true
    }

    /// Takes a call that has its reply; nothing for one that is unknown or abandoned.
    pub(super) fn take(&mut self, seq: u64) -> Option<Box<dyn Waiting>> {
        let call = self.calls.remove(&seq)?;
        if call.is_none() {
            self.abandoned = self.abandoned.saturating_sub(1);
        }
        call
    }

    /// Nobody waits for this call any more. Returns how many such calls are unanswered.
    pub(super) fn abandon(&mut self, seq: u64) -> usize {
        if let Some(call) = self.calls.get_mut(&seq)
            && call.take().is_some()
        {
            self.abandoned = self.abandoned.saturating_add(1);
        }
        self.abandoned
    }

    /// No reply will come any more: gives back all who wait.
    pub(super) fn close(&mut self) -> Vec<Box<dyn Waiting>> {
        self.closed = true;
        self.abandoned = 0;
        self.calls.drain().filter_map(|(_, call)| call).collect()
    }
}
