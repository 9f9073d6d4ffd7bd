//! Whatever the documentation shows as TOML is read by what it is for. What is a policy, or a part of one,
//! the policies' own tests read.

use std::path::{Path, PathBuf};

use pinfold_policy::{KeyRules, PolicyFile};
use pinfold_sandbox::seccomp::Profile;

use super::Config;

/// Every page of the documentation, with its text.
fn pages(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// What reads an example: by keys that nothing else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Daemon,
    Policy,
    Profile,
    KeyRules,
}

fn reader(example: &toml::Table) -> Reader {
    let is_of_policy = |key: &String| {
        let tables = PolicyFile::known_keys().iter();
        let mut tables = tables.filter(|(table, _)| matches!(*table, "" | "permissions"));
        tables.any(|(_, keys)| keys.contains(&key.as_str()))
    };
    if example.contains_key("arch") {
        Reader::Profile
    } else if example.contains_key("plugins") {
        Reader::KeyRules
    } else if example.keys().all(is_of_policy) {
        Reader::Policy
    } else {
        Reader::Daemon
    }
}

#[test]
fn every_example_of_the_documentation_is_taken_by_what_reads_it() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut found = Vec::new();
    pages(&docs, &mut found);
    let mut read = Vec::new();
    for (page, text) in found {
        let page = page.display();
        for example in text.split("```toml").skip(1) {
            let example = example.split("```").next().unwrap();
            let table: toml::Table = example.parse().unwrap();
            let reader = reader(&table);
            let refusal = match reader {
                Reader::Policy => None,
                Reader::Profile => {
                    let name = table["name"].as_str().unwrap();
                    Profile::parse(example, name).err().map(|e| e.to_string())
                }
                Reader::KeyRules => {
                    let rules = KeyRules::parse(example.as_bytes());
                    rules.err().map(|error| format!("{error:?}"))
                }
                Reader::Daemon => {
                    let config = Config::parse(example.as_bytes(), Path::new("pinfold.toml"));
                    config.err().map(|error| format!("{error:?}"))
                }
            };
            assert_eq!(refusal, None, "{page}: {example}");
            read.push(reader);
        }
    }
    let count = |one: Reader| read.iter().filter(|reader| **reader == one).count();
    assert!(count(Reader::Daemon) >= 2, "{read:?}");
    assert!(count(Reader::Policy) >= 5, "{read:?}");
    assert_eq!(count(Reader::Profile), 1, "{read:?}");
    assert_eq!(count(Reader::KeyRules), 1, "{read:?}");
}
