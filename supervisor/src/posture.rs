//! The launcher's posture, read from the memory file that it comes in.

use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;

use pinfold_sandbox::posture::Posture;

use crate::launcher::LauncherError;

/// Largest posture read: a real one has a few KiB.
const POSTURE_LIMIT_BYTES: u64 = 1 << 20;

/// Reads a posture.
pub(crate) fn read(file: OwnedFd) -> Result<Posture, LauncherError> {
    let mut file = std::fs::File::from(file);
    let mut text = String::new();
    file.rewind()
        .and_then(|()| file.take(POSTURE_LIMIT_BYTES).read_to_string(&mut text))
        .map_err(|_| LauncherError::Confused)?;
    Posture::from_toml(&text).map_err(|_| LauncherError::Confused)
}
