//! Making and limiting leaves in version 1 hierarchies: the one file that uses cgroups-rs.
//!
//! Always with an explicit list of controllers: without one that crate would enter every
//! hierarchy, systemd's own included. Never its `add_task*`, which write another task's number and
//! then wait for a grace period of the kernel.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuacct::CpuAcctController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, MaxValue, Subsystem};
use pinfold_policy::Control;

use super::dir::Dir;
use super::swap::Swap;
use super::{Applied, CgroupError, Controller, How, Limits, Reason, devices, io as disk};

/// The launcher's group in one hierarchy, which may serve several controllers.
#[derive(Debug)]
pub(super) struct Parent {
    /// The group that it is in.
    pub(super) above: Dir,
    pub(super) controllers: Vec<Controller>,
    pub(super) dir: Arc<Dir>,
}

/// A leaf in one hierarchy.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) controllers: Vec<Controller>,
    pub(super) parent: Arc<Dir>,
    pub(super) dir: Dir,
}

/// Makes a leaf in each hierarchy, and limits it. What cannot be made or set is in the answers.
///
/// # Errors
///
/// [`CgroupError::LeafExists`].
pub(super) fn create(
    parents: &[Parent],
    name: &str,
    limits: &Limits,
    swap: &Swap,
) -> Result<(Vec<Part>, Vec<Applied>), CgroupError> {
    if let Some(parent) = parents.iter().find(|parent| parent.dir.has(name)) {
        return Err(CgroupError::LeafExists {
            path: parent.dir.path().join(name),
        });
    }
    let parents = parents.iter().filter(|parent| parent.is_for(limits));
    let hierarchy = Beneath::new(parents.clone());
    let list = hierarchy.controller_list();
    let group = Cgroup::new_with_specified_controllers(Box::new(hierarchy), name, Some(list));
    let (mut parts, mut applied) = (Vec::new(), Vec::new());
    for parent in parents {
        // cgroups-rs does not say whether a group could be made, nor why not; a second attempt does.
        let dir = match parent.dir.open_child(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => parent.dir.make_child(name),
            opened => opened,
        };
        match (dir, &group) {
            (Ok(dir), Ok(group)) => {
                applied.extend(
                    parent
                        .controllers
                        .iter()
                        .filter_map(|controller| limit(group, *controller, limits, &dir, swap)),
                );
                let parent_dir = Arc::clone(&parent.dir);
                let controllers = parent.controllers.clone();
                parts.push(Part {
                    controllers,
                    parent: parent_dir,
                    dir,
                });
            }
            (Ok(_), Err(error)) => {
                let path = parent.dir.path().join(name);
                let reason = Reason::absent("make group", format!("{}: {error}", path.display()));
                applied.extend(missing(parent, limits, &reason));
            }
            (Err(error), _) => {
                let path = parent.dir.path().join(name);
                let reason = Reason::refused("make group", &path, &error);
                applied.extend(missing(parent, limits, &reason));
            }
        }
    }
    Ok((parts, applied))
}

/// The control that a controller's limit is, if this limit is asked for.
pub(super) fn control_of(controller: Controller, limits: &Limits) -> Option<Control> {
    match controller {
        Controller::Memory => limits.memory_bytes.map(|_| Control::Memory),
        Controller::Cpu => limits.cpu_percent.map(|_| Control::Cpu),
        Controller::Pids => limits.pids.map(|_| Control::Processes),
        Controller::Io => limits.io.map(|_| Control::Io),
        Controller::Devices => limits.devices.then_some(Control::Devices),
        Controller::Cpuacct | Controller::Freezer => None,
    }
}

impl Parent {
    /// Whether a leaf with these limits needs this hierarchy: to enter one more takes time.
    fn is_for(&self, limits: &Limits) -> bool {
        self.controllers.iter().any(|controller| match controller {
            Controller::Io | Controller::Devices => control_of(*controller, limits).is_some(),
            _ => true,
        })
    }
}

