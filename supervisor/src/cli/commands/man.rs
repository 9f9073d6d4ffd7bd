//! `pinfold man`: the manual pages, out of the same definitions as `--help`.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::args::Arguments;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::daemon;

/// A page cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("write {}", path.display())]
struct WriteError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

pub(super) fn run(directory: &Path) -> Result<(), Failure> {
    for (name, page) in pages() {
        let path = directory.join(name);
        std::fs::write(&path, page).map_err(|source| {
            let exit = of_io(Exit::Failed, &source);
            Failure::new(exit, WriteError { path, source })
        })?;
    }
    Ok(())
}

/// Every page with its file's name: commands in section 1, the daemon in section 8.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut whole = Arguments::command();
    // Gives each command its name with those above it, and the options of all.
    whole.build();
    let mut commands = vec![&whole];
    while let Some(command) = commands.pop() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        commands.extend(command.get_subcommands());
        let name = command.get_display_name().unwrap_or(command.get_name());
        pages.push((format!("{name}.1"), page(command.clone(), "1")));
    }
    pages.push(("pinfoldd.8".into(), page(daemon::command(), "8")));
    pages
}

fn page(command: clap::Command, section: &str) -> Vec<u8> {
    let mut page = Vec::new();
    Man::new(command)
        .section(section)
        .render(&mut page)
        .expect("memory takes every byte");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let pages = pages();
        let page = |name: &str| {
            let found = pages.iter().find(|(file, _)| file == name);
            String::from_utf8(found.expect(name).1.clone()).unwrap()
        };
        assert!(page("pinfold.1").contains("plugin"));
        assert!(page("pinfold-plugin-logs.1").contains("level"));
        assert!(page("pinfoldd.8").contains("launcher\\-config"));
        assert!(pages.iter().all(|(name, _)| name != "pinfold-man.1"));
    }
}
