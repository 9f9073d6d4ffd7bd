//! The unified tree: the launcher's group there, and leaves with limits.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use pinfold_policy::Control;
use rustix::io::Errno;

use super::delegation::{free_of_processes, members_of};
use super::dir::Dir;
use super::hierarchy::Unified;
use super::parent::{JAILS, LAUNCHER};
use super::swap::Swap;
use super::v1::{CpuQuota, cpu_quota, cpu_weight};
use super::{Applied, CgroupError, Controller, How, Limits, Reason, io as disk};

/// The launcher's group.
#[derive(Debug)]
pub(super) struct Parent {
    /// The group that it is in.
    pub(super) delegated: Dir,
    pub(super) dir: Dir,
    pub(super) jails: Arc<Dir>,
    /// Whether the launcher has moved into a group of its own in `dir`.
    pub(super) entered: bool,
    /// The controllers that leaves have; none on a hybrid machine.
    pub(super) controllers: BTreeSet<Controller>,
}

/// A leaf.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) parent: Arc<Dir>,
    pub(super) dir: Dir,
}

/// Makes the launcher's group. Controllers that could not be passed down are in the second list.
///
/// # Errors
///
/// The reason why there is no group.
pub(super) fn create_parent(
    unified: &Unified,
    name: &str,
) -> Result<(Parent, Vec<(Controller, Reason)>), Reason> {
    let path = &unified.delegated;
    let refused = |step: &str, error: io::Error| Reason::refused(step, path, &error);
    let delegated = Dir::open(path).map_err(|error| refused("open group", error))?;
    let dir = delegated
        .make_child(name)
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => refused("make group", error).undelegated(),
            _ => refused("make group", error),
        })?;
    let jails = dir
        .make_child(JAILS)
        .map_err(|error| refused("make group", error))?;
    let mut missing = Vec::new();
    let mut controllers = BTreeSet::new();
    let mut entered = false;
    if !unified.controllers.is_empty() {
        // A group that passes controllers on may hold no process itself.
        let entering = dir
            .make_child(LAUNCHER)
            .and_then(|own| own.write("cgroup.procs", "0"));
        entered = entering.is_ok();
        for controller in &unified.controllers {
            let enabled = match &entering {
                Ok(()) => enable(controller.as_str(), &delegated, &dir, &jails),
                Err(error) => Err(Reason::refused("enter own group", dir.path(), error)),
            };
            match enabled {
                Ok(()) => {
                    controllers.insert(*controller);
                }
                Err(reason) => missing.push((*controller, reason)),
            }
        }
    }
    let parent = Parent {
        delegated,
        dir,
        jails: Arc::new(jails),
        entered,
        controllers,
    };
    Ok((parent, missing))
}

impl Parent {
    /// Takes the calling process out of the launcher's group, which can be removed only then. The
    /// delegated group itself may hold no process by now.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn leave(&self) -> io::Result<()> {
        match self.entered {
            true => members_of(&self.delegated)?.write("cgroup.procs", "0"),
            false => Ok(()),
        }
    }
}

/// Makes a leaf.
///
/// # Errors
///
/// [`CgroupError::LeafExists`], [`CgroupError::Open`].
pub(super) fn create(parent: &Parent, name: &str) -> Result<Part, CgroupError> {
    let path = || parent.jails.path().join(name);
    let dir = parent
        .jails
        .make_child(name)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CgroupError::LeafExists { path: path() },
            _ => CgroupError::Open {
                path: path(),
                source,
            },
        })?;
    Ok(Part {
        parent: Arc::clone(&parent.jails),
        dir,
    })
}

