//! "Did you mean": the nearest known word to an unknown one.

/// A key that a configuration file does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown key {key:?}{}", hint(.nearest.as_deref()))]
pub struct UnknownKey {
    /// Dotted path of the key as written.
    pub key: String,
    /// The nearest known one, where one is near.
    pub nearest: Option<String>,
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |known| format!(", did you mean {known:?}?"))
}

/// The one of `known` that `word` was probably meant to be: edit distance at most a third of the
/// longer word, at least one; ties go to the first.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (word.len().max(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters; words over 64 characters are never near anything.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["plugin-dir", "policy-dir", "state-dir"];
        assert_eq!(nearest("plugins-dir", known), Some("plugin-dir"));
        assert_eq!(nearest("statedir", known), Some("state-dir"));
        assert_eq!(nearest("colour", known), None);
    }
}
