//! Paths: those that clients request and those that plugins declare, brought into one form in
//! which they can be compared byte by byte.
//!
//! The canonical form of a segment is its decoded bytes, encoded again where RFC 3986 does not
//! allow them bare (`pchar`). A slash inside a segment thus stays `%2F`, and no two spellings of
//! one path differ.

use std::borrow::Cow;

/// Longest declared path in bytes, in canonical form.
const PATTERN_LIMIT_BYTES: usize = 512;
/// Most segments of a declared path.
const SEGMENT_LIMIT: usize = 32;
/// Most parameters of a declared path; the matcher names them with one letter each.
const PARAMETER_LIMIT: usize = 16;
/// Longest name of a parameter in bytes.
const NAME_LIMIT_BYTES: usize = 64;

/// A requested path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPath<'a> {
    /// The form that routes are looked up in.
    pub(crate) canonical: Cow<'a, str>,
    /// The form that plugins see.
    pub(crate) decoded: Cow<'a, str>,
}

/// Why a requested path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("path does not begin with a slash")]
    NotAbsolute,
    #[error("path has an incomplete percent-encoding")]
    Encoding,
    #[error("path is not UTF-8")]
    NotUtf8,
    #[error("path has a control character")]
    Control,
    #[error("path has a . or .. segment")]
    DotSegment,
}

impl<'a> RequestPath<'a> {
    /// Reads a path as it stands in the request line.
    pub(crate) fn read(raw: &'a str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let plain = raw.bytes().all(|c| c == b'/' || is_pchar(c));
        let path = if plain {
            Self {
                canonical: Cow::Borrowed(raw),
                decoded: Cow::Borrowed(raw),
            }
        } else {
            let mut canonical = String::with_capacity(raw.len() + 16);
            let mut whole = Vec::with_capacity(raw.len());
            for segment in raw.split('/').skip(1) {
                let bytes = decode(segment)?;
                canonical.push('/');
                encode(&bytes, &mut canonical);
                whole.push(b'/');
                whole.extend_from_slice(&bytes);
            }
            let decoded = String::from_utf8(whole).map_err(|_| PathError::NotUtf8)?;
            if decoded.chars().any(char::is_control) {
                return Err(PathError::Control);
            }
            Self {
                canonical: Cow::Owned(canonical),
                decoded: Cow::Owned(decoded),
            }
        };
        // Those that `%2F` parts from each other too: the plugin sees it decoded.
        if path
            .decoded
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return Err(PathError::DotSegment);
        }
        Ok(path)
    }
}

/// Decodes a parameter's value, taken from a canonical path.
pub(crate) fn decode_parameter(canonical: &str) -> String {
    let bytes = decode(canonical).unwrap_or_else(|_| canonical.as_bytes().to_vec());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A declared path, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Canonical, with `{name}` and `{*name}`: what the matcher is given.
    pub(crate) text: String,
    /// The same with every name left out: two routes clash when these are equal.
    pub(crate) shape: String,
    /// Where each parameter stands: the shape up to it, and whether it takes all that follows.
    pub(crate) places: Vec<(String, bool)>,
    /// Where the last segment is `{*name}`.
    pub(crate) rest: Option<Rest>,
}

/// The end of a pattern that takes all that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// The pattern's text before it, ending in a slash.
    pub(crate) before: String,
    /// The same in the form of [`Pattern::shape`].
    pub(crate) shape_before: String,
    /// The parameter's name.
    pub(crate) name: String,
}

/// Why a declared path is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It does not begin with a slash.
    #[error("it does not begin with a slash")]
    NotAbsolute,
    /// Longer than 512 bytes, or of more than 32 segments or 16 parameters.
    #[error("it has over 512 bytes, 32 segments or 16 parameters")]
    TooLong,
    /// A control character.
    #[error("it has a control character")]
    Control,
    /// Two slashes in a row.
    #[error("it has an empty segment")]
    EmptySegment,
    /// A segment `.` or `..`, which no request can have.
    #[error("it has a . or .. segment")]
    DotSegment,
    /// A brace that makes no parameter: one is a whole segment, `{name}` or, last, `{*name}`.
    #[error("segment {segment:?} is no parameter")]
    Parameter {
        /// The segment.
        segment: String,
    },
    /// `{*name}` before the last segment.
    #[error("segment {segment:?} takes all that follows and is not the last")]
    RestNotLast {
        /// The segment.
        segment: String,
    },
    /// Two parameters of one name.
    #[error("parameter {name:?} stands twice")]
    Repeated {
        /// The name.
        name: String,
    },
}

