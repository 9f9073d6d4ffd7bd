//! What can be typed of policies, for who reviews them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pinfold_policy::PluginId;
use pinfold_policy::lint::Severity;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// What is wrong with policies, and what is legal and wide or weak
    ///
    /// Looks at policy files, and at what they name: keys, syscall profiles, the plugins' own files,
    /// owners and modes. Ends with status 0 where nothing is found at or above --fail-on, with 1 where
    /// something is, and with 2 where there is nothing that can be looked at.
    Check(CheckArguments),
    /// Everything that holds for a plugin, each value with the file and the line that it is from
    Show {
        /// The plugin
        plugin: PluginId,
    },
    /// What a plugin asks for against what it is granted; or two versions of a policy or of a plugin
    ///
    /// With one plugin: its manifest against its policy. With two files or directories: the older
    /// against the newer, two policy files or two plugins' directories. Ends as diff(1) does: with
    /// status 0 where both are the same, 1 where they differ, 2 where they cannot be compared.
    Diff {
        /// The plugin; or the older policy file or plugin's directory
        #[arg(value_name = "PLUGIN|OLD")]
        old: String,
        /// The newer one
        new: Option<PathBuf>,
    },
    /// Whether a plugin may do something, and by which line of which file
    ///
    /// Decided by the code that decides while it runs. Ends with status 0 where it is allowed, 1 where
    /// it is refused, 2 where that cannot be told.
    #[command(after_long_help = PERMISSIONS)]
    Explain {
        /// The plugin
        plugin: PluginId,
        /// What it would do: db:write:tickets, http:GET:https://example.com/, syscall:ptrace, …
        permission: String,
    },
    /// The JSON Schema of policy files, for editors
    Schema,
}

const PERMISSIONS: &str = "\
PERMISSION is one of:
  db:read:TABLE  db:write:TABLE  db:ddl:TABLE   a table; @NAME behind it names another database
  sql:STATEMENT  sql@NAME:STATEMENT             one statement, as the plugin would send it
  cache:read  cache:write                       the plugin's own part of the cache
  config:KEY                                    a key of the host's configuration
  http:METHOD:URL                               a request
  http:CONNECT:HOST:PORT                        a tunnel, by a program in the jail that speaks TLS itself
  call:PLUGIN.FUNCTION                          a function of another plugin
  syscall:NAME  syscall:NAME(ARGUMENT, …)       a system call; arguments are numbers or constants
  file:read:PATH  file:write:PATH  file:execute:PATH   a file in the jail
  control:NAME                                  running where this control cannot be had
Lines that other commands print (db:read:main/items, plugin:call:stats/summary) are taken too.";

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArguments {
    /// Policy files, or plugins that have one; every policy that is installed if absent
    #[arg(value_name = "FILE|PLUGIN")]
    pub(in crate::cli) targets: Vec<String>,
    /// Least severe finding that makes the command fail
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Error)]
    pub(in crate::cli) fail_on: FailOn,
    /// Print SARIF 2.1.0, for code scanning services
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    People,
    Json,
    Sarif,
}

impl CheckArguments {
    /// How findings are printed; `json` is the option of every command.
    pub(in crate::cli) fn form(&self, json: bool) -> Form {
        match (self.sarif, json) {
            (true, _) => Form::Sarif,
            (false, true) => Form::Json,
            (false, false) => Form::People,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum FailOn {
    Error,
    Warning,
    Note,
    Never,
}

impl FailOn {
    /// Whether a finding of this severity makes the command fail.
    pub(in crate::cli) fn fails(self, severity: Severity) -> bool {
        match self {
            Self::Error => severity >= Severity::Error,
            Self::Warning => severity >= Severity::Warning,
            Self::Note => true,
            Self::Never => false,
        }
    }
}
