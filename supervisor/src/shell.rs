//! Paths in commands that somebody is told to run.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// A path as one word of a shell, which expands nothing in it: the names in it may be another user's
/// choice. Printable ASCII goes in single quotes where it needs any; everything else is the form
/// `$'\xNN'` (bash(1), "QUOTING"), which a shell that does not know it takes for another name, and no more.
pub(crate) fn shell_word(path: impl AsRef<OsStr>) -> String {
    let bytes = path.as_ref().as_bytes();
    // What begins like an option is a name all the same.
    let begin = if bytes.first() == Some(&b'-') {
        "./"
    } else {
        ""
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(byte);
    let is_shown = |byte: &u8| matches!(byte, b' '..=b'~');
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        return format!("{begin}{text}");
    }
    let mut word = String::with_capacity(bytes.len() + 8);
    if bytes.iter().all(is_shown) {
        word.push('\'');
        word.push_str(begin);
        for byte in bytes {
            match byte {
                b'\'' => word.push_str("'\\''"),
                _ => word.push(char::from(*byte)),
            }
        }
    } else {
        word.push_str("$'");
        word.push_str(begin);
        for byte in bytes {
            match byte {
                b'\'' | b'\\' => write!(word, "\\x{byte:02x}"),
                byte if is_shown(byte) => write!(word, "{}", char::from(*byte)),
                _ => write!(word, "\\x{byte:02x}"),
            }
            .expect("a String takes all");
        }
    }
    word.push('\'');
    word
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn plain_paths_stay_as_they_are() {
        for path in ["/var/lib/pinfold/pinfold.db", "a-b_c.d", "x@y:1"] {
            assert_eq!(shell_word(path), path);
        }
        assert_eq!(shell_word("/a b"), "'/a b'");
        assert_eq!(shell_word("-rf"), "./-rf");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "shells are what it is for")]
    fn a_shell_reads_every_name_as_one_word_and_runs_nothing() {
        let names: [&[u8]; 8] = [
            b"/x/~$(touch${IFS}bad)",
            b"/x/`touch bad`; touch bad",
            b"/x/it's && touch bad #",
            b"/x/\"*?[a]{b,c}!$HOME\\",
            b"/x/new\nline\ttab",
            b"/x/\xff\xc3\xa4'; touch bad; '",
            b"/x/\x1b[2J\\'; touch bad; \\'",
            b" ",
        ];
        let place = tempfile::tempdir().unwrap();
        for shell in ["bash", "sh"] {
            for name in names {
                let word = shell_word(OsStr::from_bytes(name));
                assert!(word.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                let out = Command::new(shell)
                    .arg("-c")
                    .arg(format!("printf '%s|' {word}"))
                    .current_dir(place.path())
                    .output();
                let out = match out {
                    Ok(out) => out.stdout,
                    Err(error) => panic!("{shell} cannot be started: {error}"),
                };
                assert_eq!(out.iter().filter(|byte| **byte == b'|').count(), 1);
                let is_printable = name.iter().all(|byte| matches!(byte, b' '..=b'~'));
                if shell == "bash" || is_printable {
                    assert_eq!(out.strip_suffix(b"|"), Some(name), "{shell}: {word}");
                }
                assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
            }
        }
    }
}
