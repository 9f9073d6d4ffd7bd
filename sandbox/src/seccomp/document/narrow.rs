//! Groups of the base of which a profile keeps less.

use std::collections::HashSet;

use serde::Deserialize;

use super::groups::Reader;
use crate::seccomp::profile::{Call, Group, GroupAction};
use crate::seccomp::{Action, Also, Narrowed, ProfileError, hard_deny};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FileNarrow {
    group: String,
    why: String,
    keep: Vec<String>,
    #[serde(default)]
    also: Vec<FileAlso>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileAlso {
    needed_by: String,
    calls: Vec<String>,
}

impl Reader<'_> {
    /// Takes from the groups what the file does not keep of them. Only a group that allows can be
    /// narrowed: less of a group that refuses or kills would be more for the plugin.
    pub(super) fn narrow(
        &self,
        groups: &mut [Group],
        own: &HashSet<String>,
        narrows: &[FileNarrow],
    ) -> Result<Vec<Narrowed>, ProfileError> {
        let mut seen = HashSet::new();
        narrows
            .iter()
            .map(|narrow| {
                let fault = |problem| ProfileError::Narrow {
                    profile: self.profile.to_owned(),
                    group: narrow.group.clone(),
                    problem,
                };
                if !seen.insert(&narrow.group) {
                    return Err(fault("it is narrowed twice"));
                }
                if own.contains(&narrow.group) {
                    return Err(fault("it is this profile's own: leave the calls out of it"));
                }
                let group = groups
                    .iter_mut()
                    .find(|group| group.name == narrow.group)
                    .ok_or_else(|| ProfileError::UnknownGroup {
                        profile: self.profile.to_owned(),
                        group: narrow.group.clone(),
                    })?;
                if group.action != GroupAction::Fixed(Action::Allow) {
                    return Err(fault("only a group that allows can be narrowed"));
                }
                if narrow.why.trim().is_empty() {
                    return Err(fault("`why` is empty"));
                }
                self.narrow_one(group, narrow)
            })
            .collect()
    }

    fn narrow_one(&self, group: &mut Group, narrow: &FileNarrow) -> Result<Narrowed, ProfileError> {
        let fault = |problem| ProfileError::Narrow {
            profile: self.profile.to_owned(),
            group: narrow.group.clone(),
            problem,
        };
        let mut kept = HashSet::new();
        for also in &narrow.also {
            if also.needed_by.trim().is_empty() {
                return Err(fault("`needed-by` is empty"));
            }
            if also.calls.is_empty() {
                return Err(fault("`also` without calls"));
            }
        }
        for call in narrow
            .keep
            .iter()
            .chain(narrow.also.iter().flat_map(|also| &also.calls))
        {
            if !group.calls.iter().any(|known| known.name == *call) {
                return Err(ProfileError::NotInGroup {
                    profile: self.profile.to_owned(),
                    group: narrow.group.clone(),
                    call: call.clone(),
                    nearest: pinfold_policy::nearest(
                        call,
                        group.calls.iter().map(|known| known.name.as_str()),
                    )
                    .map(str::to_owned),
                });
            }
            if !kept.insert(call.as_str()) {
                return Err(fault("a call is kept twice"));
            }
        }
        // A call that the group refuses is no less refused by what its neighbours are.
        let keeps = |group: &Group, call: &Call| {
            kept.contains(call.name.as_str()) || hard_deny::allowing_rules(group, call).is_empty()
        };
        let (calls, dropped): (Vec<_>, Vec<_>) = std::mem::take(&mut group.calls)
            .into_iter()
            .partition(|call| keeps(group, call));
        // Where everything is kept, it may still be said for what.
        if dropped.is_empty() && narrow.also.is_empty() {
            return Err(fault("nothing is left out: include it as it is"));
        }
        group.calls = calls;
        Ok(Narrowed {
            group: group.name.clone(),
            why: narrow.why.clone(),
            dropped: dropped.into_iter().map(|call| call.name).collect(),
            also: narrow.also.iter().map(FileAlso::checked).collect(),
        })
    }
}

impl FileAlso {
    fn checked(&self) -> Also {
        Also {
            needed_by: self.needed_by.clone(),
            calls: self.calls.clone(),
        }
    }
}
