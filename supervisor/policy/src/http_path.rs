//! Paths of URLs: the patterns of a grant, and what servers read in more than one way.

use serde::{Deserialize, Serialize};

/// A path, or a family of them, compared whole, segment by segment and with regard to case: `/a/b` is
/// that path alone, `*` in the place of a segment is any one that is not empty, and `**` at the end is
/// everything beneath, `/a/` for `/a/**` too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathPattern(String);

/// One segment, whatever it is.
const ONE: &str = "*";

/// Everything beneath.
const BENEATH: &str = "**";

impl PathPattern {
    /// Takes a pattern as written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `path` matches: a path as a parsed URL has it, in which no server sees
    /// anything else ([`Unclear`]). Linear in both lengths.
    #[must_use]
    pub(crate) fn matches(&self, path: &str) -> bool {
        let (Some(pattern), Some(path)) = (self.0.strip_prefix('/'), path.strip_prefix('/')) else {
            return false;
        };
        let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(BENEATH), Some(_)) => return wanted.next().is_none(),
                (Some(ONE), Some(segment)) if !segment.is_empty() => {}
                (Some(wanted), Some(segment)) if is_same(wanted, segment) => {}
                _ => return false,
            }
        }
    }

    /// What is wrong with a policy's pattern, if anything.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let Some(segments) = self.0.strip_prefix('/') else {
            return Some("a path begins with /");
        };
        if self.0.contains(['?', '#']) {
            return Some("write the path alone, without query and fragment");
        }
        let mut segments = segments.split('/').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                ONE => {}
                BENEATH if segments.peek().is_none() => {}
                BENEATH => return Some("** stands at the end: /a/** is everything beneath /a"),
                _ if segment.contains('*') => return Some("* stands for a whole segment: /a/*/b"),
                _ => {}
            }
        }
        // A parsed URL has none of these as they are.
        if self.0.contains(['"', '<', '>', '`', '{', '}']) {
            return Some("write this character percent-encoded");
        }
        Unclear::find(&self.0).map(|unclear| unclear.why)
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether two segments are the same: the digits of a percent-encoding have no case, all else has.
fn is_same(wanted: &str, segment: &str) -> bool {
    let mut digits = 0;
    wanted.len() == segment.len()
        && wanted.bytes().zip(segment.bytes()).all(|(a, b)| {
            let is_digit = digits > 0;
            digits = match a {
                b'%' => 2,
                _ => digits.max(1) - 1,
            };
            a == b || (is_digit && a.eq_ignore_ascii_case(&b))
        })
}

/// A part of a path that servers read in more than one way: one may have another path there than the
/// one that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unclear {
    /// The part, as it is in the path.
    pub(crate) part: String,
    /// What it is to some servers.
    pub(crate) why: &'static str,
}

impl Unclear {
    /// The first such part of `path`, if there is any.
    pub(crate) fn find(path: &str) -> Option<Self> {
        let found = |part: &str, why| {
            let part = part.to_owned();
            Some(Self { part, why })
        };
        if !path.starts_with('/') {
            return found("", "a path begins with /");
        }
        for (at, character) in path.char_indices() {
            let why = match character {
                '%' => {
                    let triplet = path.get(at..at + 3);
                    let Some(octet) = triplet.and_then(decoded) else {
                        return found("%", "it is followed by no two hexadecimal digits");
                    };
                    match (octet, triplet) {
                        (b'/' | b'\\', Some(part)) => return found(part, SLASH),
                        (b'.', Some(part)) => return found(part, "it is a dot to every server"),
                        (b'%', Some(part)) => return found(part, "some servers decode it twice"),
                        (b';', Some(part)) => return found(part, PARAMETERS),
                        (b'?' | b'#', Some(part)) => return found(part, "some end the path there"),
                        (0..=0x1f | 0x7f, Some(part)) => return found(part, CONTROL),
                        _ => continue,
                    }
                }
                '\\' => SLASH,
                ';' => PARAMETERS,
                '!'..='~' => continue,
                _ => "it belongs percent-encoded",
            };
            return found(&character.to_string(), why);
        }
        let segments = path.get(1..).unwrap_or_default().split('/');
        let count = segments.clone().count();
        for (number, segment) in segments.enumerate() {
            if segment.is_empty() && number + 1 < count {
                return found("//", "two slashes are one to some servers");
            }
            let Ok(text) = String::from_utf8(octets(segment)) else {
                return found(segment, "what it encodes is no UTF-8");
            };
            if !text.is_empty() && text.chars().all(|c| c == '.' || c.is_whitespace()) {
                return found(segment, "some servers go up there, or leave it out");
            }
            if text.chars().any(|c| is_folded(c) || c.is_control()) {
                return found(
                    segment,
                    "some servers take a character of it for / \\ . ; % ? or #",
                );
            }
        }
        None
    }
}

