//! What can be typed of keys and signatures.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pinfold_policy::{KeyName, Platform, PluginId, Version};

use super::Lifetime;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeysCommand {
    /// Make a key: NAME.key, which signs and is to be kept secret, and NAME.pub
    Generate {
        /// What to call it: a-z, 0-9, _ and -
        name: KeyName,
        /// Where to write the two files
        #[arg(long, value_name = "DIR", default_value = ".")]
        directory: PathBuf,
    },
    /// The keys that are trusted here, what they may sign, and whether they still count
    List,
    /// Trust a public key to sign plugins, and start what waits for it
    ///
    /// Says anew what the key may sign, if it is trusted already. Runs as the policies' owner. A
    /// plugin's policy names the keys that count for it (`signed-by`); `pinfold plugin grant` writes
    /// that for a plugin that the key has signed.
    Trust(TrustArguments),
    /// Trust a key no more, at once and for good
    ///
    /// What runs goes on, and is named; it cannot be started again until another key has signed it.
    /// Runs as the policies' owner.
    Revoke {
        /// The key
        name: KeyName,
        /// Why, for whoever looks later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TrustArguments {
    /// The public key's file: 64 hex digits
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// What to call it here; by default what the file is called
    #[arg(long)]
    pub(in crate::cli) name: Option<KeyName>,
    /// A plugin that it may sign; `*` stands for any run of characters. May be given again
    #[arg(long = "plugin", value_name = "PATTERN", required = true)]
    pub(in crate::cli) plugins: Vec<String>,
    /// How long it is trusted: 30d, 52w; for ever if absent
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expires: Option<Lifetime>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SignArguments {
    /// The program: what the plugin's manifest names as its binary
    #[arg(value_name = "FILE", required_unless_present = "package")]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Sign all files of the plugin in this directory instead: writes pinfold-package.sig there
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub(in crate::cli) package: Option<PathBuf>,
    /// The private key's file, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) key: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) states: StateArguments,
}

/// What the signature of a package states beside its files.
#[derive(Debug, Args)]
pub(in crate::cli) struct StateArguments {
    /// The version that is signed; by default what the manifest says
    #[arg(long, value_name = "VERSION", requires = "package")]
    pub(in crate::cli) plugin_version: Option<Version>,
    /// For which machines: linux-x86_64, linux-aarch64, or any; by default such as this one
    #[arg(long, value_name = "PLATFORM", requires = "package", value_parser = platform)]
    pub(in crate::cli) platform: Option<Platform>,
    /// How long the signature counts: 30d, 52w; for ever if absent
    #[arg(long, value_name = "TIME", requires = "package")]
    pub(in crate::cli) expires: Option<Lifetime>,
}

fn platform(text: &str) -> Result<Platform, &'static str> {
    Platform::parse(text).ok_or("write any, or linux- and a processor: linux-x86_64")
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArguments {
    /// The plugin's directory
    #[arg(value_name = "DIR")]
    pub(in crate::cli) directory: PathBuf,
    /// A public key's file that counts, instead of the keys that are trusted here. May be given again
    #[arg(long = "key", value_name = "FILE")]
    pub(in crate::cli) keys: Vec<PathBuf>,
    /// The plugin that it is to be; by default what its manifest says
    #[arg(long, value_name = "PLUGIN")]
    pub(in crate::cli) plugin: Option<PluginId>,
    /// The least version that is taken
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) least_version: Option<Version>,
}
