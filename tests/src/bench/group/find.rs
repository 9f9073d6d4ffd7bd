//! The hierarchies in which a group for a subject can be made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// One hierarchy, and the group of this process in it.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) kind: Kind,
    /// The group that new ones are made in.
    own: PathBuf,
    controllers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Version1 {
        /// Whether it has `cpuacct`.
        accounts: bool,
        /// Whether it has `memory`.
        memory: bool,
    },
    /// The unified tree, with controllers or without. It counts processor time in either case.
    Version2,
}

/// What the subjects are to have alike, or is counted.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

/// Each hierarchy with one of the controllers, and the unified tree; v1 first, as it counts finer
/// where both are there.
pub(super) fn hierarchies() -> anyhow::Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let groups = fs::read_to_string("/proc/self/cgroup").context("read the own groups")?;
    let mut found: Vec<Hierarchy> = mounts
        .lines()
        .filter_map(|line| hierarchy(line, &groups))
        .collect();
    found.sort_by_key(|one| one.kind == Kind::Version2);
    found.dedup_by(|one, other| one.own == other.own);
    Ok(found)
}

/// One line of mountinfo: proc_pid_mountinfo(5).
fn hierarchy(mount: &str, groups: &str) -> Option<Hierarchy> {
    let (before, after) = mount.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let version2 = match after.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let options = after.nth(1)?;
    let has = |name: &str| options.split(',').any(|option| option == name);
    let controllers: Vec<String> = if version2 {
        Vec::new()
    } else {
        CONTROLLERS
            .iter()
            .filter(|name| has(name))
            .map(|name| (*name).to_owned())
            .collect()
    };
    if !version2 && controllers.is_empty() {
        return None;
    }
    let group = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, group) = (fields.next()?, fields.next()?);
        let is_it = match controllers.first() {
            Some(first) => names.split(',').any(|name| name == first),
            None => names.is_empty(),
        };
        is_it.then_some(group)
    })?;
    let mut own = Path::new(point).join(Path::new(group).strip_prefix(root).ok()?);
    if own.file_name().is_some_and(|name| name == &*aside()) {
        own.pop();
    }
    let mut hierarchy = Hierarchy {
        kind: if version2 {
            Kind::Version2
        } else {
            Kind::Version1 {
                accounts: has("cpuacct"),
                memory: has("memory"),
            }
        },
        own,
        controllers,
    };
    if version2 {
        hierarchy.pass_on();
    }
    hierarchy.own.is_dir().then_some(hierarchy)
}

/// The group that this process steps aside into.
fn aside() -> String {
    format!("{}{}-aside", super::PREFIX, std::process::id())
}

impl Hierarchy {
    /// Asks for the controllers below the own group of the unified tree. A group that passes
    /// controllers on may hold no process, so that this one steps aside where it is alone there;
    /// what is refused is not counted.
    fn pass_on(&mut self) {
        let offered = fs::read_to_string(self.own.join("cgroup.controllers")).unwrap_or_default();
        let wanted: Vec<&str> = offered
            .split_whitespace()
            .filter(|name| CONTROLLERS.contains(name))
            .collect();
        let pass =
            |name: &str| fs::write(self.own.join("cgroup.subtree_control"), format!("+{name}"));
        let mut passed = Vec::new();
        for name in wanted {
            let result = match pass(name) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    let aside = self.own.join(aside());
                    fs::create_dir_all(&aside)
                        .and_then(|()| fs::write(aside.join("cgroup.procs"), "0"))
                        .and_then(|()| pass(name))
                }
                other => other,
            };
            if result.is_ok() {
                passed.push(name.to_owned());
            }
        }
        self.controllers = passed;
    }

    /// Makes a group, with the processors and memory nodes of the one above it.
    pub(super) fn make(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.own.join(name);
        let fail = || format!("make the control group {}", directory.display());
        fs::create_dir(&directory).with_context(fail)?;
        let is_v1 = self.kind != Kind::Version2;
        if is_v1 && self.controllers.iter().any(|one| one == "cpuset") {
            for name in ["cpuset.cpus", "cpuset.mems"] {
                let value = fs::read(self.own.join(name)).with_context(fail)?;
                fs::write(directory.join(name), value).with_context(fail)?;
            }
        }
        if !is_v1 {
            // A launcher takes a group for given to it by this mark, and moves what is in it aside.
            // Without it jails have no limits of the unified tree, which no subject needs.
            if let Ok(directory) = fs::File::open(&directory) {
                rustix::fs::fsetxattr(
                    &directory,
                    "user.delegate",
                    b"1",
                    rustix::fs::XattrFlags::empty(),
                )
                .unwrap_or_default();
            }
        }
        Ok(directory)
    }

    /// Where new groups are made.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    pub(super) fn describe(&self) -> String {
        let controllers = self.controllers.join("+");
        match self.kind {
            Kind::Version1 { .. } => format!("{controllers} (v1)"),
            Kind::Version2 if controllers.is_empty() => "unified tree without controllers".into(),
            Kind::Version2 => format!("{controllers} (v2)"),
        }
    }
}