/// Sets the limits whose controllers are here.
pub(super) fn limit(
    dir: &Dir,
    controllers: &BTreeSet<Controller>,
    limits: &Limits,
    swap: &Swap,
) -> Vec<Applied> {
    let mut applied = Vec::new();
    if let Some(bytes) = limits
        .memory_bytes
        .filter(|_| controllers.contains(&Controller::Memory))
    {
        applied.extend(limit_memory(dir, bytes, swap));
    }
    if let Some(percent) = limits
        .cpu_percent
        .filter(|_| controllers.contains(&Controller::Cpu))
    {
        applied.push(limit_cpu(dir, percent));
    }
    if let Some(pids) = limits
        .pids
        .filter(|_| controllers.contains(&Controller::Pids))
    {
        applied.push(outcome(
            Control::Processes,
            write(dir, "pids.max", &pids.to_string()),
        ));
    }
    if let Some(io) = limits.io.filter(|_| controllers.contains(&Controller::Io)) {
        applied.push(disk::limit_v2(dir, &io));
    }
    applied
}

fn limit_cpu(dir: &Dir, percent: u32) -> Applied {
    let CpuQuota {
        quota_us,
        period_us,
    } = cpu_quota(percent);
    let quota = format!("{quota_us} {period_us}");
    if let Err(reason) = write(dir, "cpu.max", &quota) {
        return Applied::missing(Control::Cpu, reason);
    }
    match write(dir, "cpu.weight", &cpu_weight(percent).to_string()) {
        Ok(()) => Applied::enforced(Control::Cpu, How::V2),
        Err(reason) => Applied::partial(Control::Cpu, How::V2, reason),
    }
}

fn limit_memory(dir: &Dir, bytes: u64, swap: &Swap) -> [Applied; 2] {
    let memory = match write(dir, "memory.max", &bytes.to_string()) {
        Err(reason) => Applied::missing(Control::Memory, reason),
        Ok(()) => {
            // No memory.high: without swap there is little to reclaim, and the kernel would put
            // the jail to sleep for half a minute where it should end it.
            let compressed = write_if_there(dir, "memory.zswap.max", "0");
            match (no_swap(dir, swap), compressed) {
                (Err(reason), _) => swap.unlimited(How::V2, &reason),
                (Ok(()), Err(reason)) => Applied::partial(Control::Memory, How::V2, reason),
                (Ok(()), Ok(())) => Applied::enforced(Control::Memory, How::V2),
            }
        }
    };
    let group_kill = outcome(
        Control::MemoryGroupKill,
        write(dir, "memory.oom.group", "1"),
    );
    [memory, group_kill]
}

fn outcome(control: Control, written: Result<(), Reason>) -> Applied {
    match written {
        Ok(()) => Applied::enforced(control, How::V2),
        Err(reason) => Applied::missing(control, reason),
    }
}

fn write(dir: &Dir, file: &str, value: &str) -> Result<(), Reason> {
    dir.write(file, value)
        .map_err(|error| Reason::refused(format!("write {file}"), dir.path(), &error))
}

/// A kernel without swap does not have the file, and needs no limit; nor has one that does not account
/// for the swap that there is.
fn no_swap(dir: &Dir, swap: &Swap) -> Result<(), Reason> {
    let file = "memory.swap.max";
    match dir.has(file) || swap.is_there() {
        true => write(dir, file, "0"),
        false => Ok(()),
    }
}

/// A kernel without compressed swap does not have the file, and needs no limit.
fn write_if_there(dir: &Dir, file: &str, value: &str) -> Result<(), Reason> {
    if dir.has(file) {
        write(dir, file, value)
    } else {
        Ok(())
    }
}

/// Passes a controller down to the leaves.
pub(super) fn enable(
    controller: &str,
    delegated: &Dir,
    dir: &Dir,
    jails: &Dir,
) -> Result<(), Reason> {
    let value = format!("+{controller}");
    let into = |group: &Dir| {
        group
            .write("cgroup.subtree_control", &value)
            .map_err(|error| {
                let step = format!("write {value} to cgroup.subtree_control");
                Reason::refused(step, group.path(), &error)
            })
    };
    match into(delegated) {
        Err(busy) if busy.errno == Some(Errno::BUSY.raw_os_error()) => {
            free_of_processes(delegated, busy)?;
            into(delegated)?;
        }
        outcome => outcome?,
    }
    into(dir)?;
    into(jails)
}
