//! The profile file: its shape, and every check on the way to a [`Profile`].

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::constants;
use super::error::{ConditionFault, ProfileError};
use super::profile::{Call, Condition, Decision, Group, GroupAction, Profile, Rule, Width};
use super::{Action, Arch, hard_deny, syscalls};

/// A profile is a page that people read; the shipped one has 13 KiB.
const MAX_BYTES: usize = 64 * 1024;
/// Values of one argument test: each costs up to four instructions, and jumps reach 255.
const MAX_VALUES: usize = 32;
/// The format version.
const SCHEMA: u32 = 1;

/// Reads, checks and resolves a profile: [`Profile::parse`].
pub(super) fn read(text: &str, name: &str) -> Result<Profile, ProfileError> {
    let profile = || name.to_owned();
    if text.len() > MAX_BYTES {
        return Err(ProfileError::TooLong {
            profile: profile(),
            bytes: text.len(),
            limit: MAX_BYTES,
        });
    }
    let file: File = toml::from_str(text).map_err(|source| ProfileError::Syntax {
        profile: profile(),
        source: Box::new(source),
    })?;
    if file.schema != SCHEMA {
        return Err(ProfileError::Schema {
            profile: profile(),
            schema: file.schema,
        });
    }
    if file.name != name {
        return Err(ProfileError::Name {
            profile: profile(),
            found: file.name,
        });
    }
    let reader = Reader { profile: name };
    let arches = reader.arches(&file.arch)?;
    let default = reader.action("default", &file.default)?;
    if default == Action::Allow {
        return Err(ProfileError::OpenDefault { profile: profile() });
    }
    let base = match &file.r#use.base {
        // A profile cannot build on itself: the shipped ones are the only bases.
        Some(base) if base != name => Some(Profile::builtin(base)?),
        Some(base) => {
            return Err(ProfileError::NotShipped {
                profile: base.clone(),
            });
        }
        None => None,
    };
    let own = reader.groups(&file.group, &arches)?;
    let risky = Risky::outside_of(name)?;
    for (group, source) in own.iter().zip(&file.group) {
        reader.refuse_hard_denied(group)?;
        risky.refuse_unaccepted(name, group, source)?;
    }
    let groups = reader.used(own, base.as_ref(), &file.r#use)?;
    reader.refuse_double_mentions(&groups)?;
    let mut checked = Profile {
        name: profile(),
        arches,
        default,
        groups,
        source_digest: source_digest(text, base.as_ref()),
    };
    for group in &file.r#use.enable {
        checked.enable(group)?;
    }
    Ok(checked)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    schema: u32,
    name: String,
    arch: Vec<String>,
    default: String,
    group: Vec<FileGroup>,
    r#use: Use,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Use {
    base: Option<String>,
    include: Vec<String>,
    #[serde(default)]
    enable: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileGroup {
    name: String,
    why: String,
    action: String,
    off: Option<String>,
    on: Option<String>,
    i_accept_the_risk: Option<String>,
    #[serde(default)]
    calls: Vec<String>,
    #[serde(default)]
    call: Vec<FileCall>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileCall {
    name: String,
    why: Option<String>,
    action: Option<String>,
    when: Option<Vec<FileCondition>>,
    rule: Option<Vec<FileRule>>,
    r#else: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileRule {
    when: Vec<FileCondition>,
    action: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileCondition {
    arg: u8,
    width: u8,
    mask: Option<Value>,
    equals: Option<Value>,
    r#in: Option<Vec<Value>>,
}

/// A number, or names of constants joined by `|`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(i64),
    Names(String),
}

/// Turns the file's words into checked values; knows the profile's name for the errors.
struct Reader<'a> {
    profile: &'a str,
}

impl Reader<'_> {
    fn profile(&self) -> String {
        self.profile.to_owned()
    }

    fn arches(&self, names: &[String]) -> Result<Vec<Arch>, ProfileError> {
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

    fn action(&self, group: &str, text: &str) -> Result<Action, ProfileError> {
        Action::from_text(text).ok_or_else(|| ProfileError::UnknownAction {
            profile: self.profile(),
            group: group.to_owned(),
            action: text.to_owned(),
        })
    }

    fn groups(&self, groups: &[FileGroup], arches: &[Arch]) -> Result<Vec<Group>, ProfileError> {
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
        condition(source).map_err(|fault| ProfileError::Condition {
            profile: self.profile(),
            group: group.to_owned(),
            call: call.to_owned(),
            arg: source.arg,
            fault,
        })
    }

    fn refuse_hard_denied(&self, group: &Group) -> Result<(), ProfileError> {
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
    fn used(
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

    fn refuse_double_mentions(&self, groups: &[Group]) -> Result<(), ProfileError> {
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

/// What the default profile refuses, and another profile may therefore allow only with a reason.
struct Risky {
    calls: HashSet<String>,
}

impl Risky {
    /// The group of the default profile whose calls need `i-accept-the-risk`.
    const GROUP: &'static str = "@refused";
    const PROFILE: &'static str = "default";

    fn outside_of(name: &str) -> Result<Self, ProfileError> {
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

    fn refuse_unaccepted(
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

fn is_group_name(name: &str) -> bool {
    name.strip_prefix('@').is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    })
}

fn condition(source: &FileCondition) -> Result<Condition, ConditionFault> {
    if source.arg > 5 {
        return Err(ConditionFault::NoSuchArgument);
    }
    let width = match source.width {
        32 => Width::Low32,
        64 => Width::Full64,
        _ => return Err(ConditionFault::Width),
    };
    let fits = |value: u64| match value & !width.bits() {
        0 => Ok(value),
        _ => Err(ConditionFault::TooWide(value)),
    };
    let mask = match &source.mask {
        Some(mask) => fits(number(mask)?)?,
        None => width.bits(),
    };
    let values = match (&source.equals, &source.r#in) {
        (Some(value), None) => std::slice::from_ref(value),
        (None, Some(values)) if !values.is_empty() => values.as_slice(),
        _ => return Err(ConditionFault::Values),
    };
    if values.len() > MAX_VALUES {
        return Err(ConditionFault::TooManyValues {
            count: values.len(),
            limit: MAX_VALUES,
        });
    }
    let values = values
        .iter()
        .map(|value| {
            let value = fits(number(value)?)?;
            if value & !mask == 0 {
                Ok(value)
            } else {
                Err(ConditionFault::NeverTrue(value))
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Condition {
        arg: source.arg,
        width,
        mask,
        values,
    })
}

fn number(value: &Value) -> Result<u64, ConditionFault> {
    match value {
        Value::Number(number) => {
            u64::try_from(*number).map_err(|_| ConditionFault::Negative(*number))
        }
        Value::Names(names) => names.split('|').map(str::trim).try_fold(0, |bits, name| {
            let value = constants::value(name)
                .ok_or_else(|| ConditionFault::UnknownConstant(name.to_owned()))?;
            Ok(bits | value)
        }),
    }
}

fn source_digest(text: &str, base: Option<&Profile>) -> [u8; 32] {
    let own: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    match base {
        None => own,
        Some(base) => {
            let mut hash = Sha256::new();
            hash.update(b"pinfold-profile-base-1\0");
            hash.update(own);
            hash.update(base.digest());
            hash.finalize().into()
        }
    }
}
