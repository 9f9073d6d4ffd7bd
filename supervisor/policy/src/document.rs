//! TOML documents that people write: read strictly, refused with place and reason.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::suggest::{UnknownKey, nearest};

/// Largest document read, in bytes: far above any real one, far below what hurts.
pub const DOCUMENT_LIMIT_BYTES: usize = 256 * 1024;

/// Most unknown keys that are told of one document: who reads them mends the first ones first.
const UNKNOWN_LIMIT: usize = 100;

/// The keys of each table of a document: dotted path of the table (empty for the top, `*` for any
/// one key, arrays of tables as their table) and the keys it knows. A table that is not listed may
/// hold any key.
pub type KnownKeys = [(&'static str, &'static [&'static str])];

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Not UTF-8.
    #[error("not UTF-8 text at byte {at}")]
    Encoding {
        /// First offending byte.
        at: usize,
    },
    /// Over [`DOCUMENT_LIMIT_BYTES`].
    #[error("{bytes} bytes, at most {DOCUMENT_LIMIT_BYTES} are read")]
    TooLarge {
        /// Size of the document.
        bytes: usize,
    },
    /// A key that the table does not have.
    #[error("line {line}: {key}")]
    Key {
        /// Line of the key, from 1.
        line: usize,
        /// Its bytes in the document.
        span: Range<usize>,
        /// The key and the nearest known one.
        key: UnknownKey,
    },
    /// Not TOML, or a value of the wrong shape.
    #[error("line {line}: {message}")]
    Value {
        /// Line of the value, from 1.
        line: usize,
        /// Its bytes in the document; empty where it is only known where it begins.
        span: Range<usize>,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads a document into `T`, every key of which is among `known`.
///
/// # Errors
/// [`DocumentError`] with the line.
pub fn read<T: DeserializeOwned>(bytes: &[u8], known: &KnownKeys) -> Result<T, DocumentError> {
    let text = text(bytes)?;
    if let Some(unknown) = unknown_keys(text, known)?.into_iter().next() {
        return Err(unknown);
    }
    toml::from_str(text).map_err(|error| value_error(text, &error))
}

/// Everything that keeps a document from being read into `T`: unknown keys, at most 100, or else the
/// first value that is of the wrong shape.
pub fn faults<T: DeserializeOwned>(bytes: &[u8], known: &KnownKeys) -> Vec<DocumentError> {
    let text = match text(bytes) {
        Ok(text) => text,
        Err(error) => return vec![error],
    };
    match unknown_keys(text, known) {
        Err(error) => vec![error],
        // The shape is only told of a document that has no other keys.
        Ok(unknown) if !unknown.is_empty() => unknown,
        Ok(_) => toml::from_str::<T>(text)
            .err()
            .map(|error| value_error(text, &error))
            .into_iter()
            .collect(),
    }
}

fn text(bytes: &[u8]) -> Result<&str, DocumentError> {
    if bytes.len() > DOCUMENT_LIMIT_BYTES {
        return Err(DocumentError::TooLarge { bytes: bytes.len() });
    }
    std::str::from_utf8(bytes).map_err(|error| DocumentError::Encoding {
        at: error.valid_up_to(),
    })
}

fn value_error(text: &str, error: &toml::de::Error) -> DocumentError {
    let span = error.span().unwrap_or(0..0);
    DocumentError::Value {
        line: line_of(text, span.start),
        span,
        message: error.message().to_owned(),
    }
}

/// Every key that is not among `known`; an error where the text is no TOML.
fn unknown_keys(text: &str, known: &KnownKeys) -> Result<Vec<DocumentError>, DocumentError> {
    let table = DeTable::parse(text).map_err(|error| value_error(text, &error))?;
    let mut keys = Keys {
        text,
        known,
        unknown: Vec::new(),
    };
    keys.check(table.get_ref(), "");
    keys.unknown.sort_by_key(|error| match error {
        DocumentError::Key { span, .. } => span.start,
        _ => 0,
    });
    Ok(keys.unknown)
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

struct Keys<'a> {
    text: &'a str,
    known: &'a KnownKeys,
    unknown: Vec<DocumentError>,
}

impl Keys<'_> {
    fn check(&mut self, table: &DeTable<'_>, path: &str) {
        let keys = self
            .known
            .iter()
            .find(|(pattern, _)| same_path(pattern, path))
            .map(|(_, keys)| *keys);
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            let inner = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            if keys.is_some_and(|keys| !keys.contains(&name)) {
                if self.unknown.len() >= UNKNOWN_LIMIT {
                    return;
                }
                let nearest = nearest(name, keys.unwrap_or_default().iter().copied());
                self.unknown.push(DocumentError::Key {
                    line: line_of(self.text, key.span().start),
                    span: key.span(),
                    key: UnknownKey {
                        key: inner,
                        nearest: nearest.map(str::to_owned),
                    },
                });
            } else {
                self.check_value(value.get_ref(), &inner);
            }
        }
    }

    fn check_value(&mut self, value: &DeValue<'_>, path: &str) {
        match value {
            DeValue::Table(table) => self.check(table, path),
            DeValue::Array(items) => {
                for item in items {
                    self.check_value(item.get_ref(), path);
                }
            }
            _ => {}
        }
    }
}

/// Whether a dotted path fits a pattern in which `*` stands for one key.
fn same_path(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('.'), path.split('.'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(p), Some(key)) if p == key || (p == "*" && !key.is_empty()) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sample {
        size: u32,
    }

    const KEYS: &KnownKeys = &[("", &["size", "part"]), ("part.*", &["name"])];

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
        let error = read::<Sample>(b"size = 1\nsise = 2\n", KEYS).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"line 2: unknown key "sise", did you mean "size"?"#
        );
        let error = read::<Sample>(b"size = 1\n[part.a]\nnam = 2\n", KEYS).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"line 3: unknown key "part.a.nam", did you mean "name"?"#
        );
        assert_eq!(
            read::<Sample>(b"size = 1\n[part.a]\nname = 2\n", KEYS),
            Ok(Sample { size: 1 })
        );
    }

    #[test]
    fn all_unknown_keys_are_told_in_their_order() {
        let text = b"sise = 2\n[part.a]\nnam = 2\nnane = 3\n";
        let lines: Vec<usize> = faults::<Sample>(text, KEYS)
            .iter()
            .map(|fault| match fault {
                DocumentError::Key { line, .. } => *line,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(lines, [1, 3, 4]);
        assert_eq!(faults::<Sample>(b"size = 1", KEYS), []);
        assert!(matches!(
            faults::<Sample>(b"size = 'x'", KEYS)[..],
            [DocumentError::Value { line: 1, ref span, .. }] if *span == (7..10)
        ));
    }

    #[test]
    fn a_value_of_the_wrong_shape_is_refused_with_its_line() {
        let error = read::<Sample>(b"\nsize = 'x'\n", KEYS).unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
        assert!(read::<Sample>(b"size = \n", KEYS).is_err());
        assert!(matches!(
            read::<Sample>(b"\xff", KEYS),
            Err(DocumentError::Encoding { at: 0 })
        ));
        let large = vec![b' '; DOCUMENT_LIMIT_BYTES + 1];
        assert!(matches!(
            read::<Sample>(&large, KEYS),
            Err(DocumentError::TooLarge { .. })
        ));
    }
}
