//! Clearing what launchers left behind that are gone.

use std::path::{Path, PathBuf};

use super::clear::clear;
use super::dir::Dir;
use super::lock::{self, Lock};
use super::{CgroupError, Hierarchy};

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Sweep {
    /// One entry for each group of a launcher that is gone.
    pub swept: Vec<Swept>,
    /// How many launchers hold their lock, and were left alone.
    pub held: usize,
}

/// One group of a launcher that is gone.
#[derive(Debug)]
pub struct Swept {
    /// The group.
    pub path: PathBuf,
    /// Whether it is gone now.
    pub outcome: Result<(), CgroupError>,
}

/// Kills and removes the groups of launchers whose lock in `lock_dir` nobody holds. Only groups
/// that such a launcher wrote down are touched, never one that only has a name like theirs: other
/// launchers on the machine may keep their locks elsewhere.
///
/// Waits up to one second for each group; for use at the launcher's start. What cannot be removed
/// stays written down for the next sweep.
///
/// # Errors
///
/// [`CgroupError::Lock`]: `lock_dir` or a file in it cannot be read. One that is not there is
/// empty.
pub fn sweep(hierarchy: &Hierarchy, lock_dir: &Path) -> Result<Sweep, CgroupError> {
    let failed = |source| CgroupError::Lock {
        path: lock_dir.to_owned(),
        source,
    };
    let mut sweep = Sweep::default();
    for name in lock::names(lock_dir).map_err(failed)? {
        match Lock::try_take(lock_dir, &name) {
            Ok(Some(lock)) => sweep_one(hierarchy, lock, &mut sweep)?,
            Ok(None) => sweep.held += 1,
            // Another sweep was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(sweep)
}

fn sweep_one(hierarchy: &Hierarchy, mut lock: Lock, sweep: &mut Sweep) -> Result<(), CgroupError> {
    let name = lock.name().to_owned();
    let failed = |source| CgroupError::Lock {
        path: PathBuf::from(&name),
        source,
    };
    let mut recorded = lock.recorded().map_err(failed)?;
    // The one that can be stopped first: what is in it is in the others too.
    recorded.sort_by_key(|path| !path.join("freezer.state").exists());
    let mut all_gone = true;
    for path in recorded {
        // The lock directory is ours alone; this is about records of another boot, or of a
        // machine whose hierarchies were mounted elsewhere.
        let is_ours = path
            .file_name()
            .is_some_and(|last| last.to_str() == Some(name.as_str()))
            && path
                .components()
                .all(|part| part != std::path::Component::ParentDir)
            && hierarchy.contains(&path);
        if !is_ours {
            continue;
        }
        if hierarchy.is_inside(&path) {
            all_gone = false;
            continue;
        }
        let Some(above) = path.parent() else { continue };
        let outcome = match Dir::open(above) {
            Ok(above) if !above.has(&name) => continue,
            Ok(above) => clear(&above, &name),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => Err(CgroupError::Open {
                path: above.to_owned(),
                source,
            }),
        };
        all_gone &= outcome.is_ok();
        sweep.swept.push(Swept { path, outcome });
    }
    if all_gone {
        lock.remove().map_err(failed)?;
    }
    Ok(())
}
