//! The commands, a file each, and the way from what was typed to its file.

mod audit;
mod backup;
mod completions;
mod doctor;
mod events;
mod keys;
mod log_level;
mod man;
mod plugin_add;
mod plugin_call;
mod plugin_grant;
mod plugin_list;
mod plugin_logs;
mod plugin_remove;
mod plugin_show;
mod plugin_switch;
mod policy;
mod posture;
mod restore;
mod sign;
mod status;
mod token;
mod top;
mod verify;

use super::Context;
use super::args::{Command, PluginCommand};
use super::client::Change;
use super::exit::Failure;

/// Runs one command.
pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status => status::run(context).await,
        Command::Posture { plugin } => posture::run(context, plugin.as_ref()).await,
        Command::Plugin { command } => run_plugin(context, command).await,
        Command::Policy { command } => policy::run(context, command).await,
        Command::Keys { command } => keys::run(context, command).await,
        Command::Sign(arguments) => sign::run(context, &arguments),
        Command::Verify(arguments) => verify::run(context, &arguments),
        Command::Events(arguments) => events::run(context, &arguments).await,
        Command::Audit { command } => audit::run(context, command).await,
        Command::Top => top::run(context).await,
        Command::LogLevel(arguments) => log_level::run(context, &arguments).await,
        Command::Doctor => doctor::run(context).await,
        Command::Backup(arguments) => backup::run(context, &arguments).await,
        Command::Restore(arguments) => restore::run(context, &arguments).await,
        Command::Token { command } => token::run(context, command).await,
        Command::Completions { shell } => completions::run(context.output, shell),
        Command::Man { directory } => man::run(&directory),
    }
}

async fn run_plugin(context: &Context, command: PluginCommand) -> Result<(), Failure> {
    match command {
        PluginCommand::List => plugin_list::run(context).await,
        PluginCommand::Show { plugin } => plugin_show::run(context, &plugin).await,
        PluginCommand::Logs(arguments) => plugin_logs::run(context, &arguments).await,
        PluginCommand::Call {
            plugin,
            function,
            arguments,
        } => plugin_call::run(context, &plugin, &function, arguments).await,
        PluginCommand::Add { path, how } => plugin_add::run(context, &path, how).await,
        PluginCommand::Grant { plugin, how } => plugin_grant::run(context, &plugin, how).await,
        PluginCommand::Enable { plugin } => {
            plugin_switch::run(context, &plugin, Change::Enable).await
        }
        PluginCommand::Disable { plugin } => {
            plugin_switch::run(context, &plugin, Change::Disable).await
        }
        PluginCommand::Reload { plugin } => {
            plugin_switch::run(context, &plugin, Change::Reload).await
        }
        PluginCommand::Remove { plugin, yes } => plugin_remove::run(context, &plugin, yes).await,
    }
}
