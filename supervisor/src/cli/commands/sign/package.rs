//! `pinfold sign --package`: all files of a plugin, as one version of it.

use std::path::{Path, PathBuf};

use pinfold_policy::{
    Moment, PACKAGE_SIGNATURE_FILE, Platform, PrivateKey, Statement, Version, VersionError,
};
use serde::Serialize;

use super::{SignError, hint_to_trust, write};
use crate::cli::Context;
use crate::cli::args::StateArguments;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Page;
use crate::cli::package::{Declared, Package};
use crate::keys;

/// The manifest's version cannot be stated.
#[derive(Debug, thiserror::Error)]
#[error("the version that the manifest says")]
struct NoVersion(#[source] VersionError);

/// What was signed, for programs.
#[derive(Serialize)]
struct Signed {
    signature_file: PathBuf,
    plugin: String,
    version: Option<String>,
    platform: String,
    digest: String,
    files: usize,
    from: String,
    until: Option<String>,
    public_key: String,
}

pub(super) fn run(
    context: &Context,
    directory: &Path,
    key: &PrivateKey,
    states: &StateArguments,
) -> Result<(), Failure> {
    let declared = Declared::read(directory, None)?;
    let package = Package::read(directory)?;
    let from = keys::now();
    let until = states.expires.map(|lifetime| {
        let seconds = from.unix_seconds().saturating_add(lifetime.0.as_secs());
        Moment::from_unix_seconds(seconds)
    });
    let statement = Statement {
        plugin: declared.plugin,
        version: match &states.plugin_version {
            Some(version) => Some(version.clone()),
            None => version(&declared.manifest.version)?,
        },
        platform: states.platform.clone().unwrap_or_else(Platform::here),
        digest: package.digest(),
        key: key.public_key(),
        from,
        until,
    };
    let signed = Signed {
        signature_file: directory.join(PACKAGE_SIGNATURE_FILE),
        plugin: statement.plugin.to_string(),
        version: statement.version.as_ref().map(ToString::to_string),
        platform: statement.platform.as_str().to_owned(),
        digest: statement.digest.to_string(),
        files: package.files.files().len(),
        from: statement.from.to_string(),
        until: statement.until.map(|until| until.to_string()),
        public_key: statement.key.to_string(),
    };
    let text = statement.sign(key).to_text();
    write(&signed.signature_file, &text).map_err(|source| SignError::Write {
        path: signed.signature_file.clone(),
        source,
    })?;
    context.output.give(&signed, |signed| {
        let mut page = Page::default();
        page.line(format_args!(
            "{} is written",
            signed.signature_file.display()
        ))
        .field("plugin", &signed.plugin)
        .field("version", signed.version.as_deref().unwrap_or("none"))
        .field("platform", &signed.platform)
        .field("files", signed.files)
        .field("digest", &signed.digest)
        .field("until", signed.until.as_deref().unwrap_or("for ever"))
        .field("by key", &signed.public_key);
        page
    })?;
    hint_to_trust(context);
    Ok(())
}

/// None where the manifest says none.
fn version(text: &str) -> Result<Option<Version>, Failure> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error| {
            Failure::new(Exit::Data, NoVersion(error)).hint("say it: --plugin-version 1.2.0")
        }),
    }
}
