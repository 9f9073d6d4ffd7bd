//! What must not outlive a daemon and its launcher.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pinfold_tests::wait_for;

use crate::e2e::daemon::Daemon;
use crate::e2e::process;

/// Where root's launchers lease their user ids, and keep the locks of their groups.
const LEASES: &str = "/var/lib/pinfold-uids";

/// The groups that were seen, each under the launcher's own.
#[derive(Default)]
pub(super) struct Remains {
    groups: BTreeSet<PathBuf>,
}

impl Remains {
    /// Notes the groups of a daemon that serves.
    pub(super) fn note(&mut self, daemon: &Daemon) {
        let groups = groups(daemon);
        // A user's launcher may have none.
        let may_have_none = !nix::unistd::geteuid().is_root();
        assert!(may_have_none || !groups.is_empty(), "no group is looked at");
        self.groups.extend(groups);
    }

    /// No process was started on this installation, or under an id of its.
    pub(super) fn assert_no_process(&self, base: &Path) {
        let lease = lease(base);
        wait_for("every process of it to be gone", || {
            let left: Vec<u32> = process::all()
                .into_iter()
                .filter(|pid| process::lives(*pid))
                .filter(|pid| {
                    let uid = process::uid(*pid).unwrap_or_default();
                    let is_of_ids = lease.is_some_and(|first| (first..first + 2048).contains(&uid));
                    is_of_ids || process::arguments(*pid).contains(base.to_str().unwrap())
                })
                .collect();
            left.is_empty().then_some(())
        });
        assert_no_mount(base);
    }

    /// No group is there but those of the launcher that runs now.
    pub(super) fn assert_only_this_ones_groups(&mut self, daemon: &Daemon) {
        let now = groups(daemon);
        for group in self.groups.difference(&now) {
            wait_for(&format!("{group:?} to be gone"), || {
                (!group.exists()).then_some(())
            });
        }
        let locks = lock_directory(&daemon.base());
        for group in self.groups.difference(&now) {
            let name = group.file_name().unwrap().to_str().unwrap();
            let lock = locks.join(format!("{name}.lock"));
            assert!(!lock.exists(), "{lock:?}");
        }
        self.groups = now;
    }

    /// One block of user ids serves the installation, however often it was started.
    pub(super) fn assert_one_lease(&self, daemon: &Daemon) {
        if nix::unistd::geteuid().is_root() {
            let state = daemon.base().join("launcher");
            let leases = leases().filter(|(_, serves)| *serves == state).count();
            assert_eq!(leases, 1);
        }
    }

    /// Nothing is there at all.
    pub(super) fn assert_nothing(&self, base: &Path) {
        self.assert_no_process(base);
        for group in &self.groups {
            wait_for(&format!("{group:?} to be gone"), || {
                (!group.exists()).then_some(())
            });
        }
    }

    /// The files in the state of the daemon and of the launcher, and in the run directory, by name.
    /// What SQLite keeps beside a database in use comes and goes.
    pub(super) fn files(daemon: &Daemon) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut places = vec![daemon.base().join("state"), daemon.base().join("launcher")];
        places.push(daemon.base().join("run"));
        while let Some(place) = places.pop() {
            for (at, entry) in fs::read_dir(&place).unwrap().enumerate() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    places.push(entry.path());
                }
                let name = entry.file_name().into_string().unwrap();
                let is_passing = name.ends_with("-wal") || name.ends_with("-shm");
                // Named anew by each launcher; looked at by their groups.
                if is_passing || name.starts_with("pinfold-") {
                    continue;
                }
                // These too, where the kernel needs them: how many there are is the same.
                let path = match place.ends_with("launcher/attached") {
                    true => place.join(at.to_string()),
                    false => entry.path(),
                };
                found.insert(path);
            }
        }
        found
    }
}

fn assert_no_mount(base: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(base.to_str().unwrap()), "{mounts}");
}

/// The launcher's groups: those of its plugins, up to the part that has the launcher's name.
fn groups(daemon: &Daemon) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for pid in process::descendants(daemon.launcher_pid()) {
        for group in process::groups(pid) {
            let is_launchers = |part: &&Path| {
                let name = part.file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with("pinfold-") && name.len() == 24)
            };
            found.extend(group.ancestors().find(is_launchers).map(Path::to_owned));
        }
    }
    found
}

/// Where a launcher of this installation keeps the locks of its groups.
fn lock_directory(base: &Path) -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        Path::new(LEASES).join("groups")
    } else {
        base.join("launcher/groups")
    }
}

/// The first id of the block that serves an installation.
fn lease(base: &Path) -> Option<u32> {
    let state = base.join("launcher");
    leases()
        .find(|(_, serves)| *serves == state)
        .map(|(first, _)| first)
}

/// Each block that is leased, and the state directory that it serves.
fn leases() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir(LEASES).into_iter().flatten();
    entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let first = entry.file_name().to_str()?.parse().ok()?;
        let serves = fs::read_to_string(entry.path()).ok()?;
        Some((first, PathBuf::from(serves.trim_end())))
    })
}
