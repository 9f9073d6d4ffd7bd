//! The daemon: `pinfoldd --help` lists what it takes.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinfold::daemon::main()
}
