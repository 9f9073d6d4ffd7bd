//! Calls that a profile may allow, but only knowingly.

use std::collections::HashSet;

use super::FileGroup;
use crate::seccomp::profile::{Group, Profile};
use crate::seccomp::{ProfileError, hard_deny};

/// What the default profile refuses, and another profile may therefore allow only with a reason.
pub(super) struct Risky {
    calls: HashSet<String>,
}

impl Risky {
    /// The group of the default profile whose calls need `i-accept-the-risk`.
    const GROUP: &'static str = "@refused";
    const PROFILE: &'static str = "default";

    pub(super) fn outside_of(name: &str) -> Result<Self, ProfileError> {
        let mut calls = HashSet::new();
        if name != Self::PROFILE {
            let default = Profile::builtin(Self::PROFILE)?;
            let refused = default
                .groups
                .into_iter()
                .filter(|group| group.name == Self::GROUP);
            calls.extend(refused.flat_map(|group| group.calls).map(|call| call.name));
        }
        Ok(Self { calls })
    }

    pub(super) fn refuse_unaccepted(
        &self,
        profile: &str,
        group: &Group,
        source: &FileGroup,
    ) -> Result<(), ProfileError> {
        let accepted = source
            .i_accept_the_risk
            .as_deref()
            .is_some_and(|why| !why.trim().is_empty());
        let risk = group
            .calls
            .iter()
            .filter(|call| self.calls.contains(&call.name))
            .find(|call| !hard_deny::allowing_rules(group, call).is_empty());
        match risk {
            Some(call) if !accepted => Err(ProfileError::RiskNotAccepted {
                profile: profile.to_owned(),
                group: group.name.clone(),
                call: call.name.clone(),
            }),
            _ => Ok(()),
        }
    }
}
