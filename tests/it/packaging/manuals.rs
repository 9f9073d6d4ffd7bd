//! The manual pages of the configuration files, which `packaging/man/generate` makes of the pages in `docs/`.

use std::fs;
use std::process::Command;

use pinfold_tests::{repository, scratch};

/// A page, the file it is made of, the sections of that (all, where none is named), and fewer keys than these have.
const PAGES: [(&str, &str, &str, usize); 3] = [
    (
        "pinfold.toml.5",
        "docs/configuration.md",
        "## pinfold.toml",
        30,
    ),
    (
        "pinfold-launcher.toml.5",
        "docs/configuration.md",
        "## launcher.toml",
        15,
    ),
    ("pinfold-policy.5", "docs/policy.md", "", 60),
];

#[test]
fn each_configuration_has_a_page_with_every_key() {
    let directory = scratch();
    let script = repository().join("packaging/man/generate");
    let made = Command::new(script).arg(directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success() && said.is_empty(), "{said}");
    for (name, source, section, least) in PAGES {
        let page = fs::read_to_string(directory.path().join(name)).unwrap();
        let keys = keys(
            &fs::read_to_string(repository().join(source)).unwrap(),
            section,
        );
        assert!(keys.len() > least, "{source} {section}: {keys:?}");
        let tags = tags(&page);
        for key in keys {
            let found = tags.iter().any(|tag| tag.starts_with(&key));
            assert!(found, "{name} lacks {key}");
        }
        assert!(page.starts_with(".\\\" ") && page.contains("\n.SH NAME\n"));
        // What Markdown means by them has become what roff does. Two stars after a slash are a pattern's own.
        let page = page.replace("/**", "");
        for mark in ["](", "**", "\n| ", "\n## "] {
            assert!(!page.contains(mark), "{name} has {mark:?}");
        }
    }
}

/// The first cells of the tables' rows.
fn keys(text: &str, section: &str) -> Vec<String> {
    let mut inside = section.is_empty();
    let mut keys = Vec::new();
    for line in text.lines() {
        if line.starts_with("## ") && !section.is_empty() {
            inside = line.starts_with(section);
        }
        let row = line.strip_prefix("| `").filter(|_| inside);
        if let Some((key, _)) = row.and_then(|row| row.split_once(" | ")) {
            keys.push(key.replace('`', ""));
        }
    }
    keys
}

/// What the indented paragraphs begin with, as it is read.
fn tags(page: &str) -> Vec<String> {
    let lines = page.lines().zip(page.lines().skip(1));
    lines
        .filter(|(before, _)| *before == ".TP")
        .map(|(_, tag)| {
            tag.replace("\\fB", "")
                .replace("\\fR", "")
                .replace("\\-", "-")
        })
        .collect()
}
