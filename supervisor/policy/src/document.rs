//! TOML documents that people write: read strictly, refused with place and reason.

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::suggest::{UnknownKey, nearest};

/// Largest document read, in bytes: far above any real one, far below what hurts.
pub const DOCUMENT_LIMIT_BYTES: usize = 256 * 1024;

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
        /// The key and the nearest known one.
        key: UnknownKey,
    },
    /// Not TOML, or a value of the wrong shape.
    #[error("line {line}: {message}")]
    Value {
        /// Line of the value, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads a document into `T`, every key of which is among `known`.
///
/// # Errors
/// [`DocumentError`] with the line.
pub fn read<T: DeserializeOwned>(bytes: &[u8], known: &KnownKeys) -> Result<T, DocumentError> {
    if bytes.len() > DOCUMENT_LIMIT_BYTES {
        return Err(DocumentError::TooLarge { bytes: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError::Encoding {
        at: error.valid_up_to(),
    })?;
    let failed = |error: toml::de::Error| DocumentError::Value {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    };
    let table = DeTable::parse(text).map_err(failed)?;
    check_keys(text, table.get_ref(), "", known)?;
    toml::from_str(text).map_err(failed)
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn check_keys(
    text: &str,
    table: &DeTable<'_>,
    path: &str,
    known: &KnownKeys,
) -> Result<(), DocumentError> {
    let keys = known
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
            let nearest = nearest(name, keys.unwrap_or_default().iter().copied());
            let key_error = UnknownKey {
                key: inner,
                nearest: nearest.map(str::to_owned),
            };
            return Err(DocumentError::Key {
                line: line_of(text, key.span().start),
                key: key_error,
            });
        }
        check_value(text, value.get_ref(), &inner, known)?;
    }
    Ok(())
}

fn check_value(
    text: &str,
    value: &DeValue<'_>,
    path: &str,
    known: &KnownKeys,
) -> Result<(), DocumentError> {
    match value {
        DeValue::Table(table) => check_keys(text, table, path, known),
        DeValue::Array(items) => items
            .iter()
            .try_for_each(|item| check_value(text, item.get_ref(), path, known)),
        _ => Ok(()),
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
