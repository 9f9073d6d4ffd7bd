//! `pinfold plugin enable`, `disable` and `reload`.

use pinfold_policy::PluginId;

use crate::cli::Context;
use crate::cli::client::Change;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::tell;

/// What the plugin is told, and whether it serves afterwards.
pub(super) async fn run(
    context: &Context,
    plugin: &PluginId,
    change: Change,
) -> Result<(), Failure> {
    let detail = context.client.change(plugin, change).await?;
    context.output.give(&detail, |detail| match change {
        Change::Enable | Change::Reload => tell::page(detail),
        Change::Disable => {
            let mut page = Page::default();
            page.line(format_args!("plugin {plugin} is {}", detail.view.state));
            page
        }
    })?;
    match change {
        Change::Reload => tell::check(&detail),
        // A newer version that was not taken some time ago is none of its business.
        Change::Enable => tell::check_serves(&detail),
        Change::Disable => Ok(()),
    }
}