impl Pattern {
    /// Reads a path as a plugin declares it: decoded text, parameters in braces.
    pub(crate) fn parse(declared: &str) -> Result<Self, PatternError> {
        let Some(path) = declared.strip_prefix('/') else {
            return Err(PatternError::NotAbsolute);
        };
        if declared.len() > PATTERN_LIMIT_BYTES {
            return Err(PatternError::TooLong);
        }
        if declared.chars().any(char::is_control) {
            return Err(PatternError::Control);
        }
        let last = path.split('/').count() - 1;
        if last >= SEGMENT_LIMIT {
            return Err(PatternError::TooLong);
        }
        let mut pattern = Self {
            text: String::new(),
            shape: String::new(),
            places: Vec::new(),
            rest: None,
        };
        let mut names: Vec<&str> = Vec::new();
        for (at, segment) in path.split('/').enumerate() {
            pattern.text.push('/');
            pattern.shape.push('/');
            match Segment::parse(segment)? {
                Segment::Literal if segment.is_empty() && at < last => {
                    return Err(PatternError::EmptySegment);
                }
                Segment::Literal if segment == "." || segment == ".." => {
                    return Err(PatternError::DotSegment);
                }
                Segment::Literal => {
                    encode(segment.as_bytes(), &mut pattern.text);
                    encode(segment.as_bytes(), &mut pattern.shape);
                }
                Segment::Rest(_) if at < last => {
                    return Err(PatternError::RestNotLast {
                        segment: segment.to_owned(),
                    });
                }
                Segment::One(name) | Segment::Rest(name) if names.contains(&name) => {
                    return Err(PatternError::Repeated {
                        name: name.to_owned(),
                    });
                }
                Segment::One(name) => {
                    names.push(name);
                    pattern.places.push((pattern.shape.clone(), false));
                    pattern.text.push_str(segment);
                    pattern.shape.push_str("{}");
                }
                Segment::Rest(name) => {
                    names.push(name);
                    pattern.places.push((pattern.shape.clone(), true));
                    pattern.rest = Some(Rest {
                        before: pattern.text.clone(),
                        shape_before: pattern.shape.clone(),
                        name: name.to_owned(),
                    });
                    pattern.text.push_str(segment);
                    pattern.shape.push_str("{*}");
                }
            }
        }
        if pattern.text.len() > PATTERN_LIMIT_BYTES || names.len() > PARAMETER_LIMIT {
            return Err(PatternError::TooLong);
        }
        Ok(pattern)
    }
}

