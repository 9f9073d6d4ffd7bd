//! The programs under test.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The checkout's top directory.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Cargo's target directory, wherever it was put.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir()
        .parent()
        .expect("a profile's directory is in the target directory")
        .to_owned()
}

/// A program of this workspace, built in the same profile as the running test.
///
/// # Panics
///
/// Where it was not built, or one of its sources is newer: cargo builds other packages' programs for
/// no test, so that `cargo build --workspace --bins` has to come first. `make test` does that.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let path = profile_dir().join(name);
    let built = modified(&path).unwrap_or_else(|| {
        panic!(
            "{} is not built: cargo build --workspace --bins",
            path.display()
        )
    });
    let sources = std::fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    for source in sources
        .split_once(':')
        .map_or("", |(_, sources)| sources)
        .split_whitespace()
    {
        let newer = modified(Path::new(source)).is_some_and(|changed| changed > built);
        assert!(
            !newer,
            "{name} is older than {source}: cargo build --workspace --bins"
        );
    }
    path
}

/// `target/debug` or its like: test programs run from `deps` in it, others from itself.
fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().expect("the kernel names the running program");
    let dir = own.parent().expect("a file is in a directory");
    if dir.ends_with("deps") {
        dir.parent()
            .expect("deps is in the profile's directory")
            .to_owned()
    } else {
        dir.to_owned()
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}
