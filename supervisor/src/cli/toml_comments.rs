//! Whether a TOML document has comments, which are lost when it is written anew.

/// What a character of a document belongs to.
enum Within {
    Document,
    /// Text in `quote`s, `count` of them on either side.
    Text {
        quote: char,
        count: usize,
    },
}

/// Whether `text` has a comment: a `#` outside of every string. Of a document that is no TOML the
/// answer is a guess.
pub(super) fn has_comments(text: &str) -> bool {
    let mut within = Within::Document;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let run = rest.len() - rest.trim_start_matches(character).len();
        let mut taken = character.len_utf8();
        within = match within {
            Within::Document => match character {
                '#' => return true,
                // Two are an empty text.
                '"' | '\'' if run == 2 => {
                    taken = 2;
                    Within::Document
                }
                '"' | '\'' => {
                    let count = if run >= 3 { 3 } else { 1 };
                    taken = count;
                    Within::Text {
                        quote: character,
                        count,
                    }
                }
                _ => Within::Document,
            },
            Within::Text { quote, count } => {
                if character == quote && run >= count {
                    // The last of a longer run end the text: up to two more may precede them.
                    taken = if count == 3 { run } else { 1 };
                    Within::Document
                } else {
                    if character == '\\' && quote == '"' {
                        let escaped = rest.chars().nth(1);
                        taken += escaped.map_or(0, char::len_utf8);
                    }
                    Within::Text { quote, count }
                }
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_told_from_text_with_a_number_sign() {
        for with in [
            "# all",
            "a = 1 # why",
            "a = '#' # why",
            "a = \"\\\"\" # why",
            "a = '' # why",
            "a = '''#''' # why",
            "a = '\\' # why",
            "a = \"\"\"x\"\"\"\"\" # why",
        ] {
            assert!(has_comments(with), "{with}");
        }
        for without in [
            "",
            "a = 1",
            "a = '#'",
            "a = \"\\\"#\"",
            "a = '''\n'#'\n'''",
            "a = \"\"\"\n\"# \\\"\"\"#\"\"\"",
            "a = ['#', \"#\"]\n[b]\nc = ''",
        ] {
            assert!(!has_comments(without), "{without}");
        }
    }
}