/// Longest period of the processor quota: the kernel's default.
const CPU_PERIOD_US: u32 = 100_000;
/// Shortest period: below it a thread is hardly stopped in time, since that is done by the clock's
/// tick.
const LEAST_CPU_PERIOD_US: u32 = 10_000;
/// What the kernel gives a processor of a group's quota at once (`sched_cfs_bandwidth_slice_us`).
const CPU_SLICE_US: u32 = 5_000;

/// The processor quota: time, and the period in which it may be used, in microseconds.
///
/// What has less than a processor gets it in the shortest pieces that there are, one processor's
/// slice in each period. Of a longer period's quota every processor would be given a slice: the threads
/// of one jail would keep all of them from everybody else at the same time, and would then stand still
/// for as long as that took.
pub(super) fn cpu_quota(percent: u32) -> CpuQuota {
    let period_us = match percent {
        1..100 => (CPU_SLICE_US * 100 / percent).clamp(LEAST_CPU_PERIOD_US, CPU_PERIOD_US),
        _ => CPU_PERIOD_US,
    };
    // So that a percentage of it is a whole number.
    let hundredth = u64::from(period_us / 100);
    CpuQuota {
        quota_us: u64::from(percent) * hundredth,
        period_us: hundredth * 100,
    }
}

/// What a group may use of the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuQuota {
    pub(super) quota_us: u64,
    pub(super) period_us: u64,
}

fn missing<'a>(
    parent: &'a Parent,
    limits: &'a Limits,
    reason: &'a Reason,
) -> impl Iterator<Item = Applied> + 'a {
    let controls = parent
        .controllers
        .iter()
        .filter_map(|one| control_of(*one, limits));
    controls.map(|control| Applied::missing(control, reason.clone()))
}

/// Sets one controller's limit. `None` where it has none, or none is asked for.
fn limit(
    group: &Cgroup,
    controller: Controller,
    limits: &Limits,
    dir: &Dir,
    swap: &Swap,
) -> Option<Applied> {
    let control = control_of(controller, limits)?;
    let path = dir.path();
    Some(match controller {
        Controller::Memory => limit_memory(group, limits.memory_bytes?, path, swap),
        Controller::Cpu => limit_cpu(group, limits.cpu_percent?, path),
        Controller::Pids => {
            let pids: Option<&PidController> = group.controller_of();
            let most = MaxValue::Value(signed(limits.pids?));
            let set = in_list(pids).and_then(|pids| {
                pids.set_pid_max(most)
                    .map_err(|error| reason(&error, "write pids.max", path))
            });
            outcome(control, set)
        }
        Controller::Io => disk::limit_v1(dir, &limits.io?),
        Controller::Devices => devices::limit(dir),
        Controller::Cpuacct | Controller::Freezer => return None,
    })
}

/// A jail's weight against others when processors are short, as a v2 group has it: that of one
/// ordinary group for each whole processor that the jail may use.
pub(super) fn cpu_weight(percent: u32) -> u32 {
    percent.clamp(1, 10_000)
}

/// The same on v1, where an ordinary group has 1024.
fn cpu_shares(percent: u32) -> u64 {
    u64::from(cpu_weight(percent)) * 1024 / 100
}

fn limit_cpu(group: &Cgroup, percent: u32, path: &Path) -> Applied {
    let cpu: Option<&CpuController> = group.controller_of();
    let quota = cpu_quota(percent);
    let set = in_list(cpu).and_then(|cpu| {
        cpu.set_cfs_period(quota.period_us)
            .map_err(|error| reason(&error, "write cpu.cfs_period_us", path))?;
        cpu.set_cfs_quota(signed(quota.quota_us))
            .map_err(|error| reason(&error, "write cpu.cfs_quota_us", path))?;
        Ok(cpu)
    });
    let weighted = set.map(|cpu| {
        cpu.set_shares(cpu_shares(percent))
            .map_err(|error| reason(&error, "write cpu.shares", path))
    });
    match weighted {
        Err(reason) => Applied::missing(Control::Cpu, reason),
        Ok(Err(reason)) => Applied::partial(Control::Cpu, How::V1, reason),
        Ok(Ok(())) => Applied::enforced(Control::Cpu, How::V1),
    }
}

/// Part of the memory limit that buffers of sockets may have, beside it: one in so many.
const SOCKETS_SHARE: i64 = 4;

