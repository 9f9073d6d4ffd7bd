//! The launcher's command line.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// What `--help` prints.
pub(super) const HELP: &str = "\
pinfold-launcher stages plugins, starts each in a jail and watches it.

Usage: pinfold-launcher --config PATH (--socket-fd N | --service) [--no-dev-grants]

  --config PATH     launcher.toml, owned by root or by the user who runs this
  --socket-fd N     descriptor of the connected SOCK_SEQPACKET socket to the daemon
  --service         the service manager passes the listening SOCK_SEQPACKET socket on which
                    daemon-user, and nobody else, is served: one connection, then it ends
  --no-dev-grants   refuse a configuration with dev-grants
  --help            print this
  --version         print the version

It is started by pinfoldd or by a unit, and ends, with every jail, when the daemon's connection
ends. Exit status: 0 orderly end, 1 it could not start or go on, 2 wrong arguments.
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Version,
    Run(Args),
}

/// How to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) config: PathBuf,
    pub(super) entrance: Entrance,
    pub(super) refuse_dev_grants: bool,
}

/// Where the daemon's connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// It is this descriptor.
    Descriptor(RawFd),
    /// From the socket that the service manager passes.
    Manager,
}

/// What is wrong with the arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgsError {
    #[error("unknown argument {argument:?}")]
    Unknown { argument: OsString },
    #[error("{option} needs a value")]
    NoValue { option: &'static str },
    #[error("{option} is given twice")]
    Twice { option: &'static str },
    #[error("{option} is missing")]
    Missing { option: &'static str },
    #[error("--socket-fd and --service exclude each other")]
    TwoEntrances,
    #[error("--socket-fd {value:?} is no descriptor")]
    Socket { value: OsString },
}

/// Reads the arguments after the program's name.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    let (mut config, mut socket) = (None, None);
    let (mut service, mut refuse_dev_grants) = (false, false);
    let mut args = args.into_iter();
    while let Some(argument) = args.next() {
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--version") => return Ok(Command::Version),
            Some("--no-dev-grants") => refuse_dev_grants = true,
            Some("--service") => service = true,
            Some("--config") => set("--config", &mut config, args.next())?,
            Some("--socket-fd") => set("--socket-fd", &mut socket, args.next())?,
            _ => return Err(ArgsError::Unknown { argument }),
        }
    }
    let missing = |option| ArgsError::Missing { option };
    let config = config.ok_or(missing("--config"))?.into();
    let entrance = match (socket, service) {
        (Some(_), true) => return Err(ArgsError::TwoEntrances),
        (None, true) => Entrance::Manager,
        (None, false) => return Err(missing("--socket-fd")),
        (Some(value), false) => descriptor(value)?,
    };
    Ok(Command::Run(Args {
        config,
        entrance,
        refuse_dev_grants,
    }))
}

fn descriptor(value: OsString) -> Result<Entrance, ArgsError> {
    match value.to_str().and_then(|text| text.parse::<RawFd>().ok()) {
        Some(number) if number >= 0 => Ok(Entrance::Descriptor(number)),
        _ => Err(ArgsError::Socket { value }),
    }
}

fn set(
    option: &'static str,
    place: &mut Option<OsString>,
    value: Option<OsString>,
) -> Result<(), ArgsError> {
    let value = value.ok_or(ArgsError::NoValue { option })?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ArgsError::Twice { option }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, ArgsError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_whole_line_is_read() {
        assert_eq!(
            read("--socket-fd 0 --config /etc/l.toml --no-dev-grants"),
            Ok(Command::Run(Args {
                config: "/etc/l.toml".into(),
                entrance: Entrance::Descriptor(0),
                refuse_dev_grants: true,
            }))
        );
        assert_eq!(
            read("--service --config /etc/l.toml"),
            Ok(Command::Run(Args {
                config: "/etc/l.toml".into(),
                entrance: Entrance::Manager,
                refuse_dev_grants: false,
            }))
        );
        assert_eq!(read("--config x --help"), Ok(Command::Help));
        assert_eq!(read("--version"), Ok(Command::Version));
    }

    #[test]
    fn faults_are_named() {
        for (line, text) in [
            ("", "--config is missing"),
            ("--config x", "--socket-fd is missing"),
            (
                "--config x --socket-fd 3 --service",
                "--socket-fd and --service exclude each other",
            ),
            ("--config", "--config needs a value"),
            ("--config x --config y", "--config is given twice"),
            (
                "--config x --socket-fd -1",
                "--socket-fd \"-1\" is no descriptor",
            ),
            ("--config x --socket-fd 3 4", "unknown argument \"4\""),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), text);
        }
    }
}
