//! The runtime that a policy names: opened like everything of the operator's, step by step and
//! without links, and refused where somebody else could change it or where it is no plugin's to see.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use pinfold_policy::{LauncherConfig, Runtime};
use sha2::{Digest as _, Sha256};

use super::files::Files;
use super::host_path::{self, HostPathError};
use crate::jail;
use crate::posture::RuntimeState;
use crate::trust::TrustedEntry;

/// Why a runtime is not mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeError {
    #[error("the runtime cannot be used")]
    Path(#[source] HostPathError),
    #[error("{path:?} of the runtime is no directory: only interpreter and loader are files")]
    NoDirectory { path: String },
    #[error("{path:?} of the runtime is no program: not a regular file that may be executed")]
    NoProgram { path: String },
}

/// Opens and checks all of it. With it comes what stands for what lies there: another file or directory
/// in the place of one, or a change of one, makes it another (SHA-256; what lies deeper in a directory
/// does not count).
pub(super) fn open(
    files: &Files,
    config: &LauncherConfig,
    named: &Runtime,
) -> Result<(jail::Runtime, [u8; 32]), RuntimeError> {
    let mut stamp = Sha256::new();
    let mut mounts = Vec::new();
    for path in named.mounts() {
        let entry = entry(files, config, path)?;
        let is_program = named.programs().any(|program| program == path);
        let entry = match is_program {
            true => program(entry, path)?,
            false => directory(entry, path)?,
        };
        add(&mut stamp, path, &entry.metadata);
        mounts.push(jail::RuntimeMount {
            path: path.to_owned(),
            is_directory: !is_program,
            source: entry.descriptor,
        });
    }
    // Those that lie in one of the directories are executed too.
    let mut interpreter = None;
    for path in named.programs() {
        let found = program(entry(files, config, path)?, path)?;
        add(&mut stamp, path, &found.metadata);
        if named.interpreter.as_deref() == Some(path) {
            interpreter = Some((found.metadata.dev(), found.metadata.ino()));
        }
    }
    let runtime = jail::Runtime {
        named: named.clone(),
        mounts,
        interpreter,
    };
    Ok((runtime, stamp.finalize().into()))
}

/// A write, and a change of owner or mode, changes the time of the last change, which nobody can set.
fn add(stamp: &mut Sha256, path: &str, found: &Metadata) {
    stamp.update(Sha256::digest(path));
    stamp.update(found.dev().to_le_bytes());
    stamp.update(found.ino().to_le_bytes());
    stamp.update(found.ctime().to_le_bytes());
    stamp.update(found.ctime_nsec().to_le_bytes());
}

/// What a posture says of it: each path with its owner, or why it is refused.
pub(super) fn states(files: &Files, config: &LauncherConfig, named: &Runtime) -> Vec<RuntimeState> {
    let is_program = |path: &str| named.programs().any(|program| program == path);
    let paths = named.paths.iter().map(String::as_str);
    paths
        .chain(named.programs())
        .map(|path| {
            let found = entry(files, config, path).and_then(|entry| match is_program(path) {
                true => program(entry, path),
                false => directory(entry, path),
            });
            RuntimeState {
                path: path.to_owned(),
                is_executed: is_program(path),
                found: host_path::state(found),
            }
        })
        .collect()
}

fn entry(files: &Files, config: &LauncherConfig, path: &str) -> Result<TrustedEntry, RuntimeError> {
    host_path::open(files, config, path, |_| false).map_err(RuntimeError::Path)
}

fn directory(entry: TrustedEntry, path: &str) -> Result<TrustedEntry, RuntimeError> {
    match entry.metadata.is_dir() {
        true => Ok(entry),
        false => Err(RuntimeError::NoDirectory {
            path: path.to_owned(),
        }),
    }
}

fn program(entry: TrustedEntry, path: &str) -> Result<TrustedEntry, RuntimeError> {
    match entry.metadata.is_file() && entry.metadata.mode() & 0o111 != 0 {
        true => Ok(entry),
        false => Err(RuntimeError::NoProgram {
            path: path.to_owned(),
        }),
    }
}
