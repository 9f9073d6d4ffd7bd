//! The launcher's program: start, serve, end.
//!
//! One thread, no async runtime, no network. It reads its own root-owned configuration, makes its
//! namespaces and groups, tries each control once, and then answers requests until the daemon's
//! connection ends; with it ends every jail.
//!
//! ```text
//! main: clean itself (L1) → prepare the ground (L2, L4, L5, L7) → probe (L3) → serve
//! serve: socket, signals, copying children, jails that start, jails that end, memory limits, timers
//! ```
//!
//! Not built: a listening socket, `Handover`.

mod args;
mod clock;
mod connect;
mod connect_port;
mod controls;
mod decide;
mod disk;
mod ending;
mod failure;
mod files;
mod ground;
mod instance;
mod keys;
mod launch;
mod lifecycle;
mod log;
mod namespace;
mod networks;
mod outbox;
mod poller;
mod probe;
mod quota;
mod requests;
pub mod review;
mod rights;
mod runtime;
mod sealed;
mod serve;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use self::args::Command;
use self::ground::Ground;
use self::serve::Launcher;

#[cfg(test)]
pub(crate) use self::namespace::own_mounts;

/// Exit status for wrong arguments.
const USAGE: u8 = 2;

/// Runs the program with the arguments that follow its name. To be called first and once, in a
/// process with one thread.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::parse(arguments) {
        Ok(Command::Run(args)) => args,
        Ok(Command::Help) => return print(args::HELP),
        Ok(Command::Version) => {
            return print(concat!(
                "pinfold-launcher ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            ));
        }
        Err(error) => {
            log::line(&format!("{error}; --help lists the arguments"));
            return ExitCode::from(USAGE);
        }
    };
    let served = ground::clean(&args).and_then(|(socket, environment)| {
        let ground = Ground::prepare(&args, environment)?;
        let launcher =
            Launcher::new(ground, socket).map_err(|source| ground::StartError::Step {
                step: "get ready to serve",
                source,
            })?;
        launcher.run().map_err(|source| ground::StartError::Step {
            step: "wait for events",
            source,
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&log::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
