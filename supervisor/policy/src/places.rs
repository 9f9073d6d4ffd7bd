//! Where in a TOML document each key and each value stands.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The places of a document's keys and values, by dotted path: `limits.memory`, and of lists
/// `permissions.db[0].tables[1]`. Empty for a text that is no TOML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    text: String,
    found: BTreeMap<String, Spans>,
}

/// Bytes of a key, where it has one, and of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spans {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

/// A part of one line of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Its first character's column, from 1, counted in characters.
    pub column: usize,
    /// Characters, at least 1; cut at the end of the line.
    pub length: usize,
}

impl Places {
    /// Finds every key and value of a document.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let mut places = Self {
            lines: std::iter::once(0)
                .chain(newlines.map(|(at, _)| at + 1))
                .collect(),
            text: text.to_owned(),
            found: BTreeMap::new(),
        };
        if let Ok(table) = DeTable::parse(text) {
            places.add_table(table.get_ref(), "");
        }
        places
    }

    /// The place of the value at `path`, or of its key where it is a table.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<Place> {
        let spans = self.found.get(path)?;
        Some(self.place(spans.value.clone()))
    }

    /// The place of the key at `path`; of an item of a list its value.
    #[must_use]
    pub fn key(&self, path: &str) -> Option<Place> {
        let spans = self.found.get(path)?;
        Some(self.place(spans.key.clone().unwrap_or_else(|| spans.value.clone())))
    }

    /// The text of the value at `path`, as it is written.
    #[must_use]
    pub fn raw(&self, path: &str) -> Option<&str> {
        self.text.get(self.found.get(path)?.value.clone())
    }

    /// The place of the value at `path`, or else of the innermost of the tables and lists around it
    /// that are there.
    #[must_use]
    pub fn nearest(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.value(path) {
                return Some(place);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }

    /// The place of some bytes of the document.
    #[must_use]
    pub fn place(&self, bytes: Range<usize>) -> Place {
        let start = bytes.start.min(self.text.len());
        let line = self.lines.partition_point(|begin| *begin <= start).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or_default();
        let text = self.text.as_bytes();
        let end = match self.lines.get(line).map(|next| next - 1) {
            Some(end)
                if text
                    .get(begin..end)
                    .is_some_and(|line| line.ends_with(b"\r")) =>
            {
                end - 1
            }
            Some(end) => end,
            None => text.len(),
        };
        let start = start.min(end);
        let characters = |from: usize, to: usize| {
            let part = text.get(from..to.max(from));
            String::from_utf8_lossy(part.unwrap_or_default())
                .chars()
                .count()
        };
        Place {
            line,
            column: characters(begin, start) + 1,
            length: characters(start, bytes.end.min(end)).max(1),
        }
    }

    /// One line of the document, without its end.
    #[must_use]
    pub fn line(&self, number: usize) -> &str {
        self.text
            .lines()
            .nth(number.saturating_sub(1))
            .unwrap_or("")
    }

    fn add_table(&mut self, table: &DeTable<'_>, path: &str) {
        for (key, value) in table.iter() {
            let inner = inner_path(path, key.get_ref());
            self.add(inner, Some(key.span()), value.span(), value.get_ref());
        }
    }

    fn add(
        &mut self,
        path: String,
        key: Option<Range<usize>>,
        span: Range<usize>,
        value: &DeValue<'_>,
    ) {
        match value {
            DeValue::Table(table) => self.add_table(table, &path),
            DeValue::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    let inner = format!("{path}[{number}]");
                    self.add(inner, None, item.span(), item.get_ref());
                }
            }
            _ => {}
        }
        // A table's own span may be its header's, or nothing at all.
        let value = if span.is_empty() {
            key.clone().unwrap_or(span)
        } else {
            span
        };
        self.found.insert(path, Spans { key, value });
    }
}

/// Path of a key in a table: dots apart, a key with a dot of its own in quotes.
pub(crate) fn inner_path(path: &str, key: &str) -> String {
    let key = if key.contains(['.', '[']) {
        format!("{key:?}")
    } else {
        key.to_owned()
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "schema = 1\n[permissions]\ndb = [\n  { tables = [\"a\", \"bü\"], access = 'read' },\n]\n[controls]\nmemory = { wanted = 'off' }\n";

    fn place(line: usize, column: usize, length: usize) -> Place {
        Place {
            line,
            column,
            length,
        }
    }

    #[test]
    fn every_value_and_key_is_found_where_it_stands() {
        let places = Places::of(TEXT);
        assert_eq!(places.value("schema"), Some(place(1, 10, 1)));
        assert_eq!(places.key("schema"), Some(place(1, 1, 6)));
        assert_eq!(
            places.value("permissions.db[0].tables[1]"),
            Some(place(4, 20, 4))
        );
        assert_eq!(
            places.value("permissions.db[0].access"),
            Some(place(4, 36, 6))
        );
        assert_eq!(
            places.nearest("permissions.db[0].ddl").map(|p| p.line),
            Some(4)
        );
        assert_eq!(
            places.nearest("controls.memory.wanted"),
            Some(place(7, 21, 5))
        );
        assert_eq!(places.raw("permissions.db[0].tables[1]"), Some("\"bü\""));
        assert_eq!(places.nearest("limits.cpu"), None);
        assert_eq!(
            places.line(4),
            "  { tables = [\"a\", \"bü\"], access = 'read' },"
        );
    }

    #[test]
    fn what_runs_over_several_lines_is_cut_at_the_first() {
        let places = Places::of(TEXT);
        assert_eq!(places.value("permissions.db"), Some(place(3, 6, 1)));
        assert_eq!(Places::of("= x").value("x"), None);
        assert_eq!(Places::of("").place(5..9), place(1, 1, 1));
    }

    #[test]
    fn what_ends_a_line_has_the_place_after_its_last_character() {
        for text in ["a = b\r\nc = 1\n", "a = b\nc = 1\n"] {
            let places = Places::of(text);
            assert_eq!(places.place(5..7), place(1, 6, 1), "{text:?}");
            assert_eq!(places.line(1), "a = b");
        }
        let only_carriage_returns = Places::of("a\r\r\n");
        assert_eq!(only_carriage_returns.place(2..4), place(1, 3, 1));
        assert_eq!(only_carriage_returns.line(1), "a\r");
    }
}