/// Memory first, then memory and swap together: the second may not be below the first.
fn limit_memory(group: &Cgroup, bytes: u64, path: &Path, swap: &Swap) -> Applied {
    let memory: Option<&MemController> = group.controller_of();
    let bytes = signed(bytes);
    let set = in_list(memory).and_then(|memory| {
        memory
            .set_limit(bytes)
            .map_err(|error| reason(&error, "write memory.limit_in_bytes", path))?;
        Ok(memory)
    });
    let memory = match set {
        Err(reason) => return Applied::missing(Control::Memory, reason),
        Ok(memory) => memory,
    };
    // The kernel may have been started without accounting of swap on v1.
    let with_swap = memory
        .set_memswap_limit(bytes)
        .map_err(|error| reason(&error, "write memory.memsw.limit_in_bytes", path));
    // Buffers of sockets are counted apart here, and not at all until they have a limit: over
    // loopback alone a jail could fill what the whole machine has for them.
    let sockets = memory
        .set_tcp_limit(bytes / SOCKETS_SHARE)
        .map_err(|error| reason(&error, "write memory.kmem.tcp.limit_in_bytes", path));
    match (with_swap, sockets) {
        (Err(reason), _) => swap.unlimited(How::V1, &reason),
        (Ok(()), Err(reason)) => Applied::partial(Control::Memory, How::V1, reason),
        (Ok(()), Ok(())) => Applied::enforced(Control::Memory, How::V1),
    }
}

fn outcome(control: Control, set: Result<(), Reason>) -> Applied {
    match set {
        Ok(()) => Applied::enforced(control, How::V1),
        Err(reason) => Applied::missing(control, reason),
    }
}

fn in_list<T>(controller: Option<&T>) -> Result<&T, Reason> {
    controller.ok_or_else(|| Reason::absent("find controller", "not in the list of this group"))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn reason(error: &cgroups_rs::error::Error, step: &str, path: &Path) -> Reason {
    match error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
    {
        Some(source) => Reason::refused(step, path, source),
        None => Reason::absent(step, format!("{}: {error}", path.display())),
    }
}

/// Our own groups as a hierarchy of cgroups-rs: only the controllers whose limits it sets, and each
/// where `/proc` said that it is.
#[derive(Clone, Debug)]
struct Beneath {
    groups: Vec<(Controller, PathBuf)>,
}

impl Beneath {
    fn new<'a>(parents: impl Iterator<Item = &'a Parent>) -> Self {
        let groups = parents.flat_map(|parent| {
            let path = parent.dir.path();
            parent
                .controllers
                .iter()
                .map(|controller| (*controller, path.to_owned()))
        });
        Self {
            groups: groups.collect(),
        }
    }

    fn controller_list(&self) -> Vec<String> {
        self.groups
            .iter()
            .map(|(controller, _)| controller.to_string())
            .collect()
    }
}

impl cgroups_rs::Hierarchy for Beneath {
    fn subsystems(&self) -> Vec<Subsystem> {
        let subsystem = |(controller, path): &(Controller, PathBuf)| {
            let path = path.clone();
            Some(match controller {
                Controller::Memory => Subsystem::Mem(MemController::new(path, false)),
                Controller::Cpu => Subsystem::Cpu(CpuController::new(path, false)),
                Controller::Cpuacct => Subsystem::CpuAcct(CpuAcctController::new(path)),
                Controller::Pids => Subsystem::Pid(PidController::new(path, false)),
                // Their groups are made, and limited, without it.
                Controller::Io | Controller::Devices | Controller::Freezer => return None,
            })
        };
        self.groups.iter().filter_map(subsystem).collect()
    }

    // The rest of the trait is asked for only by operations on tasks, which are not used.

    fn root(&self) -> PathBuf {
        self.groups
            .first()
            .map(|(_, path)| path.clone())
            .unwrap_or_default()
    }

    fn root_control_group(&self) -> Cgroup {
        Cgroup::load_with_specified_controllers(Box::new(self.clone()), "", self.controller_list())
    }

    fn parent_control_group(&self, _path: &str) -> Cgroup {
        self.root_control_group()
    }

    fn v2(&self) -> bool {
        false
    }
}
