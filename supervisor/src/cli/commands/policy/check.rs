//! `pinfold policy check`: what is wrong with policies, and what is legal and wide or weak.

mod human;
mod sarif;
mod surroundings;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pinfold_policy::lint::{self, Finding, Linted, Rule, Severity};
use pinfold_policy::{Places, PluginId, document};
use pinfold_sandbox::launcher::review::FilesError;
use serde::Serialize;

use self::surroundings::Surroundings;
use crate::cli::Context;
use crate::cli::args::{CheckArguments, Form};
use crate::cli::exit::{Exit, Failure};
use crate::cli::installation::InstallationError;
use crate::cli::review::{self, Review, ReviewError};

/// What was found in one file.
pub(in crate::cli::commands) struct Checked {
    /// The file, as it was named or found.
    pub(in crate::cli::commands) path: PathBuf,
    places: Places,
    pub(in crate::cli::commands) findings: Vec<Finding>,
}

/// Why something that was named cannot be looked at.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("{0:?} is neither a file nor the name of a plugin")]
    Target(String),
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} has over {limit} bytes", limit = document::DOCUMENT_LIMIT_BYTES)]
    TooLarge { path: PathBuf },
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// Whether nothing was found that makes the command fail.
pub(super) fn run(context: &Context, arguments: &CheckArguments) -> Result<bool, Failure> {
    let mut checked = Vec::new();
    if arguments.targets.is_empty() {
        checked = all(&Review::open(&context.place)?)?;
    } else {
        // Files can be looked at where nothing is installed.
        let review = Review::open(&context.place);
        for target in &arguments.targets {
            checked.push(one(target, &review)?);
        }
    }
    match arguments.form(context.output.is_json()) {
        Form::People => context.output.page(&human::page(&checked))?,
        Form::Json => context.output.json(&views(&checked))?,
        Form::Sarif => context.output.json(&sarif::log(&checked))?,
    }
    let all = checked.iter().flat_map(|one| &one.findings);
    Ok(!all.into_iter().any(|f| arguments.fail_on.fails(f.severity)))
}

/// Every policy of an installation.
pub(in crate::cli::commands) fn all(review: &Review) -> Result<Vec<Checked>, Failure> {
    let (plugins, others) = review.policies()?;
    let mut checked = Vec::new();
    for plugin in plugins {
        checked.push(installed(review, &plugin)?);
    }
    checked.extend(others.into_iter().map(never_read));
    Ok(checked)
}

/// What was named: a file where there is one of that name, else a plugin.
fn one(target: &str, review: &Result<Review, InstallationError>) -> Result<Checked, Failure> {
    let path = Path::new(target);
    if path.is_file() {
        return file(path, review.as_ref().ok());
    }
    let Ok(plugin) = target.parse::<PluginId>() else {
        if target.contains('/') || target.ends_with(".toml") {
            let source = fs::metadata(path)
                .map(|_| io::Error::from(io::ErrorKind::InvalidInput))
                .unwrap_or_else(|error| error);
            let path = path.to_owned();
            return Err(CheckError::Read { path, source }.into());
        }
        return Err(CheckError::Target(target.to_owned()).into());
    };
    match review {
        Ok(review) => installed(review, &plugin),
        Err(error) => Err(
            Failure::new(Exit::Usage, CheckError::Target(target.to_owned())).hint(format!(
                "no installation is known: {}",
                review::chain(error)
            )),
        ),
    }
}

/// The policy of an installed plugin.
fn installed(review: &Review, plugin: &PluginId) -> Result<Checked, Failure> {
    let read = match review.files.policy(plugin) {
        Ok(read) => read,
        Err(FilesError::Trust(error)) if !review::is_no_permission(&error) => {
            return Ok(untrusted(review, plugin, &error));
        }
        Err(source) => {
            let plugin = plugin.clone();
            return Err(ReviewError::Policy { plugin, source }.into());
        }
    };
    let linted = lint::lint(&read.bytes);
    let surroundings = Surroundings {
        review: Some(review),
        plugin: Some(plugin),
        is_installed: true,
        is_development: read.is_development,
    };
    Ok(look(read.path, linted, &surroundings))
}

