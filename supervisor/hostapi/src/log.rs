//! The log service: a plugin's own lines, bounded, on their way to the sink that keeps them.

use serde_json::{Map, Value};

use crate::{Caller, LogLevel};

/// Longest message kept, in bytes; a longer one is cut. A page of text is a line's worth.
pub const LOG_MESSAGE_LIMIT_BYTES: usize = 8 * 1024;

/// Most bytes of fields kept, names and JSON values together; those past it are dropped.
pub const LOG_FIELDS_LIMIT_BYTES: usize = 8 * 1024;

/// Field that says how many fields were dropped.
const DROPPED: &str = "pinfold.dropped_fields";

/// Keeps plugins' lines. Called on the call's own task: it must neither block nor fail. Control
/// characters are the sink's to escape: what is escaped depends on where the line is shown.
pub trait LogSink: Send + Sync {
    /// Takes one line, already within [`LOG_MESSAGE_LIMIT_BYTES`] and [`LOG_FIELDS_LIMIT_BYTES`].
    fn record(&self, caller: &Caller, level: LogLevel, message: &str, fields: &Map<String, Value>);
}

/// The longest prefix of `message` within the limit.
pub(crate) fn bounded_message(message: &str) -> &str {
    let end = message.floor_char_boundary(LOG_MESSAGE_LIMIT_BYTES);
    message.get(..end).unwrap_or(message)
}

/// The fields that fit, in order, and how many did not, with those that were left out before.
pub(crate) fn bounded_fields(fields: Map<String, Value>, left_out: usize) -> Map<String, Value> {
    let mut left = LOG_FIELDS_LIMIT_BYTES;
    let mut dropped = left_out;
    let mut kept = Map::new();
    for (name, value) in fields {
        match left.checked_sub(name.len() + json_bytes(&value)) {
            Some(rest) => {
                left = rest;
                kept.insert(name, value);
            }
            None => dropped += 1,
        }
    }
    if dropped > 0 {
        kept.insert(DROPPED.into(), dropped.into());
    }
    kept
}

/// Length of the value's JSON text.
pub(crate) fn json_bytes(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)
        .expect("a Value has a JSON form and Count never fails");
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = "é".repeat(LOG_MESSAGE_LIMIT_BYTES);
        let cut = bounded_message(&message);
        assert_eq!(cut.len(), LOG_MESSAGE_LIMIT_BYTES);
        assert_eq!(bounded_message("short"), "short");
        let odd = format!("x{message}");
        assert_eq!(bounded_message(&odd).len(), LOG_MESSAGE_LIMIT_BYTES - 1);
    }

    #[test]
    fn fields_over_the_limit_are_dropped_and_counted() {
        let mut fields = Map::new();
        fields.insert("a".into(), 1.into());
        fields.insert("b".into(), "x".repeat(LOG_FIELDS_LIMIT_BYTES).into());
        fields.insert("c".into(), true.into());
        let kept = bounded_fields(fields, 2);
        let expected = serde_json::json!({ "a": 1, "c": true, "pinfold.dropped_fields": 3 });
        assert_eq!(Value::Object(kept), expected);
    }
}
