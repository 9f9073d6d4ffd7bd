//! `pinfold plugin add`: a plugin's directory copied, granted and started.

use std::path::Path;

use pinfold_gateway::admin::dto::Because;
use pinfold_policy::Digest;

use super::plugin_grant::{self, Wanted};
use crate::cli::Context;
use crate::cli::args::GrantArguments;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::cli::installation::Installation;
use crate::cli::package::{Declared, Package};
use crate::cli::policy_file;
use crate::cli::recorded;
use crate::cli::source::Source;
use crate::install::{self, InstallError};

/// What was confirmed is not what was copied.
#[derive(Debug, thiserror::Error)]
#[error(
    "the files changed between the look at them ({shown}) and the copy ({copied}): nothing was granted"
)]
struct ChangedMeanwhile {
    shown: Digest,
    copied: Digest,
}

pub(super) async fn run(
    context: &Context,
    path: &Path,
    how: GrantArguments,
) -> Result<(), Failure> {
    let source = Source::find(path)?;
    let declared = Declared::read(&source.directory, None)?;
    source.check(&declared)?;
    let installation = Installation::open(&context.place)?;
    let package = Package::read(&source.directory)?;
    let existing = policy_file::read(&installation.policy(&declared.plugin))?;
    let wanted = Wanted {
        installation: &installation,
        declared: &declared,
        package: &package,
        existing: existing.as_ref(),
        how,
    };
    let plan = wanted.plan(context)?;
    context.output.beside(&plan.page())?;
    let verb = if existing.is_some() { "replace" } else { "add" };
    let question = format!("{verb} {} and grant this?", declared.plugin);
    wanted.confirm(&question)?;
    let because = Because::PluginAdded;
    let recorded = recorded::plugin(context, &installation, because, &declared.plugin).await?;
    let installed = installation.plugin(&declared.plugin);
    if !is_same(&source.directory, &installed) {
        install::replace(
            &source.directory,
            installation.plugin_dir(),
            &declared.plugin,
            installation.plugin_owner(),
        )
        .map_err(not_copied)?;
    }
    let copied = Package::read(&installed)?.digest();
    if copied != package.digest() {
        let changed = ChangedMeanwhile {
            shown: package.digest(),
            copied,
        };
        return Err(Failure::new(Exit::Temporary, changed).hint("add it again"));
    }
    plugin_grant::write_and_tell(context, &wanted, &plan, because, Some(recorded)).await
}

/// Whether the plugin is added from where it is installed already.
fn is_same(source: &Path, installed: &Path) -> bool {
    installed
        .canonicalize()
        .is_ok_and(|installed| installed == source)
}

fn not_copied(error: InstallError) -> Failure {
    let exit = of_io(Exit::CannotCreate, &error.source);
    Failure::new(exit, error)
}
