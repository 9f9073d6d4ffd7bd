//! The command line: `pinfold --help` lists its commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinfold::cli::main()
}
