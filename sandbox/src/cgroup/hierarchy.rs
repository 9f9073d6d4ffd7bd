//! Which hierarchy serves which controller, from what `/proc` says and never from a fixed path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::CgroupError;
use super::parent::{LAUNCHER, MEMBERS};
use super::swap::Swap;

/// The files of `/proc` that describe control groups, and swap. Parameters, so that tests can
/// describe other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcPaths {
    /// The mount table: proc_pid_mountinfo(5).
    pub mountinfo: PathBuf,
    /// The groups of this process: proc_pid_cgroup(5).
    pub cgroup: PathBuf,
    /// How much swap there is: proc_meminfo(5).
    pub meminfo: PathBuf,
}

/// The controllers that limits and statistics come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Controller {
    /// Memory.
    Memory,
    /// Processor quota.
    Cpu,
    /// Processor usage. Only on v1 a controller of its own.
    Cpuacct,
    /// Tasks.
    Pids,
    /// Reads and writes at disks: `io` on v2, `blkio` on v1.
    Io,
    /// Devices that may be opened. On v1 alone.
    Devices,
    /// Stopping a group as a whole. A controller on v1 alone; every group of v2 can be stopped.
    Freezer,
}

/// Where the launcher's own groups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    v1: BTreeMap<Controller, PathBuf>,
    unified: Option<Unified>,
    mounts: Vec<PathBuf>,
    swap: Swap,
}

/// Where a controller can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the unified tree.
    V2,
    /// In a v1 hierarchy.
    V1 {
        /// The launcher's own group there.
        own: PathBuf,
    },
    /// Nowhere.
    Missing,
}

/// The unified tree (cgroup v2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unified {
    /// The group that this process is in.
    pub(super) own: PathBuf,
    /// The group that the launcher may build in: its own, or the one above where its own is only
    /// the part of the unit that holds the processes.
    pub(super) delegated: PathBuf,
    /// The controllers that may be passed on from there.
    pub(super) controllers: BTreeSet<Controller>,
}

impl ProcPaths {
    /// Those of the calling process.
    #[must_use]
    pub fn own() -> Self {
        Self {
            mountinfo: PathBuf::from("/proc/self/mountinfo"),
            cgroup: PathBuf::from("/proc/self/cgroup"),
            meminfo: PathBuf::from("/proc/meminfo"),
        }
    }
}

impl Hierarchy {
    /// Finds the launcher's groups. A machine without any gives an empty hierarchy, on which every
    /// control is missing.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Read`]: one of the two files about groups cannot be read, or is over 4 MiB.
    pub fn discover(paths: &ProcPaths) -> Result<Self, CgroupError> {
        let mounts = mounts(&read(&paths.mountinfo)?);
        let groups = groups(&read(&paths.cgroup)?);
        let own = |version2: bool, controller: Option<Controller>| {
            mounts
                .iter()
                .filter(|mount| mount.version2 == version2)
                .filter(|mount| controller.is_none_or(|c| mount.has(c)))
                .find_map(|mount| {
                    let group = groups.iter().find(|group| match controller {
                        Some(controller) => group.has(controller),
                        None => group.is_unified(),
                    })?;
                    mount.directory_of(&group.path)
                })
        };
        let v1 = Controller::ALL
            .into_iter()
            .filter_map(|controller| Some((controller, own(false, Some(controller))?)))
            .collect();
        let unified = own(true, None).map(|own| Unified::of(own, &mounts));
        let mounts = mounts.into_iter().map(|mount| mount.point).collect();
        Ok(Self {
            v1,
            unified,
            mounts,
            swap: Swap {
                meminfo: paths.meminfo.clone(),
            },
        })
    }

    /// Where a controller can be used: v2 first.
    #[must_use]
    pub fn place(&self, controller: Controller) -> Place {
        if self
            .unified
            .as_ref()
            .is_some_and(|unified| unified.controllers.contains(&controller))
        {
            return Place::V2;
        }
        match self.v1.get(&controller) {
            Some(own) => Place::V1 { own: own.clone() },
            None => Place::Missing,
        }
    }

    /// Whether there is a unified tree, with controllers or without.
    #[must_use]
    pub fn has_unified(&self) -> bool {
        self.unified.is_some()
    }

    pub(super) fn unified(&self) -> Option<&Unified> {
        self.unified.as_ref()
    }

