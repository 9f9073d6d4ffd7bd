//! `pinfold-launcher`: stages plugins, starts each in a jail, watches it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pinfold_sandbox::launcher::main(std::env::args_os().skip(1))
}
