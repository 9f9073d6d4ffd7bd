//! What can be typed: commands, their arguments and their help.

mod archive;
mod audit;
mod policy;
mod signing;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use pinfold_gateway::admin::dto::{LogLevel, LogQuery, LogStream};
use pinfold_policy::PluginId;

use super::exit::Exit;
use super::lifetime::Lifetime;

pub(super) use archive::{BackupArguments, RestoreArguments};
pub(super) use audit::{AuditCommand, AuditListArguments, Expected};
pub(super) use policy::{CheckArguments, Form, LearnArguments, PolicyCommand};
pub(super) use signing::{
    KeysCommand, SignArguments, StateArguments, TrustArguments, VerifyArguments,
};

const LONG_ABOUT: &str = "\
Looks after Pinfold, which runs plugins that nobody has to trust.

The daemon pinfoldd is asked over its administration socket. `plugin add`, `plugin grant`, \
`plugin remove` and `keys` write plugins, policies and keys themselves: they run as the policies' owner (root for \
the service) and take every path from launcher.toml.

Without --dev the installed service is meant, or, where there is none, this user's development \
installation, which `make run` makes.";

const EXAMPLES: &str = "\
Examples:
  sudo pinfold plugin add ./hello      copy, show what it asks for, grant, start
  pinfold plugin list                  the plugins at a glance
  pinfold plugin show hello            everything about one
  pinfold events --follow              what happens to plugins, as it happens
  pinfold posture                      what the kernel enforces here, and what not
  sudo pinfold policy check            what is wrong with, or wide in, the policies
  pinfold token create ci --user ci    a token for curl";

/// What stands below the options.
fn after_help() -> String {
    let mut text = String::from("Exit status:\n   0  done\n");
    for (exit, meaning) in Exit::ALL {
        text.push_str(&format!("  {:>2}  {meaning}\n", exit.status()));
    }
    format!("{text}\n{EXAMPLES}")
}

