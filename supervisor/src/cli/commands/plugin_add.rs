//! `pinfold plugin add`: a plugin's directory copied, granted and started.

use std::path::Path;

use pinfold_gateway::admin::dto::Because;
use pinfold_policy::{Digest, PluginId};

use super::plugin_grant::{self, Wanted};
use crate::cli::Context;
use crate::cli::args::GrantArguments;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::cli::installation::Installation;
use crate::cli::package::{Declared, Package};
use crate::cli::policy_file;
use crate::cli::recorded;
use crate::cli::source::Source;
use crate::install::{self, Copied, InstallError};

/// What was confirmed is not what was copied.
#[derive(Debug, thiserror::Error)]
#[error(
    "the files changed between the look at them ({shown}) and the copy ({copied}): nothing was changed or granted"
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
    install(
        &source.directory,
        &installation,
        &declared.plugin,
        package.digest(),
    )?;
    plugin_grant::write_and_tell(context, &wanted, &plan, because, Some(recorded)).await
}

/// Copies what was shown, and nothing else, in place of what was there. Where it is there already it has to be
/// what was shown too.
fn install(
    source: &Path,
    installation: &Installation,
    plugin: &PluginId,
    shown: Digest,
) -> Result<(), Failure> {
    let installed = installation.plugin(plugin);
    let copy = match is_same(source, &installed) {
        true => None,
        false => {
            let (directory, owner) = (installation.plugin_dir(), installation.plugin_owner());
            let copy = install::copy(source, directory, plugin, owner);
            Some(copy.map_err(not_copied)?)
        }
    };
    let at = copy.as_ref().map_or(installed.as_path(), Copied::path);
    let copied = Package::read(at)?.digest();
    if copied != shown {
        let changed = ChangedMeanwhile { shown, copied };
        return Err(Failure::new(Exit::Temporary, changed).hint("add it again"));
    }
    match copy {
        Some(copy) => copy.put().map_err(not_copied),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::place::Place;

    #[test]
    fn files_that_changed_after_they_were_shown_take_nobodys_place() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let (plugins, policies) = (at("plugins"), at("etc/policy.d"));
        let (keys, state, source) = (at("etc/keys.d"), at("launcher"), at("hello"));
        let place = Place::development(base.path());
        let text = format!(
            "plugin-dir = {plugins:?}\npolicy-dir = {policies:?}\nkeys-dir = {keys:?}\n\
             state-dir = {state:?}\ndaemon-user = \"nobody\"\n"
        );
        fs::write(&place.launcher_config, text).unwrap();
        let installation = Installation::open(&place).unwrap();
        let plugin: PluginId = "hello".parse().unwrap();
        let digest = || Package::read(&source).unwrap().digest();
        let content = || fs::read_to_string(plugins.join("hello/hello")).unwrap();
        fs::write(source.join("hello"), "first").unwrap();
        install(&source, &installation, &plugin, digest()).unwrap();
        assert_eq!(content(), "first");
        fs::write(source.join("hello"), "shown").unwrap();
        let shown = digest();
        fs::write(source.join("hello"), "never shown").unwrap();
        let failure = install(&source, &installation, &plugin, shown).unwrap_err();
        assert_eq!(failure.exit(), Exit::Temporary);
        assert_eq!(content(), "first");
        assert_eq!(fs::read_dir(&plugins).unwrap().count(), 1);
        install(&source, &installation, &plugin, digest()).unwrap();
        assert_eq!(content(), "never shown");
        // From where it lies already.
        let installed = plugins.join("hello").canonicalize().unwrap();
        let failure = install(&installed, &installation, &plugin, shown).unwrap_err();
        assert_eq!(failure.exit(), Exit::Temporary);
        assert_eq!(content(), "never shown");
    }
}
