//! Owners by name: another machine has other numbers for the same users.

use std::collections::BTreeMap;

use nix::unistd::{Gid, Group, Uid, User};

use super::manifest::OwnerOf;

/// What users and groups are called, each looked up once.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: BTreeMap<u32, Option<String>>,
    groups: BTreeMap<u32, Option<String>>,
}

impl Names {
    pub(super) fn of(&mut self, uid: u32, gid: u32) -> OwnerOf {
        let user = self.users.entry(uid).or_insert_with(|| {
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            user.map(|user| user.name)
        });
        let group = self.groups.entry(gid).or_insert_with(|| {
            let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            group.map(|group| group.name)
        });
        OwnerOf {
            uid,
            gid,
            user: user.clone(),
            group: group.clone(),
        }
    }
}

/// Who the owners of an archive are here.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: BTreeMap<String, Option<u32>>,
    groups: BTreeMap<String, Option<u32>>,
}

impl Owners {
    /// By name where there is one of that name here, else by number.
    pub(super) fn here(&mut self, owner: &OwnerOf) -> (u32, u32) {
        let uid = owner.user.as_ref().and_then(|name| {
            *self.users.entry(name.clone()).or_insert_with(|| {
                let user = User::from_name(name).ok().flatten();
                user.map(|user| user.uid.as_raw())
            })
        });
        let gid = owner.group.as_ref().and_then(|name| {
            *self.groups.entry(name.clone()).or_insert_with(|| {
                let group = Group::from_name(name).ok().flatten();
                group.map(|group| group.gid.as_raw())
            })
        });
        (uid.unwrap_or(owner.uid), gid.unwrap_or(owner.gid))
    }
}
