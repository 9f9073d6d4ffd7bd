//! `bench enter`: this process becomes a program within a group.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Error};

/// Enters the groups, and becomes the program. It comes back only with what went wrong.
#[must_use]
pub fn enter(groups: &[PathBuf], program: &[OsString]) -> Error {
    for group in groups {
        // 0 is the writing process.
        let entered = fs::write(group.join("cgroup.procs"), "0");
        if let Err(error) = entered.with_context(|| format!("enter {}", group.display())) {
            return error;
        }
    }
    let Some((program, arguments)) = program.split_first() else {
        return Error::msg("no program is named");
    };
    let error = Command::new(program).args(arguments).exec();
    Error::new(error).context(format!("start {}", program.display()))
}
