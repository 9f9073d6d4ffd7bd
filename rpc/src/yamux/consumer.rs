//! Streams that somebody takes bytes from as they arrive, without a task and a buffer of their own.
use std::fmt;
use std::ops::ControlFlow;

use bytes::BytesMut;

use super::session::Handed;
use super::table::StreamKey;

/// Takes what arrives on one stream, in the connection's task: it must not wait, and what it does holds up the
/// session's other streams.
pub trait Consumer: Send {
    /// Takes the next bytes, in pieces of any size. After a break nothing more is shown.
    fn consume(&mut self, bytes: &[u8]) -> ControlFlow<()>;

    /// The stream was ended in both directions at once: what had not arrived is lost. The consumer is dropped then.
    fn reset(&mut self);

    /// Nothing has passed on the connection for a while: spare memory can be given back.
    fn idle(&mut self);
}

/// A consumer that the connection's task does not have yet.
pub(super) struct NewConsumer {
    pub(super) key: StreamKey,
    /// What arrived before.
    pub(super) received: BytesMut,
    pub(super) consumer: Box<dyn Consumer>,
}

impl fmt::Debug for NewConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewConsumer")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The consumers of one connection; its task holds them.
#[derive(Default)]
pub(super) struct Consumers {
    /// By the stream's index.
    places: Vec<Option<(StreamKey, Box<dyn Consumer>)>>,
}

impl Consumers {
    /// Adds those that are new and shows them what arrived before.
    pub(super) fn add(&mut self, new: Vec<NewConsumer>) {
        for NewConsumer {
            key,
            received,
            mut consumer,
        } in new
        {
            if !received.is_empty() && consumer.consume(&received).is_break() {
                continue;
            }
            let places = key.index().saturating_add(1);
            if self.places.len() < places {
                self.places.resize_with(places, || None);
            }
            if let Some(place) = self.places.get_mut(key.index()) {
                *place = Some((key, consumer));
            }
        }
    }

    /// Shows what has arrived, which lies in `input`, to those whom it is for.
    pub(super) fn show(&mut self, handed: &mut Vec<Handed>, input: &[u8]) {
        for handed in handed.drain(..) {
            let (Handed::Data(key, _) | Handed::End(key) | Handed::Reset(key)) = handed;
            let Some(place) = self.places.get_mut(key.index()) else {
                continue;
            };
            let Some((_, consumer)) = place.as_mut().filter(|(known, _)| *known == key) else {
                continue;
            };
            let goes_on = match handed {
                Handed::Data(_, range) => consumer
                    .consume(input.get(range).unwrap_or_default())
                    .is_continue(),
                Handed::End(_) => false,
                Handed::Reset(_) => {
                    consumer.reset();
                    false
                }
            };
            if !goes_on {
                *place = None;
            }
        }
    }

    /// Tells all that the connection is idle.
    pub(super) fn idle(&mut self) {
        for (_, consumer) in self.places.iter_mut().flatten() {
            consumer.idle();
        }
    }
}