const SLASH: &str = "it is a slash to some servers";
const PARAMETERS: &str = "some servers leave out what follows";
const CONTROL: &str = "some servers end the path there, or leave it out";

/// The octet of `%` and two hexadecimal digits.
fn decoded(triplet: &str) -> Option<u8> {
    let digits = triplet.strip_prefix('%')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

/// What a segment encodes.
fn octets(segment: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(segment.len());
    let mut at = 0;
    while let Some(first) = segment.as_bytes().get(at) {
        let (octet, length) = match segment.get(at..at + 3).and_then(decoded) {
            Some(octet) => (octet, 3),
            None => (*first, 1),
        };
        octets.push(octet);
        at += length;
    }
    octets
}

/// Characters that compatibility mappings (Unicode's NFKC, Windows' best fit) turn into one that means
/// something in a path, or into text with one.
const fn is_folded(c: char) -> bool {
    matches!(
        c,
        '\u{2024}'
            ..='\u{2026}'
                | '\u{2044}'
                | '\u{2100}'
                | '\u{2101}'
                | '\u{2105}'
                | '\u{2106}'
                | '\u{2047}'..='\u{2049}'
                | '\u{20a9}'
                | '\u{2215}'
                | '\u{2216}'
                | '\u{37e}'
                | '\u{a5}'
                | '\u{fe14}'
                | '\u{fe16}'
                | '\u{fe19}'
                | '\u{fe30}'
                | '\u{fe52}'
                | '\u{fe54}'
                | '\u{fe56}'
                | '\u{fe5f}'
                | '\u{fe68}'
                | '\u{fe6a}'
                | '\u{ff03}'
                | '\u{ff05}'
                | '\u{ff0e}'
                | '\u{ff0f}'
                | '\u{ff1b}'
                | '\u{ff1f}'
                | '\u{ff3c}'
    )
}

/// Longest path in a refusal: it goes into the audit trail.
const SHOWN_LIMIT_BYTES: usize = 200;

/// A path for refusals and records: printable, and cut.
pub(crate) fn shown(path: &str) -> String {
    let mut shown = String::new();
    for character in path.chars() {
        let before = shown.len();
        match character {
            '!'..='~' => shown.push(character),
            _ => shown.extend(character.escape_default()),
        }
        if shown.len() > SHOWN_LIMIT_BYTES {
            shown.truncate(before);
            shown.push('…');
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_compared_segment_by_segment() {
        for (pattern, path, matches) in [
            ("/", "/", true),
            ("/", "", false),
            ("/", "/a", false),
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/B", false),
            ("/a/b", "/a/b/", false),
            ("/a/b", "/a/bc", false),
            ("/a/b", "/x/a/b", false),
            ("/a/b", "a/b", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/**", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/c", false),
            ("/a/*/c", "/a//c", false),
            ("/a/*/c", "/a/b/b/c", false),
            ("/a/**", "/a", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b", true),
            ("/a/**", "/a/b/c/", true),
            ("/a/**", "/ab/c", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/*/**", "/a", false),
            ("/*/**", "/a/b", true),
            // An encoding is one way of writing a path, and another one is another path.
            ("/a%20b", "/a%20b", true),
            ("/%c3%a4", "/%C3%A4", true),
            ("/%c3%a4", "/%C3%A5", false),
            ("/AB", "/%41B", false),
            ("/%41b", "/%41B", false),
            // Refused in a policy; what a manifest asks for is not looked at before.
            ("/**/a", "/b/a", false),
            ("/a*", "/ab", false),
            ("a", "/a", false),
        ] {
            let is = PathPattern::new(pattern).matches(path);
            assert_eq!(is, matches, "{pattern} {path}");
        }
    }

    #[test]
    fn what_servers_read_in_more_than_one_way_is_named() {
        for (path, part) in [
            ("", ""),
            ("a", ""),
            ("/a/%2fb", "%2f"),
            ("/a/%2Fb", "%2F"),
            ("/a/..%2f..%2fadmin", "%2f"),
            ("/a/%5cb", "%5c"),
            ("/a\\b", "\\"),
            ("/a/..\\admin", "\\"),
            ("/a/%2e%2e/b", "%2e"),
            ("/a/.%2E/b", "%2E"),
            ("/a%2ejson", "%2e"),
            ("/a/../b", ".."),
            ("/a/./b", "."),
            ("/a/..", ".."),
            ("/a/.../b", "..."),
            ("/a/..%20/b", "..%20"),
            ("/a/%20/b", "%20"),
            ("/a//b", "//"),
            ("//b", "//"),
            ("/a//", "//"),
            ("/a;x/b", ";"),
            ("/a/..;/admin", ";"),
            ("/a%3bx/b", "%3b"),
            ("/a%00", "%00"),
            ("/a%0d%0aX:%20y", "%0d"),
            ("/a%7f", "%7f"),
            ("/a%c2%85", "a%c2%85"),
            ("/a%252fb", "%25"),
            ("/a%25", "%25"),
            ("/a%3fb", "%3f"),
            ("/a%23b", "%23"),
            ("/a%", "%"),
            ("/a%2", "%"),
            ("/a%zz", "%"),
            ("/a%+1", "%"),
            ("/a%u002f", "%"),
            ("/a%c0%afb", "a%c0%afb"),
            ("/%c0%ae%c0%ae/b", "%c0%ae%c0%ae"),
            ("/a%ff", "a%ff"),
            ("/a%ef%bc%8fb", "a%ef%bc%8fb"),
            ("/%e2%80%a5/b", "%e2%80%a5"),
            ("/a b", " "),
            ("/a\0", "\0"),
            ("/\u{e4}", "\u{e4}"),
        ] {
            let found = Unclear::find(path).map(|unclear| unclear.part);
            assert_eq!(found.as_deref(), Some(part), "{path:?}");
        }
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.json",
            "/.well-known/x",
            "/..a/b..",
            "/a%20b",
            "/%C3%A4",
            "/a:b@c,d=e&f+g!h$i'(j)*~k",
            "/bot123:x/send",
            "/a|b[c]^",
        ] {
            assert_eq!(Unclear::find(path), None, "{path}");
        }
    }

    #[test]
    fn patterns_that_no_path_can_have_are_faults() {
        for (pattern, said) in [
            ("", "begins with /"),
            ("a", "begins with /"),
            ("*", "begins with /"),
            ("http://a.test/", "begins with /"),
            ("/a?b", "query"),
            ("/a#b", "query"),
            ("/**/a", "at the end"),
            ("/a*", "whole segment"),
            ("/a/***", "whole segment"),
            ("/a/*.json", "whole segment"),
            ("/a b", "percent-encoded"),
            ("/{id}", "percent-encoded"),
            ("/\u{e4}", "percent-encoded"),
            ("/a/../b", "go up"),
            ("/a//b", "two slashes"),
            ("//", "two slashes"),
            ("/a%2fb", "slash"),
            ("/a\\b", "slash"),
            ("/a;b", "leave out"),
            ("/a%", "hexadecimal"),
            ("/a%ff", "UTF-8"),
        ] {
            let fault = PathPattern::new(pattern).fault();
            assert!(
                fault.is_some_and(|why| why.contains(said)),
                "{pattern}: {fault:?}"
            );
        }
        for pattern in ["/", "/a", "/a/", "/*", "/**", "/a/*/b/**", "/a%20b", "/*/"] {
            assert_eq!(PathPattern::new(pattern).fault(), None, "{pattern}");
        }
    }

    #[test]
    fn what_is_shown_is_printable_and_short() {
        assert_eq!(shown("/a%20b"), "/a%20b");
        assert_eq!(shown("/a\n\u{202e}b"), "/a\\n\\u{202e}b");
        let long = shown(&"\u{202e}".repeat(5_000));
        assert!(
            long.len() < SHOWN_LIMIT_BYTES + 4 && long.ends_with('…'),
            "{long}"
        );
    }

    proptest! {
        /// A path that is clear stays within what its pattern says, however often it is decoded, and
        /// whatever becomes of backslashes, parameters and dots on the way.
        #[test]
        fn a_clear_path_is_read_in_one_way(path in "(/|\\\\|\\.|;|%|2|5|e|f|c|a|0|b){0,14}") {
            let path = format!("/a/{path}");
            if Unclear::find(&path).is_none() {
                let once = String::from_utf8(octets(&path)).unwrap();
                prop_assert_eq!(&String::from_utf8(octets(&once)).unwrap(), &once);
                prop_assert!(!once.contains(['\\', ';', '\0']));
                let count = path.matches('/').count();
                prop_assert_eq!(once.matches('/').count(), count);
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
