//! Extra mounts of a plugin: directories and files of the host that it is shown.

use serde::{Deserialize, Serialize};

use crate::Runtime;
use crate::host_path::{of_host_fault, overlap, path_fault};

/// A directory or file of the host, and where a plugin finds it. It belongs to the host; nothing of it
/// is covered by the plugin's digest or signature, and none of it can be executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the host, without symbolic links.
    pub source: String,
    /// Absolute path in the jail, at most eight names deep.
    pub target: String,
    /// Whether the plugin may write there, as far as its user id may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rw: bool,
}

/// Most mounts of one policy: a reviewer reads each, and each is a mount of every launch.
pub const MOUNTS_LIMIT: usize = 16;

/// Most names of [`Mount::target`]: the directories on the way take of the few inodes of a jail's root.
const TARGET_DEPTH: usize = 8;

/// Places that a jail has of its own, has while it is made, or lacks on purpose.
const RESERVED: [&str; 10] = [
    "/plugin", "/run", "/proc", "/dev", "/etc", "/tmp", "/state", "/app", "/sys", "/.masks",
];

/// What is wrong with one: its number, key, value, and why.
pub(crate) type MountFault = (usize, &'static str, String, &'static str);

impl Mount {
    /// What it says, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let how = if self.rw {
            "read and WRITTEN"
        } else {
            "read-only"
        };
        format!(
            "mount: {} of the host at {}, {how}",
            self.source, self.target
        )
    }

    fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(why) = of_host_fault(&self.source) {
            return Some(("mounts.source", format!("{:?}", self.source), why));
        }
        let target = |why| Some(("mounts.target", format!("{:?}", self.target), why));
        if let Some(why) = path_fault(&self.target) {
            return target(why);
        }
        if self.target.split('/').skip(1).count() > TARGET_DEPTH {
            return target("at most 8 names");
        }
        if RESERVED.iter().any(|place| overlap(&self.target, place)) {
            return target("that place of the jail is no mount's");
        }
        None
    }
}

/// What is wrong with the mounts of one policy, of each the first thing.
pub(crate) fn faults(mounts: &[Mount], runtime: Option<&Runtime>) -> Vec<MountFault> {
    if mounts.len() > MOUNTS_LIMIT {
        let long = format!("{} long", mounts.len());
        return vec![(MOUNTS_LIMIT, "mounts", long, "at most 16")];
    }
    let mut faults = Vec::new();
    for (number, mount) in mounts.iter().enumerate() {
        let before = || mounts.iter().take(number);
        let of_runtime = |place: &str| {
            let mut paths = runtime.into_iter().flat_map(Runtime::mounts);
            paths.any(|path| overlap(path, place))
        };
        let fault = if let Some(fault) = mount.fault() {
            Some(fault)
        } else if before().any(|other| other.source == mount.source) {
            let why = "another of the mounts has that source";
            Some(("mounts.source", format!("{:?}", mount.source), why))
        } else if before().any(|other| overlap(&other.target, &mount.target)) {
            let why = "another of the mounts is there, in it or around it";
            Some(("mounts.target", format!("{:?}", mount.target), why))
        } else if of_runtime(&mount.target) {
            let why = "a path of the runtime is there, in it or around it";
            Some(("mounts.target", format!("{:?}", mount.target), why))
        } else if mount.rw && of_runtime(&mount.source) {
            let why = "what is written there would be executed as a part of the runtime";
            Some(("mounts.source", format!("{:?}", mount.source), why))
        } else {
            None
        };
        faults.extend(fault.map(|(key, value, why)| (number, key, value, why)));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> Mount {
        Mount {
            source: source.to_owned(),
            target: target.to_owned(),
            rw: false,
        }
    }

    fn first(mounts: &[Mount]) -> Option<(&'static str, &'static str)> {
        let runtime = Runtime {
            interpreter: Some("/opt/py/bin/python".into()),
            paths: vec!["/opt/py".into()],
            ..Runtime::default()
        };
        let faults = faults(mounts, Some(&runtime));
        faults.first().map(|(_, key, _, why)| (*key, *why))
    }

    #[test]
    fn what_is_in_no_jail_or_in_the_way_is_refused_by_key_and_reason() {
        for (source, target, key, why) in [
            ("/", "/data", "mounts.source", "absolute"),
            ("srv", "/data", "mounts.source", "absolute"),
            ("/srv/../etc", "/data", "mounts.source", "absolute"),
            ("/etc/ssl", "/data", "mounts.source", "any jail"),
            ("/proc", "/data", "mounts.source", "any jail"),
            ("/dev/sda", "/data", "mounts.source", "any jail"),
            ("/srv/x", "/", "mounts.target", "absolute"),
            ("/srv/x", "data", "mounts.target", "absolute"),
            ("/srv/x", "/a/b/c/d/e/f/g/h/i", "mounts.target", "8 names"),
            ("/srv/x", "/plugin/x", "mounts.target", "no mount's"),
            ("/srv/x", "/run", "mounts.target", "no mount's"),
            ("/srv/x", "/tmp/x", "mounts.target", "no mount's"),
            ("/srv/x", "/sys", "mounts.target", "no mount's"),
            ("/srv/x", "/.masks", "mounts.target", "no mount's"),
            ("/srv/x", "/opt", "mounts.target", "runtime"),
            ("/srv/x", "/opt/py/lib", "mounts.target", "runtime"),
        ] {
            let (found, reason) = first(&[mount(source, target)]).expect(target);
            assert!(
                found == key && reason.contains(why),
                "{source} {target}: {found}: {reason}"
            );
        }
        for source in ["/opt/py/cache", "/opt/py", "/opt"] {
            let shown = mount(source, "/data");
            let written = Mount {
                rw: true,
                ..shown.clone()
            };
            assert_eq!(first(&[shown]), None);
            let (key, reason) = first(&[written]).expect(source);
            assert!(key == "mounts.source" && reason.contains("executed"));
        }
        assert_eq!(first(&[mount("/etcetera", "/pluginx")]), None);
        assert_eq!(first(&[mount("/srv/x", "/a/b/c/d/e/f/g/h")]), None);
    }

    #[test]
    fn two_at_one_place_and_too_many_are_refused() {
        let two = |source, target| first(&[mount("/srv/x", "/data/x"), mount(source, target)]);
        for (source, target, why) in [
            ("/srv/x", "/other", "that source"),
            ("/srv/y", "/data/x", "is there"),
            ("/srv/y", "/data", "is there"),
            ("/srv/y", "/data/x/y", "is there"),
        ] {
            let (_, reason) = two(source, target).expect(target);
            assert!(reason.contains(why), "{source} {target}: {reason}");
        }
        assert_eq!(two("/srv", "/data/y"), None);
        let many: Vec<Mount> = (0..17)
            .map(|number| mount(&format!("/srv/{number}"), &format!("/data/{number}")))
            .collect();
        assert_eq!(first(&many), Some(("mounts", "at most 16")));
        assert_eq!(first(&many[..16]), None);
    }
}
