//! What people wrote about the figures: one part for each heading of the second level.

/// The parts of `notes.md`. What stands before the first heading is about the file itself and is
/// not copied.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Names of parts, and what stands under them.
    parts: Vec<(String, String)>,
}

/// Stands before every section.
const SUMMARY: &str = "summary";

impl Notes {
    pub(super) fn parse(text: &str) -> Self {
        let mut parts: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("## ") {
                parts.push((name.trim().to_owned(), String::new()));
            } else if let Some((_, part)) = parts.last_mut() {
                part.push_str(line);
                part.push('\n');
            }
        }
        Self { parts }
    }

    /// The part of this name, empty where there is none.
    pub(super) fn part(&self, name: &str) -> String {
        let found = self.parts.iter().find(|(one, _)| one == name);
        match found.map(|(_, text)| text.trim()) {
            None | Some("") => String::new(),
            Some(text) => format!("\n{text}\n"),
        }
    }

    /// The parts that belong to none of these sections, under their headings.
    pub(super) fn rest(&self, sections: &[&str]) -> String {
        self.parts
            .iter()
            .filter(|(name, _)| name != SUMMARY && !sections.contains(&&**name))
            .map(|(name, text)| format!("\n## {name}\n\n{}\n", text.trim()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Notes;

    #[test]
    fn parts_are_found_by_their_headings() {
        let notes = Notes::parse(
            "about\n\n## summary\n\nbrief\n\n## calls\ntwo\nlines\n\n## Later\nmore\n",
        );
        assert_eq!(notes.part("summary"), "\nbrief\n");
        assert_eq!(notes.part("calls"), "\ntwo\nlines\n");
        assert_eq!(notes.part("start"), "");
        assert_eq!(notes.rest(&["calls", "start"]), "\n## Later\n\nmore\n");
    }
}