/// Looks after Pinfold: plugins, their grants, tokens, and what is in force.
#[derive(Debug, Parser)]
#[command(
    name = "pinfold",
    version,
    about,
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    after_long_help = after_help(),
    disable_help_subcommand = true
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Global {
    /// Print JSON on standard output, for programs to read
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// The daemon's administration socket
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// The launcher's configuration, which says where plugins and policies are
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) launcher_config: Option<PathBuf>,
    /// Mean this user's development installation
    #[arg(long, global = true)]
    pub(super) dev: bool,
    /// Mean the development installation in this directory
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) dev_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The daemon at a glance
    Status,
    /// What the kernel enforces here, or around one plugin, and what is not in force
    ///
    /// Lists every control with how much it is wanted, what it is here, and why it is not in
    /// force; of a plugin that runs also what its process has, read of it here and now. Ends with
    /// status 1 if a required control is missing, or the process is not as it was started.
    Posture {
        /// Judge by this plugin's policy instead of the defaults
        plugin: Option<PluginId>,
    },
    /// Plugins: put in, grant, switch, look at, call, remove
    Plugin {
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Policy files, for who reviews them: check, show, compare, explain, learn
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Keys that may sign plugins: make, list, trust, revoke
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Sign a plugin: all its files, or its program alone
    ///
    /// With --package DIR all files in the directory, as one package of a plugin and a version: writes
    /// pinfold-package.sig there. With FILE the program alone, in GoatFlow's form (ed25519 over the
    /// SHA-256 of the whole file): writes FILE.sig beside it. Whoever runs the plugin trusts the public
    /// key with `pinfold keys trust`.
    Sign(SignArguments),
    /// Whether a plugin's signatures are right, and whose they are
    ///
    /// By the keys that are trusted here, or those that are given; no daemon is asked. Ends with status
    /// 0 if the whole package is signed, 1 if its program alone is or nothing, 65 if a signature is
    /// wrong.
    Verify(VerifyArguments),
    /// What happened to plugins: starts, ends, reloads, each with its cause
    Events(EventArguments),
    /// The audit trail: who did what, what was refused, and whether the trail is whole
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// What plugins do and use, once a second; `q` ends it
    ///
    /// With --json, or without a terminal, it shows one sample of a second.
    Top,
    /// What is wrong with this installation, and how to mend it; also where the daemon does not run
    ///
    /// Looks at kernel, control groups, units, files, policies, signatures, database, audit trail, sockets
    /// and clock, and changes nothing. Ends with status 0 if all is well, 1 if there are warnings, 2 if
    /// there are errors.
    Doctor,
    /// Back up everything of this installation that cannot be made again, into one tar file
    ///
    /// Database, plugins, policies, keys, configuration and plugins' lasting files, while the daemon runs
    /// or without it. Overwrites nothing. Runs as the policies' owner.
    Backup(BackupArguments),
    /// Put a backup in the place of what is here, which is kept beside it
    ///
    /// Verifies every digest, the database and the audit trail before anything changes. Refuses while
    /// the daemon or the launcher runs. Runs as the policies' owner.
    Restore(RestoreArguments),
    /// What the daemon's own log goes by, now and for a while
    ///
    /// Without a filter it shows it. It changes nothing of the configuration: after a restart that holds.
    LogLevel(LogLevelArguments),
    /// Tokens for the gateway
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Print a completion script for a shell
    ///
    /// For bash: pinfold completions bash > ~/.local/share/bash-completion/completions/pinfold
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory, for packages
    #[command(hide = true)]
    Man {
        /// Where they go: `pinfold.1`, one for each command, `pinfoldd.8`
        directory: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// The plugins at a glance
    List,
    /// Everything about one plugin: state, limits, what it asks for and what it has
    Show {
        /// The plugin
        plugin: PluginId,
    },
    /// What a plugin printed and logged, newest last
    Logs(LogArguments),
    /// Let a plugin run, from now on, and start it; clears a crash loop
    Enable {
        /// The plugin
        plugin: PluginId,
    },
    /// End a plugin, and do not start it until it is enabled
    Disable {
        /// The plugin
        plugin: PluginId,
    },
    /// Start a plugin anew from its files and policy as they are
    ///
    /// Where it serves, the old instance goes on until the new one does: no request fails. Where the
    /// new one does not come to serve, the old one goes on.
    Reload {
        /// The plugin
        plugin: PluginId,
    },
    /// Call a function of a plugin and print its result
    Call {
        /// The plugin
        plugin: PluginId,
        /// The function
        function: String,
        /// Arguments as JSON; `-` reads them from standard input
        #[arg(value_name = "JSON")]
        arguments: Option<String>,
    },
    /// Put a plugin in: copy, show what it asks for, grant, start
    ///
    /// Takes the directory that has the plugin's manifest, or the manifest or binary in it.
    /// Packed packages are not read by this version. Runs as the policies' owner.
    Add {
        /// The plugin's directory, or its manifest or binary
        #[arg(value_name = "DIR|FILE")]
        path: PathBuf,
        #[command(flatten)]
        how: GrantArguments,
    },
    /// Grant an installed plugin what its manifest asks for, and trust its files as they are now
    ///
    /// Keeps the limits, time-outs, rates, controls, variables, syscall profile and arguments that
    /// the policy file has. Runs as the policies' owner.
    Grant {
        /// The plugin
        plugin: PluginId,
        #[command(flatten)]
        how: GrantArguments,
    },
    /// Remove a plugin and its policy; its lasting state stays
    Remove {
        /// The plugin
        plugin: PluginId,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// How much of what there is, and of what comes.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Newest {
    /// Most lines; the latest are shown
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 100,
        value_parser = log_limit
    )]
    pub(super) limit: usize,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    pub(super) follow: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogLevelArguments {
    /// error, warn, info, debug, trace, or target=level parts separated by commas
    pub(super) filter: Option<String>,
    /// For how long: 10m, 2h, at most 7d; until the daemon ends if absent
    #[arg(long = "for", value_name = "TIME", requires = "filter")]
    pub(super) time: Option<Lifetime>,
    /// Go by the configuration's filter again
    #[arg(long, conflicts_with = "filter")]
    pub(super) reset: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// The plugin
    pub(super) plugin: PluginId,
    #[command(flatten)]
    pub(super) newest: Newest,
    /// Least severe level shown
    #[arg(
        long,
        value_name = "LEVEL",
        value_parser = PossibleValuesParser::new(["trace", "debug", "info", "warn", "error"])
            .map(|word| level(&word))
    )]
    pub(super) level: Option<LogLevel>,
    /// Only what came this way: the plugin's output, its log calls, the daemon's notes
    #[arg(
        long,
        value_name = "STREAM",
        value_parser = PossibleValuesParser::new(["stdout", "stderr", "log", "host"])
            .map(|word| stream(&word))
    )]
    pub(super) stream: Option<LogStream>,
}

