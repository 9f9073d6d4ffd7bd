//! A JSON object as a client sent it: its members apart, and what is in them left as text. A tree of it takes a
//! hundred times the room that it takes on the wire (an object of one member is 7 bytes there), and anybody may
//! send one.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, the last of each name; `None` where the text is none, is nested deeper than the
/// 127 levels that serde_json takes, or has a number that nothing holds.
pub(super) fn members(text: &[u8]) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_slice::<Read>(text).ok()?;
    serde_json::from_slice(text).ok()
}

/// A value of any kind, read to its end by the rules by which a tree is built, and not kept. Unlike
/// `IgnoredAny`, for which serde_json looks neither at depth nor at numbers.
struct Read;

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Read {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_taken_is_what_a_tree_would_be_built_of() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        for text in [
            r#"{}"#,
            r#" {"a" : [1, -2, 1.5e3, "\u00e4\ud83d\ude00", null, true, {"b":{}}], "a\n":""} "#,
            r#"{"a":1,"a":2,"\u0061":{"b":1,"b":2}}"#,
            r#"{"a":1e400}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"\ud800":1}"#,
            r#"{"a":01}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":1} x"#,
            r#"["a"]"#,
            "",
            "{\"a\":\"\u{1}\"}",
            &nested(126),
            &nested(127),
            &nested(100_000),
        ] {
            let built = match serde_json::from_str(text) {
                Ok(Value::Object(members)) => Some(members),
                _ => None,
            };
            let read = members(text.as_bytes()).map(|members| {
                let member = |(name, raw): (String, &RawValue)| {
                    (name, serde_json::from_str(raw.get()).unwrap())
                };
                members.into_iter().map(member).collect()
            });
            assert_eq!(read, built, "{text}");
        }
        assert!(members(b"{\"a\":\"\xff\"}").is_none());
        assert!(members(nested(126).as_bytes()).is_some());
    }
}
