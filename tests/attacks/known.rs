//! docs/security/known-attacks.md names what covers each escape, and all of it exists.

use std::collections::BTreeSet;
use std::fs;

use pinfold_tests::repository;

use super::attempt::groups;

#[test]
fn what_covers_each_known_attack_exists() {
    let page = fs::read_to_string(repository().join("docs/security/known-attacks.md")).unwrap();
    let groups = groups();
    let ids: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| group.attempts.iter().map(|one| one.id))
        .collect();
    let sources = sources();
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let [what, .., cover] = columns[..] else {
            panic!("{line}");
        };
        if what.trim() == "escape" || what.starts_with("---") {
            continue;
        }
        rows += 1;
        let named: Vec<&str> = cover.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "nothing covers: {line}");
        for name in named {
            let is_test = || sources.contains(&format!("fn {name}("));
            assert!(
                ids.contains(name) || is_test(),
                "there is no {name}: {line}"
            );
        }
    }
    assert!(rows >= 30, "{rows}");
}

/// The text of every test in Rust.
fn sources() -> String {
    let mut text = String::new();
    for folder in ["tests", "sandbox", "supervisor", "rpc"] {
        gather(&repository().join(folder), &mut text);
    }
    text
}

fn gather(directory: &std::path::Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            gather(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(&path).unwrap();
        }
    }
}