enum Segment<'a> {
    Literal,
    One(&'a str),
    Rest(&'a str),
}

impl<'a> Segment<'a> {
    fn parse(segment: &'a str) -> Result<Self, PatternError> {
        if !segment.contains(['{', '}']) {
            return Ok(Self::Literal);
        }
        let inner = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let parsed = inner.map(|inner| match inner.strip_prefix('*') {
            Some(name) => (name, Self::Rest(name)),
            None => (inner, Self::One(inner)),
        });
        match parsed {
            Some((name, parsed)) if is_name(name) => Ok(parsed),
            _ => Err(PatternError::Parameter {
                segment: segment.to_owned(),
            }),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_LIMIT_BYTES
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

/// RFC 3986 `pchar` without the percent sign: what may stand bare in a segment.
const fn is_pchar(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

fn decode(segment: &str) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(c) = rest.next() {
        if c != b'%' {
            bytes.push(c);
            continue;
        }
        let (high, low) = (
            rest.next().and_then(hex_digit),
            rest.next().and_then(hex_digit),
        );
        match (high, low) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(PathError::Encoding),
        }
    }
    Ok(bytes)
}

fn encode(bytes: &[u8], text: &mut String) {
    for &byte in bytes {
        if is_pchar(byte) {
            text.push(byte.into());
            continue;
        }
        text.push('%');
        for nibble in [byte >> 4, byte & 15] {
            let digit = char::from_digit(nibble.into(), 16).expect("a nibble is a hex digit");
            text.push(digit.to_ascii_uppercase());
        }
    }
}

const fn hex_digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(raw: &str) -> Result<String, PathError> {
        RequestPath::read(raw).map(|path| path.canonical.into_owned())
    }

    #[test]
    fn spellings_of_one_path_are_equal() {
        assert_eq!(canonical("/a/b").unwrap(), "/a/b");
        assert_eq!(canonical("/%61/b%3a").unwrap(), "/a/b:");
        assert_eq!(canonical("/gr%c3%b6%C3%9Fe").unwrap(), "/gr%C3%B6%C3%9Fe");
        assert_eq!(canonical("/a%2fb/c%25").unwrap(), "/a%2Fb/c%25");
        assert_eq!(canonical("/{x}").unwrap(), "/%7Bx%7D");
        assert_eq!(
            RequestPath::read("/a%2Fb/%C3%B6").unwrap().decoded,
            "/a/b/ö"
        );
    }

    #[test]
    fn paths_that_mean_something_else_are_refused() {
        assert_eq!(canonical("*"), Err(PathError::NotAbsolute));
        assert_eq!(canonical(""), Err(PathError::NotAbsolute));
        assert_eq!(canonical("/a/../b"), Err(PathError::DotSegment));
        assert_eq!(canonical("/a/%2e%2E"), Err(PathError::DotSegment));
        assert_eq!(canonical("/a/x%2F..%2Fb"), Err(PathError::DotSegment));
        assert_eq!(canonical("/a/%2f."), Err(PathError::DotSegment));
        assert_eq!(canonical("/."), Err(PathError::DotSegment));
        assert_eq!(canonical("/a%00"), Err(PathError::Control));
        assert_eq!(canonical("/a%0d%0aX"), Err(PathError::Control));
        assert_eq!(canonical("/a%f"), Err(PathError::Encoding));
        assert_eq!(canonical("/a%zz"), Err(PathError::Encoding));
        assert_eq!(canonical("/%ff"), Err(PathError::NotUtf8));
    }

    #[test]
    fn declared_paths_are_checked() {
        let parse = Pattern::parse;
        assert_eq!(parse("/a/{id}").unwrap().shape, "/a/{}");
        assert_eq!(parse("/größe").unwrap().text, "/gr%C3%B6%C3%9Fe");
        assert_eq!(parse("/").unwrap().text, "/");
        let rest = parse("/{f}/{*path}").unwrap().rest.unwrap();
        assert_eq!(
            (rest.before.as_str(), rest.shape_before.as_str()),
            ("/{f}/", "/{}/")
        );
        assert_eq!(rest.name, "path");
        assert_eq!(parse(""), Err(PatternError::NotAbsolute));
        assert_eq!(parse("a"), Err(PatternError::NotAbsolute));
        assert_eq!(parse("/a//b"), Err(PatternError::EmptySegment));
        assert_eq!(parse("/../b"), Err(PatternError::DotSegment));
        assert_eq!(parse("/a\n"), Err(PatternError::Control));
        assert_eq!(parse(&"/a".repeat(33)), Err(PatternError::TooLong));
        assert_eq!(
            parse(&format!("/{}", "a".repeat(600))),
            Err(PatternError::TooLong)
        );
        assert!(matches!(
            parse("/{*a}/b"),
            Err(PatternError::RestNotLast { .. })
        ));
        assert!(matches!(
            parse("/{a}/{a}"),
            Err(PatternError::Repeated { .. })
        ));
        for odd in [
            "/{", "/}", "/{}", "/{*}", "/x{a}", "/{a}x", "/{a}{b}", "/{{a}}", "/{ä}",
        ] {
            assert!(
                matches!(parse(odd), Err(PatternError::Parameter { .. })),
                "{odd}"
            );
        }
    }

    proptest! {
        #[test]
        fn canonical_form_is_read_as_itself(raw in "/[a-z./%0-9A-F{}:@ ö-]{0,40}") {
            if let Ok(path) = RequestPath::read(&raw) {
                let again = RequestPath::read(&path.canonical).unwrap();
                prop_assert_eq!(&again.canonical, &path.canonical);
                prop_assert_eq!(&again.decoded, &path.decoded);
                prop_assert!(path.canonical.is_ascii());
                let has_braces = path.canonical.contains(['{', '}']);
                prop_assert!(!has_braces);
            }
        }

        /// A declared literal is found by its own text, encoded in whichever way.
        #[test]
        fn declared_literal_meets_every_spelling(text in "[a-zA-Z0-9 ö%~:.]{1,12}") {
            prop_assume!(text != "." && text != "..");
            let declared = Pattern::parse(&format!("/{text}")).unwrap();
            let spelt: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let spelt = format!("/{spelt}");
            let requested = RequestPath::read(&spelt).unwrap();
            prop_assert_eq!(requested.canonical, declared.text);
        }
    }
}
