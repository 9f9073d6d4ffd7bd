//! One jail's group: entering, killing, emptiness, removal.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use pinfold_policy::Control;
use rustix::fs::OFlags;

use super::parent::is_busy;
use super::{Applied, CgroupError, Controller, How, Limits, Reason, State, clear, freeze, v1, v2};

/// A jail's group, in every hierarchy that it is in. Dropping it leaves the group where it is.
#[derive(Debug)]
pub struct Leaf {
    name: String,
    pub(super) v1: Vec<v1::Part>,
    pub(super) v2: Option<v2::Part>,
}

/// How tasks get into a leaf. Nobody is ever moved there by somebody else.
#[derive(Debug)]
pub struct EnterFiles {
    /// The v1 `tasks` files, open for writing: a single-threaded task that writes `0` to each is
    /// then in the group. It makes its cgroup namespace afterwards, or the namespace's root would
    /// be outside the group. Empty on v2 alone.
    pub tasks: Vec<OwnedFd>,
    /// The directory of the v2 leaf, for `CLONE_INTO_CGROUP` of clone3(2). There wherever there is
    /// a unified tree, also one without controllers: the group then carries killing and events.
    pub birth: Option<OwnedFd>,
}

/// What killing a leaf did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// The kernel killed the group as a whole (`cgroup.kill`).
    Whole,
    /// Every listed process was sent SIGKILL.
    Listed {
        /// How many.
        count: usize,
        /// Whether all of them were stopped before they were listed, so that none escaped. Else one
        /// that was forked meanwhile may have: look at [`Leaf::is_empty`], and kill again.
        frozen: bool,
    },
}

/// What an attempt at removal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Everything is gone.
    Gone,
    /// Something is still in it: a process that has not been reaped yet counts. Try again later.
    Busy,
}

impl Leaf {
    pub(super) fn new(name: &str, v1: Vec<v1::Part>, v2: Option<v2::Part>) -> Self {
        Self {
            name: name.to_owned(),
            v1,
            v2,
        }
    }

    /// The leaf's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The controllers whose v1 hierarchies the leaf is in, and its directories; for messages and
    /// for looking at a jail from outside.
    pub fn paths(&self) -> impl Iterator<Item = &std::path::Path> {
        let v2 = self.v2.iter().map(|part| part.dir.path());
        self.v1.iter().map(|part| part.dir.path()).chain(v2)
    }

    /// Opens what tasks enter by.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Open`].
    pub fn enter_files(&self) -> Result<EnterFiles, CgroupError> {
        let tasks = self.v1.iter().map(|part| {
            let file = part.dir.open_file("tasks", OFlags::WRONLY);
            file.map(OwnedFd::from).map_err(|source| CgroupError::Open {
                path: part.dir.path().join("tasks"),
                source,
            })
        });
        let birth = self.v2.as_ref().map(|part| {
            let path = || part.dir.path().to_owned();
            part.dir.try_clone_fd().map_err(|source| CgroupError::Open {
                path: path(),
                source,
            })
        });
        Ok(EnterFiles {
            tasks: tasks.collect::<Result<_, _>>()?,
            birth: birth.transpose()?,
        })
    }

    /// Kills every process in the group. On v1 this is the last resort, after the jail's reaper is
    /// dead and with it all that were in its PID namespace. Where the kernel does not do it as one,
    /// the group is stopped first, which may take 20 ms.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Write`], [`CgroupError::Read`], [`CgroupError::Kill`].
    pub fn kill(&self) -> Result<Killed, CgroupError> {
        if let Some(part) = &self.v2 {
            // Where nobody was born into the group, killing it would kill nobody.
            let is_populated = part.dir.keyed("cgroup.events", "populated") == Some(1);
            if is_populated && part.dir.has("cgroup.kill") {
                let path = || part.dir.path().join("cgroup.kill");
                part.dir
                    .write("cgroup.kill", "1")
                    .map_err(|source| CgroupError::Write {
                        path: path(),
                        source,
                    })?;
                return Ok(Killed::Whole);
            }
        }
        let frozen = self.dirs().find_map(freeze::freeze);
        let mut killed = BTreeSet::new();
        for dir in self.dirs() {
            killed.extend(clear::kill_listed(dir)?);
        }
        Ok(Killed::Listed {
            count: killed.len(),
            frozen: frozen.is_some_and(|frozen| frozen.is_whole()),
        })
    }