/// A policy file anywhere. One that is an installed plugin's is looked at as that.
fn file(path: &Path, review: Option<&Review>) -> Result<Checked, Failure> {
    let plugin = review::plugin_of(path);
    if let (Some(review), Some(plugin)) = (review, &plugin) {
        let same = |directory: &Path| {
            let of = |path: &Path| fs::canonicalize(path).ok();
            of(path).is_some() && of(path) == of(&directory.join(format!("{plugin}.toml")))
        };
        if same(&review.config.policy_dir) {
            return installed(review, plugin);
        }
    }
    let bytes = fs::read(path).map_err(|source| CheckError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() > document::DOCUMENT_LIMIT_BYTES {
        let path = path.to_owned();
        return Err(CheckError::TooLarge { path }.into());
    }
    let surroundings = Surroundings {
        review,
        plugin: plugin.as_ref(),
        is_installed: false,
        is_development: false,
    };
    Ok(look(path.to_owned(), lint::lint(&bytes), &surroundings))
}

fn look(path: PathBuf, linted: Linted, surroundings: &Surroundings<'_>) -> Checked {
    let mut findings = linted.findings;
    if let Some(policy) = &linted.policy {
        findings.extend(surroundings.look(policy, &linted.places));
    }
    lint::sort(&mut findings);
    Checked {
        path,
        places: linted.places,
        findings,
    }
}

/// A policy that the launcher does not even read.
fn untrusted(
    review: &Review,
    plugin: &PluginId,
    error: &(dyn std::error::Error + 'static),
) -> Checked {
    let name = format!("{plugin}.toml");
    let mut path = review.config.policy_dir.join(&name);
    if let (Some(directory), false) = (&review.config.dev_policy_dir, path.exists()) {
        path = directory.join(name);
    }
    // Its text is shown where it can be read all the same.
    let linted = fs::read(&path)
        .map(|bytes| lint::lint(&bytes))
        .unwrap_or_default();
    let mut findings = linted.findings;
    findings.push(Finding::new(
        Rule::FileUntrusted,
        review::chain(error),
        surroundings::OWNERS,
    ));
    lint::sort(&mut findings);
    Checked {
        path,
        places: linted.places,
        findings,
    }
}

/// A file among the policies that is none by its name.
fn never_read(path: PathBuf) -> Checked {
    let finding = Finding::new(
        Rule::FileName,
        "no plugin is called like this, so nothing reads it",
        "name it PLUGIN.toml after its plugin (a-z, 0-9, _ and -), or take it away",
    );
    Checked {
        path,
        places: Places::default(),
        findings: vec![finding],
    }
}

/// One finding, for programs.
#[derive(Serialize)]
struct View<'a> {
    file: String,
    rule: Rule,
    severity: Severity,
    /// From 1; absent where the finding is the whole file's.
    line: Option<usize>,
    column: Option<usize>,
    /// Just after the last column.
    end_column: Option<usize>,
    message: &'a str,
    help: &'a str,
}

/// All of them, with what was looked at.
#[derive(Serialize)]
struct Views<'a> {
    files: Vec<String>,
    findings: Vec<View<'a>>,
}

fn views(checked: &[Checked]) -> Views<'_> {
    let of = |one: &Checked| one.path.display().to_string();
    let findings = checked.iter().flat_map(|one| {
        one.findings.iter().map(move |finding| View {
            file: of(one),
            rule: finding.rule,
            severity: finding.severity,
            line: finding.place.map(|place| place.line),
            column: finding.place.map(|place| place.column),
            end_column: finding.place.map(|place| place.column + place.length),
            message: &finding.message,
            help: &finding.help,
        })
    });
    Views {
        files: checked.iter().map(of).collect(),
        findings: findings.collect(),
    }
}
