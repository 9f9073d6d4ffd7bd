//! The replies of one conversation, taken apart as their bytes arrive.
use std::ops::ControlFlow;
use std::sync::Arc;

use pinfold_gob::{Decoder, Limits};
use tokio::sync::oneshot;

use super::body::Body;
use super::client::Shared;
use super::error::{CallError, End};
use super::header::ResponseHeader;
use super::pending::Taken;
use crate::yamux::{Consumer, StreamError};

/// Replies that answer no call, in the life of a conversation. An honest peer sends none, for a call that was given up is
/// known until it is answered; but nothing else would end them, and they are less work for the peer than for this side.
const UNASKED_LIMIT: usize = 1000;

/// Hands each reply to who waits for it.
pub(super) struct Replies {
    shared: Arc<Shared>,
    decoder: Decoder,
    /// Of the reply whose body is not there as a whole yet.
    header: Option<ResponseHeader>,
    /// Replies so far that answered nothing.
    unasked: usize,
}

impl Replies {
    pub(super) fn new(shared: Arc<Shared>, limits: Limits) -> Self {
        Self {
            shared,
            decoder: Decoder::new(limits),
            header: None,
            unasked: 0,
        }
    }

    /// Takes the next bytes. Whatever is wrong with a header ends the conversation, and so do a body whose end cannot be
    /// found and too many replies to nothing. Of those that are left, no more are taken at once than calls were made.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.decoder.push(bytes);
        while self.take_reply()? {}
        Ok(())
    }

    /// Why there is no more, when nothing more comes.
    pub(super) fn end(&self) -> End {
        if self.header.is_none() && self.decoder.is_clean_end() {
            End::PeerClosed
        } else {
            End::Truncated
        }
    }

    /// Takes one reply; false if it is not there as a whole.
    fn take_reply(&mut self) -> Result<bool, End> {
        let header = match self.header.take() {
            Some(header) => header,
            None => match self.decoder.decode() {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(false),
                Err(source) => return Err(End::Decode { source }),
            },
        };
        let body = match self.decoder.is_ready() {
            Ok(true) => Ok(Body::new(&mut self.decoder)),
            Ok(false) => {
                self.header = Some(header);
                return Ok(false);
            }
            Err(source) if self.decoder.is_broken() => return Err(End::Decode { source }),
            Err(source) => Err(source),
        };
        let taken = self.shared.pending().take(header.seq);
        let waiting = match taken {
            Taken::Waited(waiting) => waiting,
            Taken::GivenUp => return Ok(true),
            Taken::Unknown => {
                self.unasked = self.unasked.saturating_add(1);
                let limit = UNASKED_LIMIT;
                return if self.unasked > limit {
                    Err(End::Unasked { limit })
                } else {
                    Ok(true)
                };
            }
        };
        match body {
            // What comes instead of a reply says nothing.
            _ if !header.error.is_empty() => {
                waiting.fail(CallError::Remote { text: header.error });
            }
            Ok(body) => waiting.reply(body),
            Err(source) => waiting.fail(CallError::Decode { source }),
        }
        Ok(true)
    }
}

/// Replies that a connection's task takes in. When no more come, the conversation's task is told why.
pub(super) struct DirectReplies {
    replies: Replies,
    end: Option<oneshot::Sender<End>>,
}

impl DirectReplies {
    pub(super) fn new(replies: Replies) -> (Self, oneshot::Receiver<End>) {
        let (sender, end) = oneshot::channel();
        let direct = Self {
            replies,
            end: Some(sender),
        };
        (direct, end)
    }

    fn tell(&mut self, end: End) {
        if let Some(sender) = self.end.take() {
            // The conversation may be over already, for another reason.
            sender.send(end).ok();
        }
    }
}

impl Consumer for DirectReplies {
    fn consume(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        match self.replies.take(bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(end) => {
                self.tell(end);
                ControlFlow::Break(())
            }
        }
    }

    fn reset(&mut self) {
        let source = StreamError::Reset.into();
        self.tell(End::Io { source });
    }

    fn idle(&mut self) {
        self.replies.decoder.give_back();
        self.replies.shared.give_back();
    }
}

impl Drop for DirectReplies {
    fn drop(&mut self) {
        let end = self.replies.end();
        self.tell(end);
    }
}
