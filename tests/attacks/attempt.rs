//! An attempt as it stands in `attempts.txt`, and whether what was seen of it is what has to be.

use std::fmt;

use pinfold_tests::slowness;

use super::super::process::{kernel, version};

/// The table. Its first lines say what its columns are.
const TEXT: &str = include_str!("attempts.txt");

/// What is shown outside by being faster than somebody, or than a limit.
const IN_TIME: [&str; 4] = ["flood-stdout", "race-rename", "race-link", "race-rewrite"];

/// What a hostile plugin tries.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: &'static str,
    pub(super) tries: &'static str,
    pub(super) inside: Inside,
    pub(super) by: &'static str,
    pub(super) behind: &'static str,
    pub(super) outside: Outside,
}

/// Attempts about one thing, that are run in the same way.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) how: &'static str,
    pub(super) name: &'static str,
    pub(super) attempts: Vec<Attempt>,
}

/// What has to come of it in a jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// An answer that has this in it: the kernel's name of an error, or words of a refusal.
    Refused(&'static str),
    /// The filter ends the process that makes the call.
    Killed,
    /// The jail ends, of this: the call, or the limit.
    Ends(&'static str),
    /// It succeeds, and why nothing stops it yet.
    NotHeld(&'static str),
}

/// What has to come of it without a jail or a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// It succeeds.
    Done,
    /// The kernel's own code answers otherwise than the jail, for this reason.
    Answers(&'static str),
    /// It succeeds on a machine where this holds.
    Where(&'static str),
}

/// What came of an attempt: `ok` is success.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) inside: String,
    pub(super) outside: String,
}

/// The whole table.
pub(super) fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, line) in TEXT.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || format!("attempts.txt:{}: {line}", at + 1);
        if let Some(head) = line.strip_prefix("== ") {
            let (how, name) = head.split_once(": ").unwrap_or_else(|| panic!("{}", bad()));
            let attempts = Vec::new();
            groups.push(Group {
                how,
                name,
                attempts,
            });
            continue;
        }
        let columns: Vec<&str> = line.split(" | ").collect();
        let [id, tries, inside, by, behind, outside] = columns[..] else {
            panic!("six columns: {}", bad());
        };
        let group = groups.last_mut().unwrap_or_else(|| panic!("{}", bad()));
        group.attempts.push(Attempt {
            id,
            tries,
            inside: Inside::parse(inside),
            by,
            behind,
            outside: Outside::parse(outside).unwrap_or_else(|| panic!("{}", bad())),
        });
    }
    groups
}

impl Inside {
    fn parse(text: &'static str) -> Self {
        if text == "killed" {
            return Self::Killed;
        }
        if let Some(why) = text.strip_prefix("NOT HELD: ") {
            return Self::NotHeld(why);
        }
        match text.strip_prefix("ended: ") {
            Some(cause) => Self::Ends(cause),
            None => Self::Refused(text),
        }
    }

    /// Whether the process or the jail ends at it.
    pub(super) fn ends(self) -> bool {
        matches!(self, Self::Killed | Self::Ends(_))
    }

    fn is(self, seen: &str) -> bool {
        match self {
            Self::Refused(text) => seen != "ok" && seen.contains(text),
            Self::Killed => seen == "SIGSYS",
            // The launcher names the call last.
            Self::Ends(cause) => seen.ends_with(cause),
            Self::NotHeld(_) => seen == "ok",
        }
    }
}

impl Outside {
    fn parse(text: &'static str) -> Option<Self> {
        if text == "done" {
            return Some(Self::Done);
        }
        let answers = text.strip_prefix("answers: ").map(Self::Answers);
        answers.or_else(|| text.strip_prefix("where: ").map(Self::Where))
    }
}

impl Attempt {
    /// Whether nothing holds it on this kernel: what does came with a later one, and nothing is behind.
    pub(super) fn is_free(&self) -> bool {
        let since = self.by.split_once("(since Linux ");
        let since = since.and_then(|(_, text)| version(text));
        self.behind == "-" && since.is_some_and(|since| kernel().unwrap() < since)
    }

    /// What is wrong with what was seen, if anything is.
    pub(super) fn wrong(&self, seen: &Seen) -> Option<String> {
        let Seen { inside, outside } = seen;
        let id = self.id;
        if !self.inside.is(inside) {
            return Some(format!("{id} inside: {inside}; expected: {}", self.inside));
        }
        match self.outside {
            Outside::Done if outside != "ok" && !self.may_be_late() => {
                Some(format!("{id} outside: {outside}"))
            }
            Outside::Answers(why) if outside == inside => {
                Some(format!("{id}: {outside} on both sides, although {why}"))
            }
            _ => None,
        }
    }

    /// Why this machine cannot show that it succeeds outside, where it cannot.
    pub(super) fn not_shown(&self, seen: &Seen) -> Option<&'static str> {
        match self.outside {
            Outside::Where(what) if seen.outside != "ok" => Some(what),
            Outside::Answers(why) => Some(why),
            Outside::Done if seen.outside != "ok" => Some("the machine is fast enough"),
            _ => None,
        }
    }

    /// Whether it succeeds outside only in time that a slow machine may not have.
    fn may_be_late(&self) -> bool {
        slowness() > 1 && IN_TIME.contains(&self.id)
    }

    pub(super) fn is_held(&self) -> bool {
        !matches!(self.inside, Inside::NotHeld(_))
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) => f.write_str(text),
            Self::Killed => f.write_str("killed"),
            Self::Ends(cause) => write!(f, "jail ended: {cause}"),
            Self::NotHeld(why) => write!(f, "not held: {why}"),
        }
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Answers(why) => write!(f, "answered: {why}"),
            Self::Where(what) => write!(f, "done where {what}"),
        }
    }
}
