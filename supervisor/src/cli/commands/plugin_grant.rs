//! `pinfold plugin grant`: what an installed plugin's manifest asks for, granted.

use pinfold_gateway::admin::dto::{Because, PluginDetail, RescanQuery};
use pinfold_policy::PluginId;
use pinfold_sandbox::launcher::review::ProfileUse;
use pinfold_sandbox::seccomp::Profile;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::args::GrantArguments;
use crate::cli::confirm::{self, ConfirmError};
use crate::cli::exit::{Exit, Failure};
use crate::cli::installation::Installation;
use crate::cli::output::{self, Page};
use crate::cli::package::{Declared, Package};
use crate::cli::plan::{Choice, Plan, Wish};
use crate::cli::policy_file::{self, Existing};
use crate::cli::recorded::{self, Recorded};
use crate::cli::review::Review;
use crate::cli::tell::{self, Told};
use crate::keys;

/// A plugin that is to be granted what it asks for.
pub(super) struct Wanted<'a> {
    pub(super) installation: &'a Installation,
    pub(super) declared: &'a Declared,
    pub(super) package: &'a Package,
    pub(super) existing: Option<&'a Existing>,
    pub(super) how: GrantArguments,
}

/// What was done, for programs.
#[derive(Serialize)]
struct Done<'a> {
    plan: &'a Plan,
    /// What became of the plugin; absent where the daemon does not run.
    plugin: Option<&'a PluginDetail>,
}

/// A plugin that is not there.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin:?} is not installed in {directory}", plugin = .plugin.as_str())]
pub(super) struct NotInstalled {
    pub(super) plugin: PluginId,
    pub(super) directory: String,
}

impl From<NotInstalled> for Failure {
    fn from(error: NotInstalled) -> Self {
        Self::new(Exit::Failed, error).hint("`pinfold plugin list` names those that are there")
    }
}

pub(super) async fn run(
    context: &Context,
    plugin: &PluginId,
    how: GrantArguments,
) -> Result<(), Failure> {
    let installation = Installation::open(&context.place)?;
    let directory = installation.plugin(plugin);
    if !directory.is_dir() {
        return Err(not_installed(&installation, plugin).into());
    }
    let declared = Declared::read(&directory, Some(plugin))?;
    let package = Package::read(&directory)?;
    let existing = policy_file::read(&installation.policy(plugin))?;
    let wanted = Wanted {
        installation: &installation,
        declared: &declared,
        package: &package,
        existing: existing.as_ref(),
        how,
    };
    let plan = wanted.plan(context)?;
    context.output.beside(&plan.page())?;
    if plan.changes_nothing() {
        output::note(
            "the policy says this already: it is left as it is, and the plugin started anew",
        );
    } else {
        wanted.confirm(&format!("grant this to {plugin}?"))?;
    }
    let because = Because::PluginGranted;
    let recorded = match plan.changes_nothing() {
        true => None,
        false => Some(recorded::plugin(context, &installation, because, plugin).await?),
    };
    write_and_tell(context, &wanted, &plan, because, recorded).await
}

pub(super) fn not_installed(installation: &Installation, plugin: &PluginId) -> NotInstalled {
    NotInstalled {
        plugin: plugin.clone(),
        directory: installation.plugin_dir().display().to_string(),
    }
}

impl Wanted<'_> {
    pub(super) fn plan(&self, context: &Context) -> Result<Plan, Failure> {
        if let Some(profile) = &self.how.profile {
            check_profile(context, profile)?;
        }
        let plugin = &self.declared.plugin;
        let keys = keys::all(self.installation.keys_dir())?;
        let choice = Choice {
            plugin,
            entry: &self.declared.manifest.entry,
            package: self.package,
            keys: &keys,
            before: self.existing.map(|existing| &existing.policy.trust),
            wish: match (self.how.unsigned, self.how.pin) {
                (true, _) => Wish::Unsigned,
                (false, true) => Wish::Pin,
                (false, false) => Wish::Best,
            },
            required: self.installation.requires_signatures(),
            now: keys::now(),
        };
        let policy_file = self.installation.policy(plugin);
        let chosen = choice.choose()?;
        Ok(Plan::new(
            self.declared,
            self.package,
            self.existing,
            chosen,
            self.how.profile.as_deref(),
            policy_file,
        ))
    }

    /// Asks.
    pub(super) fn confirm(&self, question: &str) -> Result<(), ConfirmError> {
        confirm::confirm(question, self.how.yes)
    }
}

/// A profile that the launcher would not find, or would refuse, is not written.
fn check_profile(context: &Context, name: &str) -> Result<(), Failure> {
    let review = Review::open(&context.place)?;
    let Err(error) = review.files.profile(ProfileUse::plain(name)) else {
        return Ok(());
    };
    let shipped: Vec<&str> = Profile::builtin_names().collect();
    let hint = format!(
        "shipped are: {}; others are profiles/NAME.toml in data-dir",
        shipped.join(", ")
    );
    Err(Failure::new(Exit::Data, error).hint(&hint))
}

/// Writes the plan's policy, has the daemon start the plugin with it, and shows how that went.
pub(super) async fn write_and_tell(
    context: &Context,
    wanted: &Wanted<'_>,
    plan: &Plan,
    because: Because,
    recorded: Option<Recorded>,
) -> Result<(), Failure> {
    let plugin = &wanted.declared.plugin;
    if !plan.changes_nothing() {
        policy_file::write(wanted.installation, plugin, plan.policy())?;
    }
    let why = match &recorded {
        Some(recorded) => recorded.because(because),
        None => RescanQuery::because(because),
    };
    let told = tell::tell(&context.client, plugin, &why).await?;
    if let (Some(recorded), false) = (recorded, matches!(told, Told::NotRunning)) {
        recorded.forget();
    }
    let detail = match told {
        Told::Plugin(detail) => Some(detail),
        Told::Gone => return Err(not_installed(wanted.installation, plugin).into()),
        Told::NotRunning => None,
    };
    let done = Done {
        plan,
        plugin: detail.as_deref(),
    };
    if context.output.is_json() {
        context.output.json(&done)?;
    }
    let Some(detail) = detail else {
        let what = format!(
            "{plugin} lies in {} with its policy, and starts with it",
            wanted.installation.plugin(plugin).display()
        );
        tell::note_not_running(&what, context.development);
        return Ok(());
    };
    tell::check(&detail)?;
    if !context.output.is_json() {
        let mut page = Page::default();
        page.line("");
        context.output.page(&page)?;
        context.output.page(&tell::page(&detail))?;
    }
    Ok(())
}
