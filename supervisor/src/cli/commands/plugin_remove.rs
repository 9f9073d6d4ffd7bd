//! `pinfold plugin remove`: a plugin and its policy taken away, its lasting state kept.

use pinfold_gateway::admin::dto::Because;
use pinfold_policy::PluginId;
use serde::Serialize;

use super::plugin_grant::not_installed;
use crate::cli::Context;
use crate::cli::confirm;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::cli::installation::Installation;
use crate::cli::output::Page;
use crate::cli::owned_file;
use crate::cli::recorded;
use crate::cli::tell::{self, Told};
use crate::install;

/// What was taken away, for programs.
#[derive(Serialize)]
struct Removed {
    plugin: PluginId,
    /// The directory that stays, where there is one.
    kept: Option<String>,
    /// Whether the daemon was there to stop it.
    stopped: bool,
}

pub(super) async fn run(context: &Context, plugin: &PluginId, yes: bool) -> Result<(), Failure> {
    let installation = Installation::open(&context.place)?;
    let (directory, policy) = (installation.plugin(plugin), installation.policy(plugin));
    let written_by_daemon = installation.development_policy(plugin);
    let kept = installation.lasting_state(plugin);
    let kept = kept.exists().then(|| kept.display().to_string());
    if !directory.exists() && !policy.exists() {
        return Err(not_installed(&installation, plugin).into());
    }
    let mut page = Page::default();
    page.list("goes:", [directory.display(), policy.display()])
        .list("stays (remove it by hand if it is not wanted):", &kept);
    context.output.beside(&page)?;
    confirm::confirm(&format!("remove {plugin}?"), yes)?;
    let because = Because::PluginRemoved;
    let recorded = recorded::plugin(context, &installation, because, plugin).await?;
    // The policy first: without it nothing of the plugin starts again.
    owned_file::remove(&policy)?;
    install::remove_plugin(installation.plugin_dir(), plugin)
        .map_err(|error| Failure::new(of_io(Exit::CannotCreate, &error.source), error))?;
    if let Some(path) = written_by_daemon {
        owned_file::remove(&path)?;
    }
    let told = tell::tell(&context.client, plugin, &recorded.because(because)).await?;
    let stopped = !matches!(told, Told::NotRunning);
    if stopped {
        recorded.forget();
    }
    let removed = Removed {
        plugin: plugin.clone(),
        kept,
        stopped,
    };
    context.output.give(&removed, |removed| {
        let mut page = Page::default();
        page.line(format_args!("plugin {plugin} is removed"));
        if !removed.stopped {
            page.line("pinfoldd is not running: there was nothing to stop");
        }
        page
    })?;
    Ok(())
}
