//! From the file's groups to checked ones.

use std::collections::{HashMap, HashSet};

use super::condition::FileCondition;
use super::{FileCall, FileGroup, Use};
use crate::seccomp::profile::{Call, Condition, Decision, Group, GroupAction, Profile, Rule};
use crate::seccomp::{Action, Arch, ProfileError, hard_deny, syscalls};

/// Turns the file's words into checked values; knows the profile's name for the errors.
pub(super) struct Reader<'a> {
    pub(super) profile: &'a str,
}

impl Reader<'_> {
    fn profile(&self) -> String {
        self.profile.to_owned()
    }

    pub(super) fn arches(&self, names: &[String]) -> Result<Vec<Arch>, ProfileError> {
        if names.is_empty() {
            return Err(ProfileError::NoArch {
                profile: self.profile(),
            });
        }
        names
            .iter()
            .map(|name| {
                Arch::from_text(name).ok_or_else(|| ProfileError::UnknownArch {
                    profile: self.profile(),
                    arch: name.clone(),
                })
            })
            .collect()
    }

    pub(super) fn action(&self, group: &str, text: &str) -> Result<Action, ProfileError> {
        Action::from_text(text).ok_or_else(|| ProfileError::UnknownAction {
            profile: self.profile(),
            group: group.to_owned(),
            action: text.to_owned(),
        })
    }

    pub(super) fn groups(
        &self,
        groups: &[FileGroup],
        arches: &[Arch],
    ) -> Result<Vec<Group>, ProfileError> {
        let mut names = HashSet::new();
        groups
            .iter()
            .map(|group| {
                if !is_group_name(&group.name) {
                    return Err(ProfileError::GroupName {
                        profile: self.profile(),
                        group: group.name.clone(),
                    });
                }
                if !names.insert(&group.name) {
                    return Err(ProfileError::DuplicateGroup {
                        profile: self.profile(),
                        group: group.name.clone(),
                    });
                }
                self.group(group, arches)
            })
            .collect()
    }

    fn group(&self, group: &FileGroup, arches: &[Arch]) -> Result<Group, ProfileError> {
        let named = || (self.profile(), group.name.clone());
        if group.why.trim().is_empty() {
            let (profile, group) = named();
            return Err(ProfileError::NoReason { profile, group });
        }
        if group.calls.is_empty() && group.call.is_empty() {
            let (profile, group) = named();
            return Err(ProfileError::EmptyGroup { profile, group });
        }
        let action = self.group_action(group)?;
        let plain = group.calls.iter().map(|name| {
            self.refuse_unknown(&group.name, name, arches)?;
            Ok(Call {
                name: name.clone(),
                why: None,
                decision: Decision::Group,
            })
        });
        let own = group.call.iter().map(|call| {
            self.refuse_unknown(&group.name, &call.name, arches)?;
            let decision = self.decision(group, action, call)?;
            Ok(Call {
                name: call.name.clone(),
                why: call.why.clone(),
                decision,
            })
        });
        let calls = plain.chain(own).collect::<Result<_, ProfileError>>()?;
        Ok(Group {
            name: group.name.clone(),
            why: group.why.clone(),
            action,
            risk: group.i_accept_the_risk.clone(),
            calls,
        })
    }

    fn group_action(&self, group: &FileGroup) -> Result<GroupAction, ProfileError> {
        let fault = |problem| ProfileError::Optional {
            profile: self.profile(),
            group: group.name.clone(),
            problem,
        };
        match (group.action.as_str(), &group.off, &group.on) {
            ("off", Some(off), Some(on)) => {
                let off = self.action(&group.name, off)?;
                if off == Action::Allow {
                    return Err(fault("`off` must not be `allow`"));
                }
                let on = self.action(&group.name, on)?;
                Ok(GroupAction::Optional {
                    off,
                    on,
                    enabled: false,
                })
            }
            ("off", _, _) => Err(fault("an optional group needs `off` and `on`")),
            (action, None, None) => Ok(GroupAction::Fixed(self.action(&group.name, action)?)),
            _ => Err(fault(
                "`off` and `on` belong to groups whose action is `off`",
            )),
        }
    }

    fn refuse_unknown(&self, group: &str, call: &str, arches: &[Arch]) -> Result<(), ProfileError> {
        if arches
            .iter()
            .any(|arch| syscalls::number(*arch, call).is_some())
        {
            return Ok(());
        }
        Err(ProfileError::UnknownCall {
            profile: self.profile(),
            group: group.to_owned(),
            call: call.to_owned(),
            nearest: pinfold_policy::nearest(call, syscalls::names()),
        })
    }

    fn decision(
        &self,
        group: &FileGroup,
        group_action: GroupAction,
        call: &FileCall,
    ) -> Result<Decision, ProfileError> {
        let fault = |problem| ProfileError::CallShape {
            profile: self.profile(),
            group: group.name.clone(),
            call: call.name.clone(),
            problem,
        };
        let conditions = |when: &[FileCondition]| {
            when.iter()
                .map(|condition| self.condition(&group.name, &call.name, condition))
                .collect::<Result<Vec<_>, _>>()
        };
        let rules = match (&call.action, &call.when, &call.rule, &call.r#else) {
            (Some(action), None, None, None) => {
                return Ok(Decision::Fixed(self.action(&group.name, action)?));
            }
            (Some(_), ..) => return Err(fault("`action` excludes `when`, `rule` and `else`")),
            (None, None, None, _) => return Err(fault("needs `action`, `when` or `rule`")),
            (None, Some(_), Some(_), _) => return Err(fault("`when` excludes `rule`")),
            (None, _, _, None) => return Err(fault("needs `else`")),
            (None, Some(when), None, Some(_)) => {
                let (GroupAction::Fixed(action) | GroupAction::Optional { on: action, .. }) =
                    group_action;
                vec![Rule {
                    when: conditions(when)?,
                    action,
                }]
            }
            (None, None, Some(rules), Some(_)) => rules
                .iter()
                .map(|rule| {
                    let action = self.action(&group.name, &rule.action)?;
                    Ok(Rule {
                        when: conditions(&rule.when)?,
                        action,
                    })
                })
                .collect::<Result<_, ProfileError>>()?,
        };
        if rules.is_empty() || rules.iter().any(|rule| rule.when.is_empty()) {
            return Err(fault("a rule without a condition decides nothing"));
        }
        let otherwise = call
            .r#else
            .as_deref()
            .expect("the match above refuses rules without it");
        Ok(Decision::Rules {
            rules,
            otherwise: self.action(&group.name, otherwise)?,
        })
    }

    fn condition(
        &self,
        group: &str,
        call: &str,
        source: &FileCondition,
    ) -> Result<Condition, ProfileError> {
        source.check().map_err(|fault| ProfileError::Condition {
            profile: self.profile(),
            group: group.to_owned(),
            call: call.to_owned(),
            arg: source.arg,
            fault,
        })
    }

    pub(super) fn refuse_hard_denied(&self, group: &Group) -> Result<(), ProfileError> {
        match group
            .calls
            .iter()
            .find_map(|call| Some((call, hard_deny::reason(group, call)?)))
        {
            None => Ok(()),
            Some((call, reason)) => Err(ProfileError::HardDenied {
                profile: self.profile(),
                group: group.name.clone(),
                call: call.name.clone(),
                reason,
            }),
        }
    }

    /// The groups that `use.include` names, in the order in which they are defined.
    pub(super) fn used(
        &self,
        own: Vec<Group>,
        base: Option<&Profile>,
        r#use: &Use,
    ) -> Result<Vec<Group>, ProfileError> {
        for list in [&r#use.include, &r#use.enable] {
            let mut seen = HashSet::new();
            if let Some(group) = list.iter().find(|group| !seen.insert(*group)) {
                return Err(ProfileError::UsedTwice {
                    profile: self.profile(),
                    group: group.clone(),
                });
            }
        }
        let included: HashSet<&str> = r#use.include.iter().map(String::as_str).collect();
        if let Some(group) = own
            .iter()
            .find(|group| !included.contains(group.name.as_str()))
        {
            return Err(ProfileError::UnusedGroup {
                profile: self.profile(),
                group: group.name.clone(),
            });
        }
        let own_names: HashSet<String> = own.iter().map(|group| group.name.clone()).collect();
        let inherited = base
            .into_iter()
            .flat_map(|base| &base.groups)
            .filter(|group| included.contains(group.name.as_str()))
            .filter(|group| !own_names.contains(&group.name))
            .cloned();
        let used: Vec<Group> = inherited.chain(own).collect();
        let defined: HashSet<&str> = used.iter().map(|group| group.name.as_str()).collect();
        match r#use
            .include
            .iter()
            .find(|group| !defined.contains(group.as_str()))
        {
            None => Ok(used),
            Some(group) => Err(ProfileError::UnknownGroup {
                profile: self.profile(),
                group: group.clone(),
            }),
        }
    }

    pub(super) fn refuse_double_mentions(&self, groups: &[Group]) -> Result<(), ProfileError> {
        let mut first = HashMap::new();
        for group in groups {
            for call in &group.calls {
                if let Some(earlier) = first.insert(call.name.as_str(), group.name.as_str()) {
                    return Err(ProfileError::MentionedTwice {
                        profile: self.profile(),
                        call: call.name.clone(),
                        first: earlier.to_owned(),
                        second: group.name.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn is_group_name(name: &str) -> bool {
    name.strip_prefix('@').is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    })
}
