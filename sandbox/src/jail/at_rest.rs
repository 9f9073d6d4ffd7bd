//! What a running plugin really has, read through proc by whoever may: the same fields as are looked
//! at before a launch is answered, at rest.

use std::fs;

use super::error::JailError;
use super::look::{PRIVILEGES, PROCESSORS, Status};

/// One thing that was read of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub what: String,
    /// What it is.
    pub found: String,
    /// What it must be.
    pub planned: &'static str,
    /// Whether it is so; absent where this user may not read it.
    pub holds: Option<bool>,
}

impl Seen {
    fn of(what: &str, found: impl Into<String>, planned: &'static str, holds: bool) -> Self {
        Self {
            what: what.to_owned(),
            found: found.into(),
            planned,
            holds: Some(holds),
        }
    }
}

/// Namespaces that a plugin has of its own, whichever way the launcher works.
const NAMESPACES: [&str; 6] = ["pid", "mnt", "net", "ipc", "uts", "cgroup"];

/// Reads what the process with this number has: user and group, capabilities, no-new-privileges,
/// seccomp, depth of its PID namespaces, its namespaces beside this process's own, and limits. The
/// caller makes sure afterwards that the number was still that process's.
///
/// # Errors
/// [`JailError`] where there is no such process, or proc does not show it.
pub fn seen_at_rest(pid: u32) -> Result<Vec<Seen>, JailError> {
    let status = Status::read(&format!("/proc/{pid}/status"))?;
    let mut seen = Vec::new();
    for (field, what) in [("Uid", "user"), ("Gid", "group")] {
        let ids = status.field(field)?;
        let holds = ids.split(' ').all(|id| id != "0");
        seen.push(Seen::of(what, ids, "none of the four is 0", holds));
    }
    for (field, planned) in PRIVILEGES {
        let found = status.field(field)?;
        let holds = found == planned;
        seen.push(Seen::of(field, found, planned, holds));
    }
    let depth = status.field("NSpid")?.split(' ').count();
    let words = "2 or more";
    seen.push(Seen::of(
        "PID namespaces, depth",
        depth.to_string(),
        words,
        depth >= 2,
    ));
    for kind in NAMESPACES {
        seen.push(namespace(pid, kind));
    }
    seen.push(Seen {
        what: "processors".into(),
        found: status.field(PROCESSORS)?,
        planned: "those of limits.cpu-affinity, if it is set",
        // Which the policy names is not known here; before the launch was answered it was looked at.
        holds: None,
    });
    if let Ok(limits) = fs::read_to_string(format!("/proc/{pid}/limits")) {
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"));
        let found = line.map_or_else(Vec::new, |line| line.split_ascii_whitespace().collect());
        let holds = matches!(found.as_slice(), ["0", "0", ..] | ["1", "1", ..]);
        let found = found.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        seen.push(Seen::of("core dumps, bytes", found, "at most 1", holds));
    }
    Ok(seen)
}

/// Whether one of its namespaces is another than this process's. Only its owner and root may look.
fn namespace(pid: u32, kind: &str) -> Seen {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let (found, holds) = match (of(&pid.to_string()), of("self")) {
        (Ok(its), Ok(own)) => (its.display().to_string(), Some(its != own)),
        (Err(error), _) | (_, Err(error)) => (error.to_string(), None),
    };
    Seen {
        what: format!("{kind} namespace"),
        found,
        planned: "its own",
        holds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a process without a jail is what is looked at"
    )]
    fn a_process_without_a_jail_is_seen_as_that() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let seen = seen_at_rest(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = seen.unwrap();
        for kind in NAMESPACES {
            let what = format!("{kind} namespace");
            let one = seen.iter().find(|one| one.what == what).unwrap();
            assert_eq!(one.holds, Some(false), "{one:?}");
        }
        let seccomp = seen.iter().find(|one| one.what == "NoNewPrivs").unwrap();
        assert_eq!(seccomp.planned, "1");
        assert!(seen_at_rest(u32::MAX).is_err());
    }
}
