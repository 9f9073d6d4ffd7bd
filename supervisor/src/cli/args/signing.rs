//! What can be typed of keys and signatures.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pinfold_policy::KeyName;

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
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// The private key's file, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) key: PathBuf,
}
