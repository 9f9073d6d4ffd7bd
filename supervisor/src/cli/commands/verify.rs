//! `pinfold verify`: what a plugin's signatures are worth, by the launcher's own rules.

use std::path::{Path, PathBuf};

use pinfold_policy::{
    KeyName, KeyRules, PACKAGE_SIGNATURE_FILE, PackageSignature, PackageSignatureError, Pattern,
    Platform, SIGNATURE_SUFFIX, SignatureError, StatementRefusal, TrustedKey,
};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::args::VerifyArguments;
use crate::cli::exit::{Exit, Failure};
use crate::cli::installation::Installation;
use crate::cli::output::Page;
use crate::cli::package::{Declared, Package};
use crate::keys::{self, Found, Signers};

/// Why a signature is wrong.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("{file:?} is no signature")]
    Malformed {
        file: String,
        #[source]
        source: SignatureError,
    },
    #[error("{PACKAGE_SIGNATURE_FILE:?} is no package's signature")]
    MalformedPackage(#[source] PackageSignatureError),
    #[error("{PACKAGE_SIGNATURE_FILE:?} does not count")]
    Statement(#[source] StatementRefusal),
    #[error("{file:?} is not a signature of these bytes by a key that counts")]
    OtherKey { file: String },
    #[error("the whole package is not signed by a key that counts{}", if *.program { ": its program alone is" } else { "" })]
    NotSigned { program: bool },
    #[error("{path} gives no name for the key: a-z, 0-9, _ and -")]
    NoName { path: PathBuf },
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        let exit = match &error {
            VerifyError::NotSigned { .. } => Exit::Failed,
            VerifyError::NoName { .. } => Exit::Usage,
            _ => Exit::Data,
        };
        Self::new(exit, error)
    }
}

/// What was found to be right.
#[derive(Serialize)]
struct Verified {
    plugin: String,
    digest: String,
    files: usize,
    /// The keys that have signed the whole package.
    package: Vec<KeyName>,
    version: Option<String>,
    platform: Option<String>,
    until: Option<String>,
    /// The keys that have signed the program.
    program: Vec<KeyName>,
}

pub(super) fn run(context: &Context, arguments: &VerifyArguments) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let declared = Declared::read(directory, arguments.plugin.as_ref())?;
    let package = Package::read(directory)?;
    let keys = match arguments.keys.as_slice() {
        [] => keys::all(Installation::read(&context.place)?.keys_dir())?,
        files => files
            .iter()
            .map(|file| given(file))
            .collect::<Result<_, _>>()?,
    };
    let now = keys::now();
    let plugin = &declared.plugin;
    let mut verified = Verified {
        plugin: plugin.to_string(),
        digest: package.digest().to_string(),
        files: package.files.files().len(),
        package: Vec::new(),
        version: None,
        platform: None,
        until: None,
        program: Vec::new(),
    };
    let by = |file: &str, signers| match signers {
        Signers::By(keys) => Ok(keys),
        Signers::Unknown | Signers::Others(_) => Err(VerifyError::OtherKey {
            file: file.to_owned(),
        }),
    };
    if let Some(content) = package.signatures.get(PACKAGE_SIGNATURE_FILE) {
        let signature = PackageSignature::parse(content).map_err(VerifyError::MalformedPackage)?;
        let signers = keys::package_signers(&keys, plugin, &signature, now);
        verified.package = by(PACKAGE_SIGNATURE_FILE, signers)?;
        let statement = signature.statement;
        statement
            .covers(plugin, package.digest(), &Platform::here(), now)
            .and_then(|()| match &arguments.least_version {
                Some(least) => statement.is_at_least(least),
                None => Ok(()),
            })
            .map_err(VerifyError::Statement)?;
        verified.version = statement.version.map(|version| version.to_string());
        verified.platform = Some(statement.platform.as_str().to_owned());
        verified.until = statement.until.map(|until| until.to_string());
    }
    let entry = &declared.manifest.entry;
    let file = format!("{entry}{SIGNATURE_SUFFIX}");
    let program = package.files.files().iter().find(|one| one.path == *entry);
    if let (Some(program), Some(content)) = (program, package.signatures.get(&file))
        && file != PACKAGE_SIGNATURE_FILE
    {
        let signers = keys::signers(&keys, plugin, &program.sha256, content, now);
        let signers = signers.map_err(|source| VerifyError::Malformed {
            file: file.clone(),
            source,
        })?;
        verified.program = by(&file, signers)?;
    }
    context.output.give(&verified, page)?;
    match (verified.package.is_empty(), verified.program.is_empty()) {
        (false, _) => Ok(()),
        (true, is_empty) => {
            let error = VerifyError::NotSigned { program: !is_empty };
            let hint = "sign it: pinfold sign --package DIR --key FILE";
            Err(Failure::from(error).hint(hint))
        }
    }
}

/// A key that counts for every plugin, for ever: whoever gives it says so.
fn given(file: &Path) -> Result<Found, Failure> {
    let key = keys::public_key(file)?;
    let name = file.file_stem().and_then(|stem| stem.to_str());
    let name: KeyName =
        name.and_then(|name| name.parse().ok())
            .ok_or_else(|| VerifyError::NoName {
                path: file.to_owned(),
            })?;
    Ok(Found {
        name: name.clone(),
        public: Some(key),
        key: Ok(TrustedKey {
            name,
            key,
            rules: KeyRules::new(vec![Pattern::any()]),
        }),
    })
}

fn page(verified: &Verified) -> Page {
    let names = |keys: &[KeyName]| match keys {
        [] => "by nobody".to_owned(),
        keys => {
            let names: Vec<&str> = keys.iter().map(KeyName::as_str).collect();
            format!("by {}", names.join(", "))
        }
    };
    let mut page = Page::default();
    page.line(format_args!("plugin {}", verified.plugin))
        .field("package signed", names(&verified.package))
        .field("version", verified.version.as_deref().unwrap_or_default())
        .field("platform", verified.platform.as_deref().unwrap_or_default())
        .field("until", verified.until.as_deref().unwrap_or_default())
        .field("program signed", names(&verified.program))
        .field("files", verified.files)
        .field("digest", &verified.digest);
    page
}
