//! `pinfold keys generate`: a new key, in two files.

use std::path::{Path, PathBuf};

use pinfold_policy::{KeyName, PrivateKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{self, Page};
use crate::cli::private_file;

/// The kernel gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("draw a random key: {0}")]
struct RandomError(getrandom::Error);

impl From<RandomError> for Failure {
    fn from(error: RandomError) -> Self {
        Self::new(Exit::Io, error)
    }
}

#[derive(Serialize)]
struct Generated {
    name: KeyName,
    private_key_file: PathBuf,
    public_key_file: PathBuf,
    public_key: String,
}

pub(super) fn run(context: &Context, name: &KeyName, directory: &Path) -> Result<(), Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(RandomError)?;
    let key = PrivateKey::from_seed(&seed);
    let generated = Generated {
        name: name.clone(),
        private_key_file: directory.join(format!("{name}.key")),
        public_key_file: directory.join(name.public_file()),
        public_key: key.public_key().to_string(),
    };
    // The public one first: of a private key that lies there alone nobody would know.
    private_file::write_new_public(&generated.public_key_file, &generated.public_key)?;
    if let Err(error) = private_file::write_new(&generated.private_key_file, &key) {
        std::fs::remove_file(&generated.public_key_file).unwrap_or_default();
        return Err(error.into());
    }
    context.output.give(&generated, |generated| {
        let mut page = Page::default();
        page.line(format_args!("key {name}: {}", generated.public_key))
            .field("signs", generated.private_key_file.display())
            .field("verifies", generated.public_key_file.display());
        page
    })?;
    if !context.output.is_json() {
        output::note(&format!(
            "keep {} secret and safe: whoever has it signs in your name, and it cannot be made again",
            generated.private_key_file.display()
        ));
        output::hint(&format!(
            "pinfold sign FILE --key {}",
            generated.private_key_file.display()
        ));
    }
    Ok(())
}
