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
//! As a service it waits on a listening socket for the one connection that it serves, and ends with
//! it; the service manager starts another for the next. Only where that daemon has asked for it does it
//! go on for a while, with the jails that it was told to keep, until the next daemon comes.

mod args;
mod clock;
mod connect;
mod connect_port;
mod controls;
mod decide;
mod disk;
mod door;
mod ending;
mod failure;
mod files;
mod given;
mod given_up;
mod ground;
mod handover;
mod host_path;
mod instance;
mod keys;
mod launch;
mod lifecycle;
mod log;
mod manager;
mod mounts;
mod namespace;
mod networks;
mod origin;
mod outbox;
mod poller;
mod probe;
mod quota;
mod reading;
mod requests;
pub mod review;
mod rights;
mod runtime;
mod sealed;
mod serve;
mod watching;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use self::args::{Args, Command};
use self::ground::{Given, Ground, StartError};
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
    match ground::clean(&args).and_then(|given| serve(&args, given)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&error.told());
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args, given: Given) -> Result<(), StartError> {
    let Given {
        door,
        mut manager,
        environment,
    } = given;
    let failed = |step| move |source| StartError::Step { step, source };
    let ground = match Ground::prepare(args, environment) {
        Ok(ground) => ground,
        Err(error) => {
            door.send_away();
            return Err(error);
        }
    };
    manager.ready("waits for pinfoldd");
    let socket = door
        .open(ground.reader.uid(), &mut manager)
        .map_err(failed("wait for the daemon"))?;
    manager.status("serves pinfoldd");
    Launcher::new(ground, (socket, door.for_another()), manager)
        .map_err(failed("get ready to serve"))?
        .run()
        .map_err(failed("wait for events"))
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