    /// Whether no process is in the group, in any hierarchy.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Read`].
    pub fn is_empty(&self) -> Result<bool, CgroupError> {
        for dir in self.dirs() {
            if !dir.processes()?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the group. One attempt, which never waits; hierarchies where it succeeded are not
    /// tried again by the next.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Remove`]: refused for another reason than being busy.
    pub fn remove(&mut self) -> Result<Removal, CgroupError> {
        let name = &self.name;
        let mut failed = None;
        let mut is_gone = |parent: &super::dir::Dir| match parent.remove_child(name) {
            Ok(()) => true,
            Err(error) => {
                if !is_busy(&error) {
                    let path = parent.path().join(name);
                    failed = Some(CgroupError::Remove {
                        path,
                        source: error,
                    });
                }
                false
            }
        };
        self.v1.retain(|part| !is_gone(&part.parent));
        if self.v2.as_ref().is_some_and(|part| is_gone(&part.parent)) {
            self.v2 = None;
        }
        match failed {
            Some(error) => Err(error),
            None if self.v1.is_empty() && self.v2.is_none() => Ok(Removal::Gone),
            None => Ok(Removal::Busy),
        }
    }

    /// The part that serves a controller on v1.
    pub(super) fn on_v1(&self, controller: Controller) -> Option<&super::dir::Dir> {
        self.v1
            .iter()
            .find(|part| part.controllers.contains(&controller))
            .map(|part| &part.dir)
    }

    fn dirs(&self) -> impl Iterator<Item = &super::dir::Dir> {
        self.v1
            .iter()
            .map(|part| &part.dir)
            .chain(self.v2.iter().map(|part| &part.dir))
    }

    /// What the leaf can do about killing: the two controls that no single file decides.
    pub(super) fn kill_controls(
        &self,
        limits: &Limits,
        applied: &[Applied],
        life: Option<&Reason>,
    ) -> Vec<Applied> {
        let mut controls = Vec::new();
        if applied
            .iter()
            .all(|entry| entry.control != Control::MemoryGroupKill)
        {
            controls.push(self.memory_group_kill(limits, applied));
        }
        controls.push(match (&self.v2, self.v1.is_empty()) {
            (Some(part), _) if part.dir.has("cgroup.kill") => {
                Applied::enforced(Control::GroupKill, How::V2)
            }
            (_, false) => {
                let reason = Reason::absent("find cgroup.kill", "processes are killed one by one");
                Applied::partial(Control::GroupKill, How::V1, reason)
            }
            (Some(_), true) => {
                let reason = Reason::absent("find cgroup.kill", "the kernel is older than 5.14");
                Applied::partial(Control::GroupKill, How::V2, reason)
            }
            (None, true) => {
                let none = || Reason::absent("make group", "there is no group");
                Applied::missing(Control::GroupKill, life.cloned().unwrap_or_else(none))
            }
        });
        controls.push(self.group_freeze(life));
        controls
    }

    fn group_freeze(&self, life: Option<&Reason>) -> Applied {
        let control = Control::GroupFreeze;
        if self.v1.iter().any(|part| freeze::is_able(&part.dir)) {
            return Applied::enforced(control, How::V1);
        }
        match &self.v2 {
            Some(part) if freeze::is_able(&part.dir) => Applied::enforced(control, How::V2),
            Some(_) => {
                let detail = "the kernel is older than 5.2";
                Applied::missing(control, Reason::absent("find cgroup.freeze", detail))
            }
            None => {
                let none = || Reason::absent("find freezer.state", "freezer is not mounted");
                let reason = match self.v1.is_empty() {
                    true => life.cloned().unwrap_or_else(none),
                    false => none(),
                };
                Applied::missing(control, reason)
            }
        }
    }

    fn memory_group_kill(&self, limits: &Limits, applied: &[Applied]) -> Applied {
        let control = Control::MemoryGroupKill;
        if limits.memory_bytes.is_none() {
            return Applied::off(control);
        }
        if let Some(dir) = self.on_v1(Controller::Memory) {
            let detail = if dir.has("cgroup.event_control") {
                "the launcher ends the jail after the kernel has killed one process of it"
            } else {
                "nothing tells of it"
            };
            let reason = Reason::absent("find memory.oom.group", detail);
            return Applied::partial(control, How::V1, reason);
        }
        let memory = applied
            .iter()
            .find(|entry| entry.control == Control::Memory);
        let reason = match memory.map(|entry| &entry.state) {
            Some(State::Missing { reason }) => reason.clone(),
            _ => Reason::absent("find memory.oom.group", "memory is not limited"),
        };
        Applied::missing(control, reason)
    }
}
