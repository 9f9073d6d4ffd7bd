//! `pinfold sign`: a program's detached signature, beside it, or that of a whole package, in it.

mod package;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pinfold_policy::{FileHash, PrivateKey, SIGNATURE_SUFFIX};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::cli::Context;
use crate::cli::args::SignArguments;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::cli::output::{self, Page};
use crate::cli::private_file;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// Why a file is not signed.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is no regular file")]
    Kind { path: PathBuf },
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        let exit = match &error {
            SignError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Exit::NoInput
            }
            SignError::Read { source, .. } => of_io(Exit::Io, source),
            SignError::Kind { .. } => Exit::Data,
            SignError::Write { source, .. } => of_io(Exit::CannotCreate, source),
        };
        Self::new(exit, error)
    }
}

#[derive(Serialize)]
struct Signed {
    file: PathBuf,
    signature_file: PathBuf,
    sha256: String,
    signature: String,
    public_key: String,
}

pub(super) fn run(context: &Context, arguments: &SignArguments) -> Result<(), Failure> {
    let key = private_file::read(&arguments.key)?;
    match (&arguments.package, &arguments.file) {
        (Some(directory), _) => package::run(context, directory, &key, &arguments.states),
        (None, Some(file)) => program(context, file, &key),
        // Wrong usage, which is told before.
        (None, None) => Ok(()),
    }
}

fn program(context: &Context, file: &Path, key: &PrivateKey) -> Result<(), Failure> {
    let hash = hash(file)?;
    let signature = key.sign(&hash);
    let mut signature_file = file.as_os_str().to_owned();
    signature_file.push(SIGNATURE_SUFFIX);
    let signature_file = PathBuf::from(signature_file);
    // Without a newline: GoatFlow's own host takes none.
    write(&signature_file, &signature.to_string()).map_err(|source| SignError::Write {
        path: signature_file.clone(),
        source,
    })?;
    let signed = Signed {
        file: file.to_owned(),
        signature_file,
        sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        signature: signature.to_string(),
        public_key: key.public_key().to_string(),
    };
    context.output.give(&signed, |signed| {
        let mut page = Page::default();
        page.line(format_args!(
            "{} is written",
            signed.signature_file.display()
        ))
        .field("by key", &signed.public_key)
        .field("sha256", &signed.sha256);
        page
    })?;
    hint_to_trust(context);
    Ok(())
}

fn hint_to_trust(context: &Context) {
    if !context.output.is_json() {
        output::hint(
            "whoever runs it trusts the public key: pinfold keys trust FILE.pub --plugin NAME",
        );
    }
}

fn hash(path: &Path) -> Result<FileHash, SignError> {
    let failed = |source| SignError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(SignError::Kind {
            path: path.to_owned(),
        });
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Replaces a file whole: a daemon that stages the directory meanwhile finds the old one or the new
/// one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let mut new = new_beside(directory.unwrap_or(Path::new(".")), path)?;
    let written = io::Write::write_all(&mut new.file, text.as_bytes())
        .and_then(|()| {
            new.file
                .set_permissions(std::fs::Permissions::from_mode(0o644))
        })
        .and_then(|()| new.file.sync_all())
        .and_then(|()| std::fs::rename(&new.path, path));
    if written.is_err() {
        // What is left of it is of no use.
        std::fs::remove_file(&new.path).unwrap_or_default();
    }
    written
}

struct New {
    file: File,
    path: PathBuf,
}

/// A new file beside `path`. Its name ends like a signature's, which are no part of a plugin's digest.
fn new_beside(directory: &Path, path: &Path) -> io::Result<New> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let own = std::process::id();
    let path = directory.join(format!(".{name}.{own}.new{SIGNATURE_SUFFIX}"));
    let file = File::options().write(true).create_new(true).open(&path)?;
    Ok(New { file, path })
}
