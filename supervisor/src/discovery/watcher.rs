//! The kernel's word on what changes in the plugin directory: inotify(7).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{Config, ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use pinfold_policy::PluginId;
use tokio::sync::Notify;

/// Plugins that are told apart between two looks; were there more, all are looked at.
const CHANGED_LIMIT: usize = 1024;

/// Why the plugin directory is not watched. It is looked at every few seconds instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum WatchError {
    /// It is not there, or may not be read.
    #[error("read the plugin directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Its file system does not answer.
    #[error("the plugin directory {path} does not answer: look after what it is mounted from")]
    Silent { path: PathBuf },
    /// The machine's limit of watches is met.
    #[error(
        "too many directories are watched on this machine to watch {path}: raise the sysctl \
         fs.inotify.max_user_watches"
    )]
    Watches { path: PathBuf },
    /// The machine's limit of watchers, or of open files, is met.
    #[error(
        "no watcher for {path}: raise the sysctl fs.inotify.max_user_instances, or the limit of \
         open files"
    )]
    Instances {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Anything else.
    #[error("watch {path}")]
    Watch {
        path: PathBuf,
        #[source]
        source: notify::Error,
    },
}

/// A plugin directory that is watched.
pub(super) struct Watcher {
    /// What was opened, by device and inode: another directory may come into its place.
    identity: (u64, u64),
    path: PathBuf,
    _watcher: RecommendedWatcher,
}

/// What has changed since it was last taken. Filled by the watcher's thread.
#[derive(Debug, Default)]
pub(super) struct Changes {
    changed: Mutex<Changed>,
    wake: Notify,
}

/// Names of plugins, or anything at all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) plugins: BTreeSet<PluginId>,
    /// Events were lost, or are about the directory itself: everything may have changed.
    pub(super) all: bool,
    /// Why a part is not watched.
    pub(super) not_watched: bool,
}

impl Changes {
    /// Waits for changes, and takes them. Cancel-safe.
    pub(super) async fn next(&self) -> Changed {
        loop {
            let woken = self.wake.notified();
            let changed = std::mem::take(&mut *self.lock());
            if changed != Changed::default() {
                return changed;
            }
            woken.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, root: &Path, event: notify::Result<notify::Event>) {
        {
            let mut changed = self.lock();
            match event {
                Ok(event) if event.need_rescan() => changed.all = true,
                Ok(event) => {
                    if !is_change(event.kind) {
                        return;
                    }
                    for path in &event.paths {
                        changed.add(root, path);
                    }
                }
                Err(error) => {
                    changed.all = true;
                    changed.not_watched |= matches!(error.kind, ErrorKind::MaxFilesWatch);
                }
            }
        }
        self.wake.notify_one();
    }
}

impl Changed {
    fn add(&mut self, root: &Path, path: &Path) {
        let Ok(below) = path.strip_prefix(root) else {
            return;
        };
        let Some(first) = below.components().next() else {
            // The directory itself.
            self.all = true;
            return;
        };
        // What is not named like a plugin is none.
        let name = first.as_os_str().to_str();
        if let Some(plugin) = name.and_then(|name| PluginId::parse(name).ok()) {
            if self.plugins.len() < CHANGED_LIMIT {
                self.plugins.insert(plugin);
            } else {
                self.all = true;
            }
        }
    }
}

/// Reading is none: staging reads every file.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

impl Watcher {
    /// Watches `directory` with everything below it. Links below it are not followed.
    pub(super) fn new(directory: &Path, changes: Arc<Changes>) -> Result<Self, WatchError> {
        let unreadable = |source| WatchError::Directory {
            path: directory.into(),
            source,
        };
        // The directory itself may be reached by links; events name what they lead to.
        let root = directory.canonicalize().map_err(unreadable)?;
        let identity = identity(&root).map_err(unreadable)?;
        let config = Config::default().with_follow_symlinks(false);
        let below = root.clone();
        let mut watcher =
            RecommendedWatcher::new(move |event| changes.take_in(&below, event), config)
                .map_err(|error| failed(directory, error))?;
        watcher
            .watch(&root, RecursiveMode::Recursive)
            .map_err(|error| failed(directory, error))?;
        Ok(Self {
            identity,
            path: directory.into(),
            _watcher: watcher,
        })
    }

    /// Whether what is watched still lies at its path.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn failed(directory: &Path, error: notify::Error) -> WatchError {
    let path = directory.to_owned();
    match error.kind {
        ErrorKind::MaxFilesWatch => WatchError::Watches { path },
        ErrorKind::Io(source) if is_too_many(&source) => WatchError::Instances { path, source },
        _ => WatchError::Watch {
            path,
            source: error,
        },
    }
}

/// EMFILE and ENFILE: inotify_init(2).
fn is_too_many(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(nix::Error::from_raw);
    matches!(errno, Some(nix::Error::EMFILE | nix::Error::ENFILE))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn id(name: &str) -> PluginId {
        name.parse().unwrap()
    }

    async fn next(changes: &Changes) -> Changed {
        tokio::time::timeout(Duration::from_secs(30), changes.next())
            .await
            .expect("something has changed")
    }

    #[tokio::test]
    async fn writing_below_a_plugins_directory_is_a_change_and_reading_is_none() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("plugins");
        fs::create_dir_all(root.join("a/deep")).unwrap();
        fs::create_dir_all(root.join("b")).unwrap();
        fs::write(root.join("b/file"), "x").unwrap();
        let changes = Arc::new(Changes::default());
        let watcher = Watcher::new(&root, Arc::clone(&changes)).unwrap();
        assert!(watcher.is_in_place());
        fs::read(root.join("b/file")).unwrap();
        fs::write(root.join(".hidden"), "x").unwrap();
        fs::write(root.join("a/deep/file"), "x").unwrap();
        let changed = next(&changes).await;
        assert_eq!(changed.plugins, ["a".parse().unwrap()].into());
        assert!(!changed.all);
        // A signature beside it.
        fs::write(root.join("b/file.sig"), "x").unwrap();
        while !next(&changes).await.plugins.contains(&id("b")) {}
        fs::create_dir(root.join("c")).unwrap();
        while !next(&changes).await.plugins.contains(&id("c")) {}
    }

    #[tokio::test]
    async fn a_directory_that_is_replaced_is_no_longer_in_place() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("plugins");
        let changes = Arc::new(Changes::default());
        let missing = Watcher::new(&root, Arc::clone(&changes)).err().unwrap();
        assert!(matches!(missing, WatchError::Directory { .. }), "{missing}");
        fs::create_dir(&root).unwrap();
        let watcher = Watcher::new(&root, Arc::clone(&changes)).unwrap();
        fs::rename(&root, place.path().join("old")).unwrap();
        while !next(&changes).await.all {}
        assert!(!watcher.is_in_place());
        fs::create_dir(&root).unwrap();
        assert!(!watcher.is_in_place());
    }

    #[test]
    fn lost_events_and_too_many_plugins_are_a_change_of_everything() {
        let changes = Changes::default();
        let lost = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        changes.take_in(Path::new("/p"), Ok(lost));
        assert!(changes.lock().all);
        let mut changed = Changed::default();
        for n in 0..CHANGED_LIMIT + 5 {
            changed.add(Path::new("/p"), &PathBuf::from(format!("/p/x{n}/file")));
        }
        assert!(changed.all);
        assert_eq!(changed.plugins.len(), CHANGED_LIMIT);
    }
}
