//! Directories that end with the test.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// A new directory, removed when the value is dropped. A root test's can be entered by the user it
/// drops to and is below `/var/tmp`, whose owner and mode the launcher trusts; the path is short
/// enough for Unix sockets in it.
///
/// # Panics
///
/// Where it cannot be made.
#[must_use]
pub fn scratch() -> TempDir {
    let root = nix::unistd::geteuid().is_root();
    let place = if root {
        Path::new("/var/tmp").to_owned()
    } else {
        std::env::temp_dir()
    };
    let mode = if root { 0o755 } else { 0o700 };
    tempfile::Builder::new()
        .prefix("pinfold-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempdir_in(&place)
        .unwrap_or_else(|error| panic!("make a directory in {}: {error}", place.display()))
}
