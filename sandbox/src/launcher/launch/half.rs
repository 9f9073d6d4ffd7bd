//! What a launch takes before its jail is there, and gives back where none comes to be.

use std::os::fd::OwnedFd;

use pinfold_policy::{Control, PolicyFile, Wanted};

use super::super::controls::{self, Tried};
use super::super::ground::Ground;
use super::super::{failure, log};
use crate::cgroup::{Leaf, Removal};
use crate::jail::{GroupFds, Ids};
use crate::protocol::{Failure, FailureKind};

/// What a launch has taken so far; given back if it goes no further.
pub(super) struct Half<'a> {
    pub(super) leaf: Option<Leaf>,
    pub(super) reaper_uid: Option<u32>,
    pub(super) ground: &'a mut Ground,
}

impl Half<'_> {
    pub(super) fn ids(&mut self, plugin: Option<u32>) -> Result<Ids, Failure> {
        let (Some(plugin), Some(uids)) = (plugin, &mut self.ground.uids) else {
            return Ok(Ids::User);
        };
        let reaper = uids
            .reaper()
            .map_err(|error| failure::of(FailureKind::Host, &error))?;
        self.reaper_uid = Some(reaper);
        Ok(Ids::Root { plugin, reaper })
    }

    /// A prepared network namespace, which is then this jail's, where there is one.
    pub(super) fn network(&mut self, file: &PolicyFile) -> Result<Option<OwnedFd>, Failure> {
        let control = Control::NetworkPool;
        let wanted = file.wanted(control);
        match wanted {
            Wanted::Off => return Ok(None),
            Wanted::Required if !file.loopback => {
                let reason = "those that are prepared have a loopback: the policy wants none";
                return Err(controls::refused(control, &Tried::missing(reason)));
            }
            _ if !file.loopback => return Ok(None),
            _ => {}
        }
        match (self.ground.networks.take(), wanted) {
            (None, Wanted::Required) => {
                let reason = "all that were prepared are used: others follow at once";
                Err(controls::refused(control, &Tried::missing(reason)))
            }
            (taken, _) => Ok(taken),
        }
    }

    pub(super) fn group_files(&self) -> Result<GroupFds, Failure> {
        let Some(leaf) = &self.leaf else {
            return Ok(GroupFds::default());
        };
        let files = leaf
            .enter_files()
            .map_err(|error| failure::of(FailureKind::Host, &error))?;
        Ok(GroupFds {
            v1_tasks: files.tasks,
            v2_dir: files.birth,
        })
    }

    pub(super) fn whole(mut self) -> Result<(Leaf, Option<u32>), Failure> {
        let reaper_uid = self.reaper_uid.take();
        self.leaf
            .take()
            .map(|leaf| (leaf, reaper_uid))
            .ok_or_else(|| failure::new(FailureKind::Host, "the group is gone"))
    }
}

impl Drop for Half<'_> {
    fn drop(&mut self) {
        if let Some(uid) = self.reaper_uid
            && let Some(uids) = &mut self.ground.uids
        {
            uids.release_reaper(uid);
        }
        // Nobody has entered it: `jail::start` waits for the end of what it could not start.
        match self.leaf.as_mut().map(Leaf::remove) {
            None | Some(Ok(Removal::Gone)) => {}
            Some(Ok(Removal::Busy)) => log::line("a group of a failed launch stays for the sweep"),
            Some(Err(error)) => log::line(&log::chain(&error)),
        }
    }
}
