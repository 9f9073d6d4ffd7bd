//! The launcher's own group, in which its leaves are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pinfold_policy::Control;

use super::dir::Dir;
use super::leaf::{Leaf, Removal};
use super::lock::Lock;
use super::swap::Swap;
use super::{
    Applied, CgroupError, Controller, Disk, Hierarchy, IoLimits, Limits, Place, Reason, v1, v2,
};

/// Where the launcher itself is, on v2 with controllers. Also what the packaged unit names with
/// `DelegateSubgroup=`.
pub(super) const LAUNCHER: &str = "launcher";
/// Where the leaves are, on v2.
pub(super) const JAILS: &str = "jails";
/// Where processes go that were in the delegated group itself, on v2 with controllers.
pub(super) const MEMBERS: &str = "pinfold-members";

/// This launcher's group in each hierarchy, held by a lock. Dropping it removes the groups if they
/// are empty; what cannot be removed is the next sweep's.
#[derive(Debug)]
pub struct Parent {
    lock: Lock,
    v1: Vec<v1::Parent>,
    v2: Option<v2::Parent>,
    missing: BTreeMap<Controller, Reason>,
    life: Option<Reason>,
    swap: Swap,
}

impl Parent {
    /// Makes a group of this launcher's own, `pinfold-` and 16 hexadecimal digits, beneath the
    /// group it is in, in each hierarchy that serves a limit; on v2 with controllers the calling
    /// process then moves into a group below it. `lock_dir` must exist and be the launcher's
    /// alone: the lock file there says that the groups are in use, and which they are.
    ///
    /// Hierarchies in which no group can be made are left out; [`Self::leaf`] says why.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Lock`].
    pub fn create(hierarchy: &Hierarchy, lock_dir: &Path) -> Result<Self, CgroupError> {
        let mut lock = Lock::create(lock_dir)?;
        let wanted = v1_groups(hierarchy);
        let name = lock.name().to_owned();
        let unified = hierarchy.unified();
        let above = wanted
            .keys()
            .cloned()
            .chain(unified.map(|unified| unified.delegated.clone()));
        lock.record(&above.map(|above| above.join(&name)).collect::<Vec<_>>())?;

        let mut missing = BTreeMap::new();
        for controller in Controller::ALL {
            if hierarchy.place(controller) == Place::Missing {
                let detail = match unified {
                    Some(unified) => format!(
                        "{controller} is not among the controllers of {} and not mounted on v1",
                        unified.delegated.display()
                    ),
                    None => format!("{controller} is not mounted"),
                };
                missing.insert(controller, Reason::absent("find controller", detail));
            }
        }
        let mut v1 = Vec::new();
        for (path, controllers) in wanted {
            let made = Dir::open(&path).and_then(|above| {
                let dir = above.make_child(&name)?;
                Ok((above, dir))
            });
            match made {
                Ok((above, dir)) => {
                    v1.push(v1::Parent {
                        above,
                        controllers,
                        dir: Arc::new(dir),
                    });
                }
                Err(error) => {
                    missing.extend(controllers.into_iter().map(|controller| {
                        (controller, Reason::refused("make group", &path, &error))
                    }))
                }
            }
        }
        let (v2, life) = match unified.map(|unified| (unified, v2::create_parent(unified, &name))) {
            None => (
                None,
                Some(Reason::absent("find unified tree", "not mounted")),
            ),
            Some((_, Ok((parent, refused)))) => {
                missing.extend(refused);
                (Some(parent), None)
            }
            Some((unified, Err(reason))) => {
                missing.extend(unified.controllers.iter().map(|one| (*one, reason.clone())));
                (None, Some(reason))
            }
        };
        Ok(Self {
            lock,
            v1,
            v2,
            missing,
            life,
            swap: hierarchy.swap().clone(),
        })
    }

    /// The name of this launcher's groups.
    #[must_use]
    pub fn name(&self) -> &str {
        self.lock.name()
    }

    /// Makes a jail's group and sets its limits, before anybody is in it. The answers hold one
    /// entry for each of the controls memory, memory-group-kill, cpu, processes, io, devices,
    /// group-kill and group-freeze; a control that could not be had is an entry, not an error.
    ///
    /// # Errors
    ///
    /// [`CgroupError::LeafName`] unless the name is 1 to 128 of letters, digits, `_` and `-`;
    /// [`CgroupError::LeafExists`].
    pub fn leaf(&self, name: &str, limits: &Limits) -> Result<(Leaf, Vec<Applied>), CgroupError> {
        if !is_leaf_name(name) {
            return Err(CgroupError::LeafName {
                name: name.to_owned(),
            });
        }
        let mut life = self.life.clone();
        let mut applied = Vec::new();
        let part = match self
            .v2
            .as_ref()
            .map(|parent| (parent, v2::create(parent, name)))
        {
            None => None,
            Some((parent, Ok(part))) => {
                applied.extend(v2::limit(
                    &part.dir,
                    &parent.controllers,
                    limits,
                    &self.swap,
                ));
                Some(part)
            }
            Some((_, Err(error @ CgroupError::LeafExists { .. }))) => return Err(error),
            Some((parent, Err(CgroupError::Open { path, source }))) => {
                let reason = Reason::refused("make group", &path, &source);
                let controls = parent
                    .controllers
                    .iter()
                    .filter_map(|one| v1::control_of(*one, limits));
                applied.extend(controls.map(|one| Applied::missing(one, reason.clone())));
                life = Some(reason);
                None
            }
            Some((_, Err(error))) => return Err(error),
        };
        let (parts, v1_applied) = match v1::create(&self.v1, name, limits, &self.swap) {
            Ok(made) => made,
            Err(error) => {
                // The names of leaves are one name space: nothing stays of half a leaf.
                if let Some(part) = part {
                    part.parent
                        .remove_child(name)
                        .map_err(|source| CgroupError::Remove {
                            path: part.dir.path().to_owned(),
                            source,
                        })?;
                }
                return Err(error);
            }
        };
        applied.extend(v1_applied);
        let leaf = Leaf::new(name, parts, part);
        applied.extend(self.rest(limits, &applied));
        applied.extend(leaf.kill_controls(limits, &applied, life.as_ref()));
        applied.sort_by_key(|entry| entry.control);
        Ok((leaf, applied))
    }

