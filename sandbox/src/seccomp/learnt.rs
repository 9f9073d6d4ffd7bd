//! A profile from what was seen: of the profile that a run was under the calls that it made, and beside
//! them what every run of such a program may need (`profiles/floor.toml`), each with its reason.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::{Table, Value};

use super::profile::{Group, GroupAction};
use super::{Action, Arch, Profile, ProfileError, hard_deny};

/// A proposed profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// Its file.
    pub text: String,
    /// It, read from there.
    pub profile: Profile,
    /// Calls that were made.
    pub made: Vec<String>,
    /// Calls that are kept although they were not made, by the reason.
    pub kept: Vec<(String, Vec<String>)>,
    /// Calls that the profile of the run allows and this one does not.
    pub left_out: Vec<String>,
}

/// What is kept for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Floor {
    /// The shipped profiles whose programs may need it.
    pub profiles: Vec<String>,
    /// What needs it.
    pub needed_by: String,
    /// The calls.
    pub calls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Floors {
    floor: Vec<Floor>,
}

/// What learnt profiles keep in any case, in the order of the file.
///
/// # Panics
/// Never: the file is compiled in, and a test reads it.
#[must_use]
pub fn floor() -> Vec<Floor> {
    let floors: Floors = toml::from_str(include_str!("../../profiles/floor.toml"))
        .expect("the compiled-in floor is what it should be");
    floors.floor
}

/// What was learnt, and from what.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// The profile under which it ran.
    pub profile: &'a Profile,
    /// The text of that profile, where it is no shipped one.
    pub own: Option<&'a str>,
    /// What the new one is to be called.
    pub name: &'a str,
    /// Whose calls they are, for the reasons in it.
    pub of: &'a str,
    /// The names of the calls that were allowed and made.
    pub made: &'a BTreeSet<String>,
    /// The architecture whose calls they are.
    pub arch: Arch,
}

impl Lesson<'_> {
    /// The smallest profile that allows what was made, and the floor.
    ///
    /// # Errors
    /// [`ProfileError`] where the name is that of a shipped profile's, or the profile of the run has a
    /// shape of which nothing can be left out.
    pub fn propose(&self) -> Result<Learnt, ProfileError> {
        let own: Table = match self.own {
            Some(text) => toml::from_str(text).map_err(|source| ProfileError::Syntax {
                profile: self.profile.name().to_owned(),
                source: Box::new(source),
            })?,
            None => Table::new(),
        };
        let base = match self.own {
            None => Some(self.profile.name().to_owned()),
            Some(_) => own
                .get("use")
                .and_then(|used| used.get("base")?.as_str())
                .map(str::to_owned),
        };
        let keep = Keep::new(self, base.as_deref());
        let shipped = base.as_deref().map(Profile::builtin).transpose()?;
        let mut text = format!(
            "# Learnt from a watched run of {}: what it made, and what is kept beside that, each with what\n\
             # needs it. What the run did not exercise is not here.\n\n\
             schema  = 1\nname    = {}\narch    = [\"{}\"]\ndefault = {}\n",
            self.of,
            quoted(self.name),
            self.arch,
            quoted(self.profile.default_action().as_str()),
        );
        let own_groups = own_groups(&own, &keep);
        let mut included = Vec::new();
        let mut enabled = Vec::new();
        for group in self.profile.groups() {
            if own_names(&own).any(|name| name == group.name()) {
                if own_groups.iter().any(|own| name_of(own) == group.name()) {
                    included.push(group.name());
                }
                continue;
            }
            included.push(group.name());
            match group.action() {
                GroupAction::Fixed(Action::Allow) => {
                    let whole = shipped.as_ref().and_then(|base| {
                        base.groups().iter().find(|one| one.name() == group.name())
                    });
                    text.push_str(&narrow(group, whole.unwrap_or(group), &keep, self.of));
                }
                GroupAction::Optional { enabled: true, .. }
                    if group.calls().iter().any(|call| keep.has(call.name())) =>
                {
                    enabled.push(group.name());
                }
                GroupAction::Optional { .. } | GroupAction::Fixed(_) => {}
            }
        }
        if !own_groups.is_empty() {
            let groups = Value::Array(own_groups);
            let table: Table = [("group".to_owned(), groups)].into_iter().collect();
            text.push('\n');
            text.push_str(&table.to_string());
        }
        text.push_str("\n[use]\n");
        if let Some(base) = &base {
            text.push_str(&format!("base    = {}\n", quoted(base)));
        }
        text.push_str(&format!("include = {}\n", list(&included)));
        if !enabled.is_empty() {
            text.push_str(&format!("enable  = {}\n", list(&enabled)));
        }
        let profile = Profile::parse(&text, self.name)?;
        let now = allowed(&profile);
        let before = allowed(self.profile);
        Ok(Learnt {
            text,
            made: before.intersection(self.made).cloned().collect(),
            kept: keep.reasons(&now),
            left_out: before.difference(&now).cloned().collect(),
            profile,
        })
    }
}

/// What is to stay.
struct Keep<'a> {
    made: &'a BTreeSet<String>,
    floor: Vec<Floor>,
}

