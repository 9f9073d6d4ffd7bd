//! The system's journal, with an id for each event that operators watch for.

use std::fmt::{self, Write as _};
use std::io;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::message::{LONGEST_BYTES, MESSAGES};

/// What every value's field is called in the journal: `plugin.id` is `PINFOLD_PLUGIN_ID`.
const FIELD_PREFIX: &str = "PINFOLD";

/// Writes to the journal.
pub(super) struct Journal {
    plain: tracing_journald::Layer,
    /// In the order of [`MESSAGES`]: which fields every line has is said when such a writer is made.
    known: Vec<tracing_journald::Layer>,
}

impl Journal {
    /// Connects to it.
    pub(super) fn open() -> io::Result<Self> {
        let writer = || {
            let layer = tracing_journald::layer()?;
            Ok::<_, io::Error>(layer.with_field_prefix(Some(FIELD_PREFIX.into())))
        };
        let known = MESSAGES
            .iter()
            .map(|message| Ok(writer()?.with_custom_fields([("MESSAGE_ID", message.id)])));
        Ok(Self {
            known: known.collect::<io::Result<_>>()?,
            plain: writer()?,
        })
    }

    fn writer(&self, event: &Event<'_>) -> &tracing_journald::Layer {
        let mut text = Text::default();
        event.record(&mut text);
        let place = MESSAGES
            .iter()
            .position(|message| message.text.as_bytes() == text.as_bytes());
        place
            .and_then(|place| self.known.get(place))
            .unwrap_or(&self.plain)
    }
}

impl<S> Layer<S> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // What it keeps with a span, all of them find.
        self.plain.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.plain.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.writer(event).on_event(event, context);
    }
}

/// The message of an event, as far as it may be one of [`MESSAGES`]: what is longer is none of them.
struct Text {
    bytes: [u8; LONGEST_BYTES],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; LONGEST_BYTES],
            length: 0,
        }
    }
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let Some(place) = self.bytes.get_mut(self.length..end) else {
            self.length = 0;
            return Err(fmt::Error);
        };
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self, "{value:?}").unwrap_or_default();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.write_str(value).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps the texts of events.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut text = Text::default();
            event.record(&mut text);
            let text = String::from_utf8_lossy(text.as_bytes()).into_owned();
            self.0.lock().unwrap().push(text);
        }
    }

    #[test]
    fn an_events_text_is_compared_to_the_letter() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(kept.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(plugin.id = "hello", "plugin blocked");
            tracing::error!(reason = "x", "{}", "x".repeat(LONGEST_BYTES + 1));
        });
        assert_eq!(*kept.0.lock().unwrap(), ["plugin blocked", ""]);
    }
}
