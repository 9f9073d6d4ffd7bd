//! `pinfold policy diff`: asked against granted, or two versions of a policy or of a plugin.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pinfold_policy::{PluginId, PolicyFile};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Page;
use crate::cli::package::{Declared, Package};
use crate::cli::plan;
use crate::cli::review::{self, Review};
use crate::dialect::Manifest;

/// Lines that belong together, by title.
type Sections = Vec<(&'static str, Vec<String>)>;

/// What two documents say differently.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    old: String,
    new: String,
    sections: Vec<Changes>,
}

#[derive(Debug, Serialize)]
struct Changes {
    title: &'static str,
    /// Only in the old one, sorted.
    removed: Vec<String>,
    /// Only in the new one, sorted.
    added: Vec<String>,
    /// In both, sorted.
    same: Vec<String>,
}

/// Why two things cannot be compared.
#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error("look at {path}")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{old} and {new} cannot be compared: one is a policy file, the other a plugin's directory"
    )]
    Kinds { old: PathBuf, new: PathBuf },
    #[error("{0:?} is no plugin's name: give two files or directories, or one plugin")]
    Name(String),
}

impl From<DiffError> for Failure {
    fn from(error: DiffError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// Whether both are the same.
pub(super) fn run(context: &Context, old: &str, new: Option<&Path>) -> Result<bool, Failure> {
    let difference = match new {
        Some(new) => two(Path::new(old), new)?,
        None => {
            let plugin = old.parse().map_err(|_| DiffError::Name(old.to_owned()))?;
            asked_and_granted(&Review::open(&context.place)?, &plugin)?
        }
    };
    context.output.give(&difference, page)?;
    Ok(difference
        .sections
        .iter()
        .all(|changes| changes.removed.is_empty() && changes.added.is_empty()))
}

/// What the manifest asks for, as old, against what the policy grants, as new.
fn asked_and_granted(review: &Review, plugin: &PluginId) -> Result<Difference, Failure> {
    let policy = review.policy(plugin)?;
    let declared = review.declared(plugin)?;
    let manifest = &declared.manifest;
    let file = &policy.file;
    let limits = |policy: &PolicyFile| {
        // Only what the manifest has a wish for: of the rest it says nothing that could differ.
        [
            manifest
                .wished_memory
                .map(|_| format!("limits.memory {}", policy.limits.memory)),
            manifest
                .wished_call
                .map(|_| format!("timeouts.call {}", policy.timeouts.call)),
            manifest
                .wished_init
                .map(|_| format!("timeouts.init {}", policy.timeouts.init)),
            manifest
                .wished_shutdown
                .map(|_| format!("timeouts.shutdown {}", policy.timeouts.shutdown)),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
    };
    let wished = crate::grants::as_asked(declared.dialect, manifest, file.trust.clone());
    let asked = vec![
        ("permissions", manifest.asked.lines().into_iter().collect()),
        ("program", program(declared.dialect, &manifest.entry)),
        ("wishes", limits(&wished)),
    ];
    let granted = vec![
        (
            "permissions",
            file.permissions.lines().into_iter().collect(),
        ),
        ("program", program(&file.dialect, &file.entry)),
        ("wishes", limits(file)),
    ];
    let manifest_file = review.directory(plugin).join(declared.manifest_file);
    Ok(Difference {
        old: format!("{} (asked)", manifest_file.display()),
        new: format!("{} (granted)", policy.path.display()),
        sections: compare(asked, granted),
    })
}

fn program(dialect: &str, entry: &str) -> Vec<String> {
    vec![format!("dialect {dialect}"), format!("entry {entry}")]
}

/// Two policies, each with what it is called.
pub(super) fn of_policies(
    (old_name, old): (String, &PolicyFile),
    (new_name, new): (String, &PolicyFile),
) -> Difference {
    Difference {
        old: old_name,
        new: new_name,
        sections: compare(of_policy(old), of_policy(new)),
    }
}

/// Two policy files, or two plugins' directories.
fn two(old: &Path, new: &Path) -> Result<Difference, Failure> {
    let is_directory = |path: &Path| {
        let looked = fs::metadata(path).map_err(|source| DiffError::Look {
            path: path.to_owned(),
            source,
        });
        looked.map(|metadata| metadata.is_dir())
    };
    let sections = match (is_directory(old)?, is_directory(new)?) {
        (true, true) => compare(package(old)?, package(new)?),
        (false, false) => compare(policy(old)?, policy(new)?),
        _ => {
            let (old, new) = (old.to_owned(), new.to_owned());
            return Err(DiffError::Kinds { old, new }.into());
        }
    };
    Ok(Difference {
        old: old.display().to_string(),
        new: new.display().to_string(),
        sections,
    })
}

fn policy(path: &Path) -> Result<Sections, Failure> {
    let bytes = fs::read(path).map_err(|source| DiffError::Look {
        path: path.to_owned(),
        source,
    })?;
    let (_, file) = review::parse(path, &bytes)?;
    Ok(of_policy(&file))
}

fn of_policy(file: &PolicyFile) -> Sections {
    let mut sections: Sections = plan::lines(file).into_iter().collect();
    let env = file
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"));
    sections.push(("environment", env.collect()));
    sections
}

/// What a plugin's directory declares, and its files.
fn package(path: &Path) -> Result<Sections, Failure> {
    let declared = Declared::read(path, None)?;
    let files = Package::read(path)?;
    let Manifest {
        version,
        description,
        author,
        license,
        entry,
        asked,
        wished_memory,
        wished_call,
        wished_init,
        wished_shutdown,
    } = &declared.manifest;
    let mut about = program(declared.dialect, entry);
    about.push(format!("name {}", declared.plugin));
    for (key, text) in [
        ("version", version),
        ("description", description),
        ("author", author),
        ("license", license),
    ] {
        if !text.is_empty() {
            about.push(format!("{key} {text}"));
        }
    }
    let wishes = [
        wished_memory.map(|memory| format!("memory {memory}")),
        wished_call.map(|time| format!("call {time}")),
        wished_init.map(|time| format!("init {time}")),
        wished_shutdown.map(|time| format!("shutdown {time}")),
    ];
    let of_file = |file: &pinfold_policy::StagedFile| {
        let digest: String = file
            .sha256
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let executable = if file.executable { ", executable" } else { "" };
        format!(
            "{} ({} bytes{executable}, sha256:{digest})",
            file.path, file.size
        )
    };
    Ok(vec![
        ("permissions", asked.lines().into_iter().collect()),
        ("program", about),
        ("wishes", wishes.into_iter().flatten().collect()),
        ("files", files.files.files().iter().map(of_file).collect()),
    ])
}

/// Both have the same titles in the same order.
fn compare(old: Sections, new: Sections) -> Vec<Changes> {
    let sections = old.into_iter().zip(new);
    sections
        .map(|((title, old), (_, new))| {
            let (old, new): (BTreeSet<String>, BTreeSet<String>) =
                (old.into_iter().collect(), new.into_iter().collect());
            Changes {
                title,
                removed: old.difference(&new).cloned().collect(),
                added: new.difference(&old).cloned().collect(),
                same: old.intersection(&new).cloned().collect(),
            }
        })
        .collect()
}

pub(super) fn page(difference: &Difference) -> Page {
    let mut page = Page::default();
    page.line(format_args!("--- {}", difference.old))
        .line(format_args!("+++ {}", difference.new));
    for changes in &difference.sections {
        let Changes {
            title,
            removed,
            added,
            same,
        } = changes;
        if removed.is_empty() && added.is_empty() && same.is_empty() {
            continue;
        }
        page.line(title);
        for (mark, lines) in [('-', removed), ('+', added), ('=', same)] {
            for line in lines {
                page.line(format_args!("  {mark} {line}"));
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_sorted_and_nothing_is_left_out() {
        let lines =
            |list: &[&str]| vec![("permissions", list.iter().map(|&l| l.to_owned()).collect())];
        let changes = compare(lines(&["c", "a", "b"]), lines(&["d", "b", "e"]));
        let difference = Difference {
            old: "o".into(),
            new: "n".into(),
            sections: changes,
        };
        assert_eq!(
            page(&difference).to_string(),
            "--- o\n+++ n\npermissions\n  - a\n  - c\n  + d\n  + e\n  = b\n"
        );
    }
}
