//! `pinfold backup` and `pinfold restore`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::cli) struct BackupArguments {
    /// The file to make, its name ending in .tar, or a directory in which one is made, named by machine and time
    #[arg(value_name = "FILE|DIR")]
    pub(in crate::cli) to: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArguments {
    /// The backup
    pub(in crate::cli) file: PathBuf,
    /// Unpack and verify, say what would be replaced, and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Leave this installation's pinfold.toml and launcher.toml as they are
    #[arg(long)]
    pub(in crate::cli) keep_configuration: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
}
