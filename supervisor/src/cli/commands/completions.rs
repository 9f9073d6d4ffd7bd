//! `pinfold completions`: a script for a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::args::Arguments;
use crate::cli::exit::Failure;
use crate::cli::output::Output;

pub(super) fn run(output: Output, shell: Shell) -> Result<(), Failure> {
    Ok(output.bytes(&script(shell))?)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "pinfold", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for word in ["posture", "grant", "revoke", "--dev-dir"] {
                // fish writes options without their dashes.
                let word = if *shell == Shell::Fish {
                    word.trim_start_matches('-')
                } else {
                    word
                };
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
