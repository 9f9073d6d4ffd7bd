//! Whatever the documentation shows as TOML is read by what it is for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use pinfold_policy::{KeyRules, POLICY_SCHEMA, PolicyFile};
use pinfold_sandbox::seccomp::Profile;
use toml::Table;

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
    /// What stands in a policy's `[permissions]`.
    Permissions,
    Profile,
    KeyRules,
}

fn reader(example: &Table) -> Reader {
    let is_in = |table: &str| {
        let mut tables = PolicyFile::known_keys().iter();
        let (_, known) = tables.find(|(name, _)| *name == table).unwrap();
        example.keys().all(|key| known.contains(&key.as_str()))
    };
    if example.contains_key("arch") {
        Reader::Profile
    } else if example.contains_key("plugins") {
        Reader::KeyRules
    } else if is_in("") {
        Reader::Policy
    } else if is_in("permissions") {
        Reader::Permissions
    } else {
        Reader::Daemon
    }
}

/// The policy that an example is, with what every policy has.
fn whole(mut policy: Table) -> Table {
    let least = "schema = 1\ndialect = 'goatflow'\nentry = 'hello'\n[trust]\nunsigned = true\n";
    for (key, value) in least.parse::<Table>().unwrap() {
        policy.entry(key).or_insert(value);
    }
    policy
}

/// Why the daemon, or an editor by the schema, refuses a policy.
fn refusal_of_policy(schema: &Validator, policy: Table) -> Option<String> {
    let policy = whole(policy);
    if let Err(error) = PolicyFile::parse(policy.to_string().as_bytes()) {
        return Some(format!("{error:?}"));
    }
    let document = serde_json::to_value(policy).unwrap();
    schema.validate(&document).err().map(|e| e.to_string())
}

#[test]
fn every_example_of_the_documentation_is_taken_by_what_reads_it() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let schema = jsonschema::validator_for(&serde_json::from_str(POLICY_SCHEMA).unwrap()).unwrap();
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let mut found = Vec::new();
    pages(&docs, &mut found);
    let mut read = Vec::new();
    let mut keys = BTreeSet::new();
    for (page, text) in found {
        let page = page.display();
        for example in text.split("```toml").skip(1) {
            let example = example.split("```").next().unwrap();
            let example = example.replace("sha256:…", &digest);
            let table: Table = example.parse().unwrap();
            let reader = reader(&table);
            if matches!(reader, Reader::Policy | Reader::Permissions) {
                keys.extend(table.keys().cloned());
            }
            let refusal = match reader {
                Reader::Policy => refusal_of_policy(&schema, table),
                Reader::Permissions => {
                    let permissions = ("permissions".to_owned(), toml::Value::Table(table));
                    refusal_of_policy(&schema, Table::from_iter([permissions]))
                }
                Reader::Profile => {
                    let name = table["name"].as_str().unwrap();
                    Profile::parse(&example, name).err().map(|e| e.to_string())
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
    assert!(count(Reader::Policy) >= 4, "{read:?}");
    assert!(count(Reader::Permissions) >= 1, "{read:?}");
    assert_eq!(count(Reader::Profile), 1, "{read:?}");
    assert_eq!(count(Reader::KeyRules), 1, "{read:?}");
    // Of the whole policy, and of the fragments about what is not in it.
    for key in ["schema", "runtime", "mounts", "http", "controls"] {
        assert!(keys.contains(key), "{key}: {keys:?}");
    }
}