#[derive(Debug, Args)]
pub(super) struct EventArguments {
    #[command(flatten)]
    pub(super) newest: Newest,
    /// Only those of this plugin
    #[arg(long, value_name = "PLUGIN")]
    pub(super) plugin: Option<PluginId>,
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct GrantArguments {
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Trust whatever files lie in the plugin's directory, instead of these alone
    #[arg(long)]
    pub(super) unsigned: bool,
    /// Trust these files alone, also where a trusted key has signed the program
    #[arg(long, conflicts_with = "unsigned")]
    pub(super) pin: bool,
    /// The syscall profile: default, go, python, node, static or one of data-dir's; else the one that
    /// the policy has, or default
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it, this once
    Create {
        /// What to call it
        name: String,
        /// Id of the user for whom it stands
        #[arg(long)]
        user: String,
        /// A role; `admin` is the administrator's. May be given again
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// How long it is good: 12h, 30d, 8w; for ever if absent
        #[arg(long, value_name = "TIME")]
        expires: Option<Lifetime>,
    },
    /// The tokens, without their texts
    List,
    /// End a token at once
    Revoke {
        /// Its id, from `pinfold token list`
        id: String,
    },
    /// Print the token that a development installation left: TOKEN=$(pinfold --dev token print)
    Print,
}

fn log_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) if (1..=LogQuery::MAX_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(format!("write 1 to {}", LogQuery::MAX_LIMIT)),
    }
}

fn level(word: &str) -> LogLevel {
    match word {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        _ => LogLevel::Error,
    }
}

fn stream(word: &str) -> LogStream {
    match word {
        "stdout" => LogStream::Stdout,
        "stderr" => LogStream::Stderr,
        "log" => LogStream::Log,
        _ => LogStream::Host,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_go_before_and_after_the_command() {
        for line in [
            "pinfold --json --dev-dir /x plugin list",
            "pinfold plugin list --json --dev-dir /x",
        ] {
            let global = parse(line).unwrap().global;
            assert!(global.json);
            assert_eq!(global.dev_dir, Some("/x".into()));
        }
    }

    #[test]
    fn log_options_become_what_the_api_takes() {
        let parsed = parse("pinfold plugin logs hello -n 5 --level warn --stream host").unwrap();
        let Command::Plugin {
            command: PluginCommand::Logs(logs),
        } = parsed.command
        else {
            panic!("{parsed:?}");
        };
        assert_eq!(
            (logs.newest.limit, logs.level, logs.stream),
            (5, Some(LogLevel::Warn), Some(LogStream::Host))
        );
    }

    #[test]
    fn wrong_usage_is_refused_with_what_is_wrong() {
        for (line, said) in [
            ("pinfold plugin show Hello", "Hello"),
            ("pinfold plugin logs hello -n 0", "write 1 to 1000"),
            ("pinfold plugin logs hello --level loud", "possible values"),
            ("pinfold token create ci", "--user"),
            ("pinfold token create ci --user a --expires soon", "30d"),
            ("pinfold plugin lst", "list"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.use_stderr());
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    /// A command as a page has it, without what is around it; `None` where it is none of ours.
    fn own(command: &str) -> Option<&str> {
        let command = command.trim();
        let command = command.strip_prefix("sudo ").unwrap_or(command);
        let command = command.split(" # ").next().unwrap_or(command);
        let is_own = command == "pinfold" || command.starts_with("pinfold ");
        is_own.then_some(command)
    }

    #[test]
    fn every_command_in_the_pages_for_operators_is_one() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations");
        let mut commands = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "md") {
                continue;
            }
            let page = std::fs::read_to_string(&path).unwrap();
            let blocks = page.split("```sh\n").skip(1);
            let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
            let inline = page.split('`').filter(|text| !text.contains('\n'));
            // What stands in a sentence may leave out what it is about.
            let inline = inline.filter(|text| own(text).is_some_and(|it| it.contains("hello")));
            for line in lines.chain(inline) {
                for command in line.split(" | ").flat_map(|part| part.split(" && ")) {
                    let Some(command) = own(command) else {
                        continue;
                    };
                    commands += 1;
                    match parse(command) {
                        Ok(_) => {}
                        Err(error) if !error.use_stderr() => {}
                        Err(error) => panic!("{}: {command}: {error}", path.display()),
                    }
                }
            }
        }
        assert!(commands > 40, "{commands}");
    }

    #[test]
    fn the_reference_has_every_command_option_and_exit_status() {
        let reference = include_str!("../../../docs/cli.md");
        let mut texts: Vec<String> = Exit::ALL
            .iter()
            .map(|(exit, meaning)| format!("| {} | {meaning} |", exit.status()))
            .collect();
        let mut commands = vec![(Arguments::command(), String::from("pinfold"))];
        while let Some((command, path)) = commands.pop() {
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                texts.push(format!("--{option}"));
            }
            if !command.has_subcommands() {
                texts.push(format!("`{path}"));
            }
            for child in command.get_subcommands() {
                commands.push((child.clone(), format!("{path} {}", child.get_name())));
            }
        }
        for text in texts {
            assert!(reference.contains(&text), "docs/cli.md lacks {text}");
        }
    }
}