    pub(super) fn swap(&self) -> &Swap {
        &self.swap
    }

    /// Whether this is a path beneath a mounted hierarchy.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.mounts
            .iter()
            .any(|mount| path.starts_with(mount) && path != mount)
    }

    /// Whether this process itself is in this group or beneath it.
    pub(super) fn is_inside(&self, group: &Path) -> bool {
        let unified = self.unified.iter().map(|unified| &unified.own);
        self.v1
            .values()
            .chain(unified)
            .any(|own| own.starts_with(group))
    }
}

impl Controller {
    /// Every controller.
    pub const ALL: [Self; 7] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuacct,
        Self::Pids,
        Self::Io,
        Self::Devices,
        Self::Freezer,
    ];

    /// The kernel's name on v2, or on v1 where v2 has none.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Pids => "pids",
            Self::Io => "io",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
        }
    }

    /// The kernel's name on v1.
    const fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            _ => self.as_str(),
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Unified {
    fn of(own: PathBuf, mounts: &[Mount]) -> Self {
        // systemd's DelegateSubgroup= puts a unit's processes into a group of their own below the
        // delegated one; we do the same to processes that are in our way.
        let is_subgroup = own
            .file_name()
            .is_some_and(|name| name == LAUNCHER || name == MEMBERS);
        let above = own.parent().filter(|parent| {
            mounts
                .iter()
                .any(|mount| mount.version2 && parent.starts_with(&mount.point))
        });
        let delegated = match above {
            Some(above) if is_subgroup => above.to_owned(),
            _ => own.clone(),
        };
        let listed = read(&delegated.join("cgroup.controllers")).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed);
        let controllers = Controller::ALL
            .into_iter()
            .filter(|controller| {
                listed
                    .split_whitespace()
                    .any(|name| name == controller.as_str())
            })
            .collect();
        Self {
            own,
            delegated,
            controllers,
        }
    }
}

/// A mount table of 20,000 lines stays below it.
const MAX_PROC_BYTES: u64 = 4 * 1024 * 1024;

fn read(path: &Path) -> Result<Vec<u8>, CgroupError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_PROC_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_PROC_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(bytes)
    };
    read().map_err(|source| CgroupError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A mounted hierarchy.
struct Mount {
    version2: bool,
    /// Which of its groups is mounted.
    root: PathBuf,
    point: PathBuf,
    /// Options of the superblock; for v1 the controllers are among them.
    options: Vec<String>,
}

impl Mount {
    fn has(&self, controller: Controller) -> bool {
        self.options
            .iter()
            .any(|option| option == controller.v1_name())
    }

    /// The directory of a group, where this mount shows it.
    fn directory_of(&self, group: &Path) -> Option<PathBuf> {
        let below = group.strip_prefix(&self.root).ok()?;
        let directory = if below.as_os_str().is_empty() {
            self.point.clone()
        } else {
            self.point.join(below)
        };
        directory.is_dir().then_some(directory)
    }
}

fn mounts(table: &[u8]) -> Vec<Mount> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect()
}

/// One line of mountinfo, if it is a control group hierarchy.
fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    // Optional fields end with a lone hyphen; the six before them are fixed.
    let hyphen = 6 + fields.get(6..)?.iter().position(|field| *field == b"-")?;
    let version2 = match *fields.get(hyphen + 1)? {
        b"cgroup" => false,
        b"cgroup2" => true,
        _ => return None,
    };
    let options = String::from_utf8_lossy(fields.get(hyphen + 3)?);
    Some(Mount {
        version2,
        root: path(fields.get(3)?),
        point: path(fields.get(4)?),
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// A path as mountinfo writes it: space, tab, newline and backslash as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 8).ok()
            });
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// One line of `/proc/self/cgroup`.
struct OwnGroup {
    controllers: Vec<String>,
    path: PathBuf,
}

impl OwnGroup {
    fn has(&self, controller: Controller) -> bool {
        self.controllers
            .iter()
            .any(|name| name == controller.v1_name())
    }

    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }
}

fn groups(text: &[u8]) -> Vec<OwnGroup> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let controllers = String::from_utf8_lossy(controllers);
            Some(OwnGroup {
                controllers: controllers
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
                path: PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())),
            })
        })
        .collect()
}