    /// What leaves get here, found by making one with limits and removing it again; that on reads
    /// and writes at `disk`, where there is one.
    ///
    /// # Errors
    ///
    /// As [`Self::leaf`], and [`CgroupError::Remove`].
    pub fn probe(&self, disk: Option<Disk>) -> Result<Vec<Applied>, CgroupError> {
        let limits = Limits {
            // A size that every kernel takes, above what an empty group is charged.
            memory_bytes: Some(16 << 20),
            cpu_percent: Some(100),
            pids: Some(16),
            io: disk.map(IoLimits::ample),
            devices: true,
        };
        let (mut leaf, applied) = self.leaf("probe", &limits)?;
        leaf.remove()?;
        Ok(applied)
    }

    /// Removes the groups and the lock, if every leaf is gone. One attempt. Where the calling
    /// process was moved into a group, it leaves that.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Remove`], [`CgroupError::Lock`].
    pub fn remove(&mut self) -> Result<Removal, CgroupError> {
        let name = self.lock.name();
        let mut gone = true;
        let mut step = |dir: &Dir, child: &str| match dir.remove_child(child) {
            Ok(()) => Ok(()),
            Err(error) if is_busy(&error) => {
                gone = false;
                Ok(())
            }
            Err(source) => Err(CgroupError::Remove {
                path: dir.path().join(child),
                source,
            }),
        };
        for v1 in &self.v1 {
            step(&v1.above, name)?;
        }
        if let Some(v2) = &self.v2 {
            step(&v2.dir, JAILS)?;
            v2.leave().map_err(|source| CgroupError::Remove {
                path: v2.dir.path().join(LAUNCHER),
                source,
            })?;
            step(&v2.dir, LAUNCHER)?;
            step(&v2.delegated, name)?;
        }
        if !gone {
            return Ok(Removal::Busy);
        }
        self.lock.remove().map_err(|source| CgroupError::Lock {
            path: Path::new(self.lock.name()).to_owned(),
            source,
        })?;
        Ok(Removal::Gone)
    }

    /// The controls that nothing has answered for yet.
    fn rest(&self, limits: &Limits, applied: &[Applied]) -> Vec<Applied> {
        let asked = [
            (
                Controller::Memory,
                Control::Memory,
                limits.memory_bytes.is_some(),
            ),
            (Controller::Cpu, Control::Cpu, limits.cpu_percent.is_some()),
            (Controller::Pids, Control::Processes, limits.pids.is_some()),
            (Controller::Io, Control::Io, limits.io.is_some()),
            (Controller::Devices, Control::Devices, limits.devices),
        ];
        asked
            .into_iter()
            .filter(|(_, control, _)| applied.iter().all(|entry| entry.control != *control))
            .map(|(controller, control, wanted)| {
                if !wanted {
                    return Applied::off(control);
                }
                let reason = self.missing.get(&controller).cloned().unwrap_or_else(|| {
                    Reason::absent("find controller", "the launcher has no group with it")
                });
                Applied::missing(control, reason)
            })
            .collect()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // Whatever is left is written down in the lock file, and the next sweep finds it.
        drop(self.remove());
    }
}

/// Longest leaf name; the kernel allows 255 bytes.
const MAX_LEAF_NAME: usize = 128;

fn is_leaf_name(name: &str) -> bool {
    (1..=MAX_LEAF_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Whether a group still has tasks or groups in it.
pub(super) fn is_busy(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::ResourceBusy | std::io::ErrorKind::DirectoryNotEmpty
    )
}

/// The launcher's own v1 groups, and the controllers that each serves. One hierarchy may serve
/// several.
fn v1_groups(hierarchy: &Hierarchy) -> BTreeMap<std::path::PathBuf, Vec<Controller>> {
    let mut groups: BTreeMap<_, Vec<Controller>> = BTreeMap::new();
    let mut all = vec![
        Controller::Memory,
        Controller::Cpu,
        Controller::Pids,
        Controller::Io,
        Controller::Devices,
    ];
    // Groups of the unified tree can be stopped without it.
    if !hierarchy.has_unified() {
        all.push(Controller::Freezer);
    }
    for controller in all {
        if let Place::V1 { own } = hierarchy.place(controller) {
            groups.entry(own).or_default().push(controller);
        }
    }
    // Usage comes with the quota where both are mounted together, and from the unified tree where
    // there is one; only else is it worth a hierarchy of its own to enter.
    if let Place::V1 { own } = hierarchy.place(Controller::Cpuacct)
        && (groups.contains_key(&own) || !hierarchy.has_unified())
    {
        groups.entry(own).or_default().push(Controller::Cpuacct);
    }
    groups
}
