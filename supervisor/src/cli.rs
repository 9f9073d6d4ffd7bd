//! The command line `pinfold`: looks at the daemon and has it do things over its administration
//! socket, and puts plugins in, grants and removes them as the owner of the policies.
//!
//! What is written, it writes itself, to the places that `launcher.toml` names; it takes no path
//! from the daemon. It is the edge: errors are printed once, as a chain with a hint, and end in
//! one of the exit statuses of [`exit::Exit`]. Everything printed goes through [`output`], which
//! escapes what a plugin could have smuggled in.

mod archive;
mod args;
mod client;
mod commands;
mod confirm;
mod exit;
mod installation;
mod lifetime;
mod output;
mod owned_file;
mod package;
mod plan;
mod policy_file;
mod private_file;
mod recorded;
mod review;
mod source;
mod tell;
mod time;
mod toml_comments;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use nix::unistd::{Uid, User};

use args::{Arguments, Command, Global};
use client::Client;
use exit::{Exit, Failure};
use output::Output;

use crate::place::Place;
use crate::privileges;

/// What every command has.
struct Context {
    output: Output,
    place: Place,
    client: Client,
    /// Whether the place is a developer's.
    development: bool,
}

impl Context {
    fn new(global: &Global) -> Result<Self, Failure> {
        let (place, development) = installation::find(global)?;
        let socket = global
            .socket
            .clone()
            .unwrap_or_else(|| place.admin_socket());
        Ok(Self {
            output: Output::new(global.json),
            place,
            client: Client::new(socket, development),
            development,
        })
    }
}

/// Runs the command line and gives its exit status: 0 done, 1 failed, 2 wrong usage, 3 done in part,
/// 65 to 78 as in sysexits(3).
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match begin(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            failure.exit().into()
        }
    }
}

/// Help and version on standard output, wrong usage on standard error.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell where the terminal is gone.
    error.print().unwrap_or_default();
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        ExitCode::SUCCESS
    }
}

fn begin(arguments: Arguments) -> Result<(), Failure> {
    let context = Context::new(&arguments.global)?;
    // While there is one thread.
    if matches!(arguments.command, Command::Audit { .. }) {
        become_owner(&context.place.state)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(exit::StartError)?;
    runtime.block_on(commands::run(&context, arguments.command))
}

/// Reads the daemon's state as the daemon's user, where this is root: what is done by what that one wrote is then done
/// with its rights. One that is root's, or nobody's here, is read as it is.
fn become_owner(state: &Path) -> Result<(), Failure> {
    let Ok(metadata) = std::fs::metadata(state) else {
        // The command says what is not there.
        return Ok(());
    };
    if !nix::unistd::geteuid().is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    match User::from_uid(Uid::from_raw(metadata.uid())) {
        Ok(Some(user)) => privileges::become_user(&user.name)
            .map_err(|error| Failure::new(Exit::NoPermission, error)),
        _ => Ok(()),
    }
}
