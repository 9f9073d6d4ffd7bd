//! What can be typed of policies, for who reviews them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use pinfold_policy::lint::Severity;
use pinfold_policy::{PluginId, Span};

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
    /// Have a plugin run watched, and propose the smallest syscall profile and grants that the run needed
    ///
    /// The plugin is started anew in its whole jail; each system call that it makes is noted, and what its
    /// profile refuses stays refused. Afterwards it is started anew once more, unwatched. Needs
    /// `watched-runs = true` in launcher.toml, and runs as the policies' owner. Prints what it proposes and
    /// writes it to no file unless an option says where.
    Learn(LearnArguments),
    /// The JSON Schema of policy files, for editors
    Schema,
}

const PERMISSIONS: &str = "\
PERMISSION is one of:
  db:read:TABLE  db:write:TABLE  db:ddl:TABLE   a table; @NAME behind it names another database
  sql:STATEMENT  sql@NAME:STATEMENT             one statement, as the plugin would send it
  cache:read  cache:write                       the plugin's own part of the cache
  config:KEY                                    a key of the host's configuration
  http:METHOD:URL                               a request; its path counts, its query does not
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

#[derive(Debug, Args)]
pub(in crate::cli) struct LearnArguments {
    /// The plugin
    pub(in crate::cli) plugin: PluginId,
    /// How long it runs watched (60s, 5m; at most 50m); without it, and without --run, until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = watched_time)]
    pub(in crate::cli) duration: Option<Span>,
    /// What it is to do: `call FUNCTION` or `call FUNCTION JSON`. May be given again; they are done in order
    #[arg(long = "run", value_name = "ACT", value_parser = act)]
    pub(in crate::cli) acts: Vec<Act>,
    /// Write the profile there; its name is the file's without .toml
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) profile_out: Option<PathBuf>,
    /// Write the policy there
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) policy_out: Option<PathBuf>,
}

/// A call of a function of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Act {
    pub(in crate::cli) function: String,
    /// JSON text, or nothing.
    pub(in crate::cli) arguments: String,
}

fn act(text: &str) -> Result<Act, String> {
    let usage = "write `call FUNCTION` or `call FUNCTION JSON`";
    let rest = text.trim().strip_prefix("call ").ok_or(usage)?.trim_start();
    let (function, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if function.is_empty() {
        return Err(usage.into());
    }
    let arguments = arguments.trim();
    if !arguments.is_empty() {
        serde_json::from_str::<serde::de::IgnoredAny>(arguments)
            .map_err(|error| format!("the arguments are not JSON: {error}"))?;
    }
    Ok(Act {
        function: function.to_owned(),
        arguments: arguments.to_owned(),
    })
}

/// Longest duration that can be asked for: shorter than any order counts.
const WATCHED_LIMIT: Duration = Duration::from_secs(50 * 60);

fn watched_time(text: &str) -> Result<Span, String> {
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    match span.0 {
        time if time > Duration::ZERO && time <= WATCHED_LIMIT => Ok(span),
        _ => Err("write more than nothing and at most 50m".into()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_watched_plugin_is_to_do_is_a_function_and_json() {
        let parsed = |text: &str| act(text).map(|act| (act.function, act.arguments)).ok();
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(parsed("call echo"), pair("echo", ""));
        assert_eq!(
            parsed(r#"call  echo {"a": [1, 2]}"#),
            pair("echo", r#"{"a": [1, 2]}"#)
        );
        for wrong in ["", "call", "call ", "get /", "call echo {a}"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert!(watched_time("60s").is_ok() && watched_time("50m").is_ok());
        assert!(watched_time("0").is_err() && watched_time("51m").is_err());
    }
}
