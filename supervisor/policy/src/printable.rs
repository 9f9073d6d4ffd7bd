//! Characters that are not shown, and act on a terminal or on the text around them instead.

use std::borrow::Cow;

/// Whether a character is not shown: control characters (Unicode category Cc), the line and paragraph
/// separators, the byte order mark, and the controls of direction (Unicode Standard Annex 9), by
/// which a text can look like another.
#[must_use]
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Text with such characters written out: `\u{1b}`.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unprintable(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_the_text_around_it_is_written_out_and_nothing_else() {
        for shown in ["", "plain: grüezi ✓", "表_*", "a\u{a0}b\u{202f}\u{2065}"] {
            assert_eq!(escape(shown), shown);
        }
        assert_eq!(
            escape("a\x1b[2J\t\r\n\0\u{9b}\u{61c}\u{202e}b\u{2069}\u{feff}"),
            "a\\u{1b}[2J\\t\\r\\n\\u{0}\\u{9b}\\u{61c}\\u{202e}b\\u{2069}\\u{feff}"
        );
    }
}