impl<'a> Keep<'a> {
    fn new(lesson: &Lesson<'a>, base: Option<&str>) -> Self {
        // Of a program of which nothing is known, what any may need.
        let runtime = base.unwrap_or("default");
        let mut floor = floor();
        floor.retain(|one| one.profiles.iter().any(|profile| profile == runtime));
        Self {
            made: lesson.made,
            floor,
        }
    }

    fn has(&self, call: &str) -> bool {
        self.made.contains(call)
            || self
                .floor
                .iter()
                .any(|one| one.calls.iter().any(|c| c == call))
    }

    /// What of the floor is among these calls and was not made, by the reason.
    fn reasons(&self, among: &BTreeSet<String>) -> Vec<(String, Vec<String>)> {
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        let mut named = BTreeSet::new();
        for one in &self.floor {
            let calls: Vec<String> = one
                .calls
                .iter()
                .filter(|call| among.contains(*call) && !self.made.contains(*call))
                .filter(|call| named.insert((*call).clone()))
                .cloned()
                .collect();
            if !calls.is_empty() {
                reasons.push((one.needed_by.clone(), calls));
            }
        }
        reasons
    }
}

/// Calls that a profile allows, be it under conditions.
fn allowed(profile: &Profile) -> BTreeSet<String> {
    let calls = profile.groups().iter().flat_map(|group| {
        let is_off = matches!(group.action(), GroupAction::Optional { enabled: false, .. });
        let calls = group.calls().iter().filter(move |_| !is_off);
        calls.filter(|call| !hard_deny::allowing_rules(group, call).is_empty())
    });
    calls.map(|call| call.name().to_owned()).collect()
}

/// What of a group of the base is kept; nothing where that is all of it. `group` is the profile's, `whole`
/// the base's.
fn narrow(group: &Group, whole: &Group, keep: &Keep<'_>, of: &str) -> String {
    let allowing = |group: &Group| -> BTreeSet<String> {
        let calls = group.calls().iter();
        let calls = calls.filter(|call| !hard_deny::allowing_rules(group, call).is_empty());
        calls.map(|call| call.name().to_owned()).collect()
    };
    let there: BTreeSet<String> = allowing(group);
    let made: Vec<&str> = there
        .iter()
        .filter(|call| keep.made.contains(*call))
        .map(String::as_str)
        .collect();
    let reasons = keep.reasons(&there);
    let kept: usize = reasons.iter().map(|(_, calls)| calls.len()).sum();
    if made.len() + kept == allowing(whole).len() {
        return String::new();
    }
    let why = match made.is_empty() {
        true => format!("Nothing of it was made in a watched run of {of}."),
        false => format!("Made in a watched run of {of}."),
    };
    let mut text = format!(
        "\n[[narrow]]\ngroup = {}\nwhy   = {}\nkeep  = {}\n",
        quoted(group.name()),
        quoted(&why),
        list(&made)
    );
    for (needed_by, calls) in &reasons {
        let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
        text.push_str(&format!(
            "  [[narrow.also]]\n  needed-by = {}\n  calls     = {}\n",
            quoted(needed_by),
            list(&calls)
        ));
    }
    text
}

fn own_names(own: &Table) -> impl Iterator<Item = &str> {
    let groups = own.get("group").and_then(Value::as_array);
    groups.into_iter().flatten().map(name_of)
}

fn name_of(group: &Value) -> &str {
    group
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The groups of a profile's own, without the calls that were not made where they are allowed for it;
/// those that refuse stay as they are.
fn own_groups(own: &Table, keep: &Keep<'_>) -> Vec<Value> {
    let groups = own.get("group").and_then(Value::as_array);
    let groups = groups.into_iter().flatten().filter_map(|group| {
        let mut group = group.as_table()?.clone();
        if group.get("action").and_then(Value::as_str) == Some(Action::Allow.as_str()) {
            let keeps = |call: &Value| call.as_str().is_none_or(|call| keep.has(call));
            if let Some(Value::Array(calls)) = group.get_mut("calls") {
                calls.retain(keeps);
            }
            if let Some(Value::Array(calls)) = group.get_mut("call") {
                calls.retain(|call| call.get("name").is_none_or(keeps));
            }
        }
        let is_empty = |key: &str| {
            let calls = group.get(key).and_then(Value::as_array);
            calls.is_none_or(Vec::is_empty)
        };
        let is_left = !is_empty("calls") || !is_empty("call");
        is_left.then_some(Value::Table(group))
    });
    groups.collect()
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// Names as an array, broken into lines that a page takes.
fn list(names: &[&str]) -> String {
    const LINE: usize = 90;
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let one = format!("[{}]", names.join(", "));
    if one.len() <= LINE {
        return one;
    }
    let mut text = String::from("[");
    let mut length = LINE;
    for name in names {
        if length + name.len() + 2 > LINE {
            text.push_str("\n   ");
            length = 3;
        }
        text.push_str(&format!(" {name},"));
        length += name.len() + 2;
    }
    text.push_str("\n]");
    text
}

#[cfg(test)]
#[path = "learnt/tests.rs"]
mod tests;
